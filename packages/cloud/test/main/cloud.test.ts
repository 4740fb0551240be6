import { once } from 'node:events';
import { readFile, stat } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import mqtt from 'mqtt';
import pino from 'pino';
import { expect, test } from 'vitest';
import { copyNewCloud } from '../../../../tests/support/cloud-template.ts';
import { memoryDir, tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { cliTokenFile, cloudSettings, joinKeyFile, readCloudConfig, startCloud } from '../../src/index.ts';
import { joinKey, startTestCloud } from '../support/cloud.ts';
import { batch, StreamClient } from '../support/stream-client.ts';

const log = pino({ level: 'silent' });
const onFreePorts = { CLOUD_HOST: '127.0.0.1', CLOUD_PORT: '0', MQTT_PORT: '0', MQTT_WS_PORT: '0' };

test('a first start makes what it needs, and a second finds it all', async () => {
  await using dir = await tempDir();
  const dataDir = join(dir.path, 'not', 'there', 'yet');
  const env = { ...onFreePorts, DATA_DIR: dataDir };
  const first = await startCloud({ env, log });
  const adminToken = first.adminToken as string;
  const token = (await readFile(join(dataDir, cliTokenFile), 'utf8')).trim();
  expect((await readFile(join(dataDir, joinKeyFile), 'utf8')).trim()).toBe(first.joinKey);
  expect((await stat(dataDir)).mode & 0o777).toBe(0o700);
  const ask = (url: string, bearer: string, path = '/api/v1/devices') =>
    fetch(`${url}${path}`, { headers: { authorization: `Bearer ${bearer}` } });
  expect((await ask(first.url, adminToken)).status).toBe(200);
  expect((await ask(first.url, token)).status).toBe(200);
  const registered = await fetch(`${first.url}/device/register`, {
    method: 'POST',
    headers: { authorization: `Bearer ${first.joinKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ uuid: 'd1' }),
  });
  const { api_key: key } = (await registered.json()) as { api_key: string };
  {
    using stream = new StreamClient({ url: first.url, uuid: 'd1', key });
    stream.send(batch('journal01', 1, 10));
    stream.end();
    expect((await stream.answer()).status).toBe(201);
  }
  await first.stop();
  await first.stop();

  await using second = await startCloud({ env, log });
  expect(second.adminToken).toBeUndefined();
  expect(second.joinKey).toBe(first.joinKey);
  expect((await ask(second.url, adminToken)).status).toBe(200);
  expect((await ask(second.url, token)).status).toBe(401);
  const page = await ask(
    second.url,
    (await readFile(join(dataDir, cliTokenFile), 'utf8')).trim(),
    '/api/v1/logs',
  );
  expect(((await page.json()) as { logs: object[] }).logs).toHaveLength(10);
  using stream = new StreamClient({ url: second.url, uuid: 'd1', key, acks: true });
  stream.send(batch('journal01', 1, 12));
  await stream.acked(12);
  expect((await (await ask(second.url, adminToken, '/api/v1/logs')).json()) as object).toMatchObject({
    logs: { length: 12 },
  });
});

test('a stop commits and acknowledges what it has read, ends what is open, and leaves nothing behind when its time is up', async () => {
  await using cloud = await startTestCloud();
  const key = await cloud.register('d1');
  using stream = new StreamClient({ url: cloud.url, uuid: 'd1', key, acks: true });
  using silent = new StreamClient({ url: cloud.url, uuid: 'd1', key });
  const device = await mqtt.connectAsync(cloud.mqttUrl, {
    username: 'd1',
    password: key,
    reconnectPeriod: 0,
  });
  device.on('error', () => undefined);
  await stream.status();
  silent.send(batch('journal02', 1, 10));
  let sent = 0;
  const confirmed: number[] = [];
  // It must be stopped in the middle of a load that does not stop by itself.
  const load = setInterval(() => {
    stream.send(batch('journal03', sent + 1, 100));
    const first = sent + 1;
    sent += 100;
    if (!device.connected) return;
    device.publishAsync('device/d1/logs', gzipSync(batch('journal04', first, 100)), { qos: 1 }).then(
      () => confirmed.push(first + 99),
      () => undefined,
    );
  }, 5);
  await stream.acked(1000);
  await cloud.cloud.stop();
  expect(cloud.logged.filter((line) => /did not (answer|stop in time)/.test(line))).toEqual([]);
  clearInterval(load);
  await until(() => stream.response?.readableEnded, { what: 'the stream to end in order' });
  await until(() => !device.connected, { what: 'the broker to let go' });
  const acked = stream.acks.at(-1)?.through as number;
  await device.endAsync(true);
  await cloud.restart();
  const lines = await cloud.allLines('d1');
  const seqs = (journal: string) =>
    lines.filter(({ id }) => id.startsWith(journal)).map(({ seq }) => seq as number);
  // All that was acknowledged is there, in one piece, once.
  const byStream = seqs('journal03');
  expect(byStream.length).toBeGreaterThanOrEqual(acked);
  expect(byStream).toEqual(byStream.map((_, i) => i + 1));
  const byMqtt = new Set(seqs('journal04'));
  expect(confirmed.filter((seq) => !byMqtt.has(seq))).toEqual([]);
  expect(seqs('journal02')).toHaveLength(10);
});

async function takenPort(): Promise<Server & { port: number }> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return Object.assign(server, { port: (server.address() as { port: number }).port });
}

test.each(['CLOUD_PORT', 'MQTT_PORT', 'MQTT_WS_PORT'])(
  'a taken %s is an error that names it, and leaves nothing running',
  async (variable) => {
    await using dir = await memoryDir();
    await copyNewCloud(dir.path);
    const server = await takenPort();
    const env = { ...onFreePorts, DATA_DIR: dir.path };
    const started = startCloud({ env: { ...env, [variable]: String(server.port) }, log });
    await expect(started).rejects.toMatchObject({
      code: 'PORT_TAKEN',
      detail: `${variable} ${server.port} is taken`,
    });
    server.close();
    await once(server, 'close');
    // The data folder is free again, and so are the ports that it had taken before it failed.
    await using _again = await startCloud({ env: { ...env, [variable]: String(server.port) }, log });
  },
);

test('a data folder that another cloud uses is left alone', async () => {
  await using cloud = await startTestCloud();
  const second = startCloud({ env: { ...onFreePorts, DATA_DIR: cloud.dataDir }, log });
  await expect(second).rejects.toMatchObject({ code: 'DATA_DIR_UNUSABLE' });
  expect((await fetch(`${cloud.url}/healthz`)).status).toBe(200);
});

test.each([
  ['CLOUD_PORT', '70000'],
  ['CLOUD_PORT', 'http'],
  ['MQTT_PORT', '-1'],
  ['MQTT_ANONYMOUS', 'everywhere'],
  ['MQTT_WS_ORIGINS', 'not an origin'],
  ['CLOUD_MQTT_BROKER', 'localhost:1883'],
  ['CLICKHOUSE_URL', 'clickhouse'],
  ['DATABASE_URL', 'mysql://x/y'],
  ['ADMIN_TOKEN', 'too short'],
  ['JOIN_KEY', 'short'],
  ['LOG_LEVEL', 'loud'],
])('%s=%s stops the start with its name', async (variable, value) => {
  const isSecret = Object.values(cloudSettings).some(
    (setting) => setting.env === variable && 'secret' in setting,
  );
  const started = startCloud({ env: { [variable]: value }, log });
  await expect(started).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    detail: expect.stringContaining(variable),
  });
  const shown = expect.stringContaining(value);
  await expect(started).rejects.toMatchObject({
    detail: isSecret ? expect.not.stringContaining(value) : shown,
  });
});

test('every wrong setting is named at once, and an empty one counts as unset', () => {
  expect(() => readCloudConfig({ CLOUD_PORT: 'x', LOG_LEVEL: 'y' })).toThrow(/CLOUD_PORT="x".*LOG_LEVEL="y"/);
  expect(readCloudConfig({ CLOUD_PORT: '', ADMIN_TOKEN: '' })).toMatchObject({
    port: 8080,
    adminToken: undefined,
  });
  expect(
    readCloudConfig({ MQTT_WS_ORIGINS: 'https://a.example/, http://b.example:81' }).mqttWsOrigins,
  ).toEqual(['https://a.example', 'http://b.example:81']);
});

test('the log names no secret', async () => {
  await using cloud = await startTestCloud();
  const all = cloud.logged.join('');
  for (const secret of [joinKey, (await readFile(join(cloud.dataDir, cliTokenFile), 'utf8')).trim()]) {
    expect(all).not.toContain(secret);
  }
});
