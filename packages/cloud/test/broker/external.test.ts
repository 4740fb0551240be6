import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import mqtt, { type MqttClient } from 'mqtt';
import { expect, test } from 'vitest';
import { startClickHouse } from '../../../../tests/support/clickhouse.ts';
import { copyNewCloud } from '../../../../tests/support/cloud-template.ts';
import { type Mosquitto, mosquittoSub, startMosquitto } from '../../../../tests/support/mosquitto.ts';
import { nodeFlags } from '../../../../tests/support/programs.ts';
import { memoryDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { adminToken, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { batch } from '../support/stream-client.ts';

const isHealthy = async (cloud: TestCloud) => (await fetch(`${cloud.url}/healthz`)).status === 200;
const connected = (cloud: TestCloud) =>
  until(() => isHealthy(cloud), { what: 'the cloud to read from the broker' });

async function sender(broker: Mosquitto): Promise<MqttClient & AsyncDisposable> {
  const [user] = Object.entries(broker.users ?? {});
  const client = await mqtt.connectAsync(broker.url, {
    reconnectPeriod: 0,
    username: user?.[0],
    password: user?.[1],
    ca: broker.certificates && (await readFile(broker.certificates.caFile)),
  });
  client.on('error', () => undefined);
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.endAsync(true) });
}

test('lines, acks and states pass through a real Mosquitto', async () => {
  await using broker = await startMosquitto();
  await using cloud = await startTestCloud({ env: { CLOUD_MQTT_BROKER: broker.url } });
  expect(cloud.cloud.mqttPort).toBeUndefined();
  await connected(cloud);
  await using acks = await mosquittoSub(broker, 'device/+/logs/ack');
  await using device = await sender(broker);
  await device.publishAsync('device/ext-1/logs', gzipSync(batch('journal01', 1, 50)), { qos: 1 });
  await device.publishAsync('device/ext-2/logs', '[{"message":"a"},{"message":"b"}]', { qos: 0 });
  await device.publishAsync('device/ext-2/status', '{"online":true}', { qos: 1, retain: true });
  await device.publishAsync('device/not a uuid/logs', '{"message":"x"}', { qos: 1 });
  expect(await cloud.lines('ext-1', 50)).toHaveLength(50);
  expect((await cloud.lines('ext-2', 2)).map(({ message }) => message)).toEqual(['a', 'b']);
  await until(() => acks.lines.length > 0, { what: 'the ack' });
  expect(acks.lines).toEqual([
    'device/ext-1/logs/ack {"ack":{"journal":"journal01","through":50,"stored":[[1,50]]}}',
  ]);
  const devices = async () =>
    ((await (await cloud.get('/api/v1/devices')).json()) as { devices: Record<string, unknown>[] }).devices;
  await until(async () => (await devices())[1]?.online === true, { what: 'the state' });
  expect(await devices()).toMatchObject([
    { uuid: 'ext-1', registered: false, online: null, lines: 50 },
    { uuid: 'ext-2', registered: false, online: true, lines: 2 },
  ]);
});

test('what comes while the cloud is down is kept by the broker, and read once after', async () => {
  await using broker = await startMosquitto();
  await using cloud = await startTestCloud({ env: { CLOUD_MQTT_BROKER: broker.url } });
  await connected(cloud);
  await using device = await sender(broker);
  await device.publishAsync('device/late/logs', gzipSync(batch('journal02', 1, 10)), { qos: 1 });
  await cloud.lines('late', 10);
  const { dataDir } = cloud;
  await cloud.cloud.stop();
  for (let first = 11; first <= 500; first += 10) {
    await device.publishAsync('device/late/logs', gzipSync(batch('journal02', first, 10)), { qos: 1 });
  }
  expect(dataDir).toBe(cloud.dataDir);
  await cloud.restart();
  expect((await cloud.lines('late', 500)).map(({ seq }) => seq)).toEqual(
    Array.from({ length: 500 }, (_, i) => i + 1),
  );
});

test('a member of a group that stops leaves it first: plain messages are neither lost nor stored twice', async () => {
  await using broker = await startMosquitto();
  // Two of the embedded kind do not fit into one process.
  await using store = await startClickHouse();
  const env = { CLOUD_MQTT_BROKER: broker.url, CLOUD_MQTT_SHARE: 'clouds', CLICKHOUSE_URL: store.url };
  await using stays = await startTestCloud({ env });
  await using stops = await startTestCloud({ env });
  for (const cloud of [stays, stops]) await connected(cloud);
  await using device = await sender(broker);
  let published = 0;
  let isStopped = false;
  const publishing = (async () => {
    while (!isStopped && published < 9900) {
      const some = Array.from({ length: 20 }, () =>
        device.publishAsync('device/plain/logs', `{"message":"${++published}"}`, { qos: 1 }),
      );
      await Promise.all(some);
    }
  })();
  const stored = async () =>
    (await stays.search('device=plain&limit=10000')).map(({ message }) => Number(message));
  await until(async () => (await stored()).length > 200);
  await stops.cloud.stop();
  isStopped = true;
  await publishing;
  expect(stops.logged.filter((line) => line.includes('not confirmed'))).toEqual([]);
  await until(async () => new Set(await stored()).size >= published, { what: `${published} lines` });
  expect((await stored()).sort((a, b) => a - b)).toEqual(Array.from({ length: published }, (_, i) => i + 1));
});

test('a broker that is killed, and back later, loses nothing that it had not confirmed', async () => {
  await using broker = await startMosquitto();
  await using cloud = await startTestCloud({ env: { CLOUD_MQTT_BROKER: broker.url } });
  await connected(cloud);
  const publish = async (first: number) => {
    await using device = await sender(broker);
    await device.publishAsync('device/kill/logs', gzipSync(batch('journal03', first, 10)), { qos: 1 });
    await cloud.lines('kill', first + 9);
  };
  await publish(1);
  await broker.kill();
  await until(async () => !(await isHealthy(cloud)), { what: 'the cloud to notice' });
  await broker.start();
  await connected(cloud);
  await publish(11);
  expect(await cloud.search('device=kill&limit=100')).toHaveLength(20);
  const complaints = cloud.logged.filter((line) => line.includes('cannot be read from'));
  expect(complaints).toHaveLength(1);
});

test('a cloud that is killed in the middle stores every line once, since it confirms only what is committed', async () => {
  await using broker = await startMosquitto();
  await using dir = await memoryDir();
  await copyNewCloud(dir.path);
  const env = {
    ...process.env,
    DATA_DIR: dir.path,
    CLOUD_HOST: '127.0.0.1',
    CLOUD_PORT: '0',
    ADMIN_TOKEN: adminToken,
    CLOUD_MQTT_BROKER: broker.url,
  };
  await using children = new AsyncDisposableStack();
  const script = join(import.meta.dirname, '../support/cloud-process.ts');
  const start = async () => {
    const child = spawn(process.execPath, [...nodeFlags, script], {
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exited = once(child, 'exit');
    children.defer(async () => {
      child.kill('SIGKILL');
      await exited;
    });
    const [text] = (await once(child.stdout, 'data')) as [Buffer];
    const url = text.toString().trim();
    await until(async () => (await fetch(`${url}/healthz`)).status === 200, { what: 'the cloud to read' });
    return { child, url, exited };
  };
  const count = async (url: string) => {
    const response = await fetch(`${url}/api/v1/devices`, {
      headers: { authorization: `Bearer ${adminToken}` },
    });
    const { devices } = (await response.json()) as { devices: { lines: number }[] };
    return devices[0]?.lines ?? 0;
  };
  await using device = await sender(broker);
  let next = 1;
  const publish = async () => {
    await device.publishAsync('device/killed/logs', gzipSync(batch('journal05', next, 50)), { qos: 1 });
    next += 50;
  };
  let running = await start();
  for (const round of [1, 2, 3]) {
    const { child, url, exited } = running;
    const load = (async () => {
      while (child.exitCode === null && child.signalCode === null) await publish();
    })();
    await until(async () => (await count(url)) > round * 2000, { what: 'a load' });
    child.kill('SIGKILL');
    await exited;
    await load;
    running = await start();
  }
  const sent = next - 1;
  await until(async () => (await count(running.url)) >= sent, { what: `${sent} lines` });
  expect(await count(running.url)).toBe(sent);
}, 90_000);

test('many small messages of many devices share commits, and each is stored once', async () => {
  await using broker = await startMosquitto();
  await using cloud = await startTestCloud({ env: { CLOUD_MQTT_BROKER: broker.url } });
  await connected(cloud);
  await using device = await sender(broker);
  await Promise.all(
    Array.from({ length: 3000 }, (_, i) => {
      const topic = `device/small-${i % 30}/logs`;
      return device.publishAsync(topic, batch(`journal0000${i % 30}`, Math.floor(i / 30) + 1, 1), { qos: 1 });
    }),
  );
  const count = async () => (await cloud.search('limit=10000')).length;
  await until(async () => (await count()) >= 3000, { what: 'all to be stored' });
  expect(await count()).toBe(3000);
});

test('TLS with a CA file and a password; a wrong password is said clearly, and never shown', async () => {
  await using broker = await startMosquitto({ tls: true, users: { cloud: 'the-brokers-password' } });
  await using dir = await memoryDir();
  const ca = join(dir.path, 'ca.pem');
  await writeFile(ca, await readFile(broker.certificates?.caFile as string));
  const env = { CLOUD_MQTT_BROKER: broker.url, CLOUD_MQTT_USERNAME: 'cloud', CLOUD_MQTT_CA: ca };
  {
    await using cloud = await startTestCloud({
      env: { ...env, CLOUD_MQTT_PASSWORD: 'the-brokers-password' },
    });
    await connected(cloud);
    await using device = await sender(broker);
    await device.publishAsync('device/tls/logs', '{"message":"safe"}', { qos: 1 });
    expect(await cloud.lines('tls', 1)).toHaveLength(1);
  }
  await using cloud = await startTestCloud({ env: { ...env, CLOUD_MQTT_PASSWORD: 'a-wrong-password' } });
  await until(() => cloud.logged.some((line) => /not authori[sz]ed/i.test(line)), { what: 'the refusal' });
  expect(await isHealthy(cloud)).toBe(false);
  expect(cloud.logged.join('')).not.toContain('a-wrong-password');
});

test('a CA file that is not there stops the start', async () => {
  const started = startTestCloud({
    env: { CLOUD_MQTT_BROKER: 'mqtts://127.0.0.1:1', CLOUD_MQTT_CA: '/nowhere/ca.pem' },
  });
  await expect(started).rejects.toThrow(/CONFIG_INVALID: CLOUD_MQTT_CA="\/nowhere\/ca.pem"/);
});
