import mqtt, { type IClientOptions, type MqttClient } from 'mqtt';
import { expect, test } from 'vitest';
import { startMosquitto } from '../../../../tests/support/mosquitto.ts';
import { until } from '../../../../tests/support/wait.ts';
import { adminToken, startTestCloud } from '../support/cloud.ts';
import { batch, StreamClient } from '../support/stream-client.ts';
import { appOf, compose, Targets } from './fleet.ts';

interface Watcher extends AsyncDisposable {
  client: MqttClient;
  messages: { topic: string; text: string; retain: boolean; qos: number }[];
}

async function watch(url: string, filter: string, options: IClientOptions = {}): Promise<Watcher> {
  const client = await mqtt.connectAsync(url, { reconnectPeriod: 0, ...options });
  const messages: Watcher['messages'] = [];
  client.on('error', () => undefined);
  client.on('message', (topic, payload, { retain, qos }) =>
    messages.push({ topic, text: payload.toString(), retain, qos }),
  );
  await client.subscribeAsync(filter, { qos: 1 });
  return { client, messages, [Symbol.asyncDispose]: () => client.endAsync(true) };
}

const imageOf = (text: string): string => {
  const { state } = JSON.parse(text) as { state: Record<string, { apps: object }> };
  return /"image":"([^"]*)"/.exec(JSON.stringify(state))?.[1] ?? 'none';
};

test('the embedded broker tells a device of its own target and nobody else, at once and when it comes', async () => {
  await using cloud = await startTestCloud({ tuning: { rolloutTickMs: 100 } });
  const targets = new Targets(cloud);
  const { key } = await targets.device('own');
  const other = await targets.device('other');
  const as = (username: string, password: string) => ({ username, password });
  await using device = await watch(cloud.mqttUrl, 'device/own/target', as('own', key));
  await using stranger = await watch(cloud.mqttUrl, '#');
  await using admin = await watch(cloud.mqttUrl, 'device/+/target', as('admin', adminToken));
  await using foreign = await watch(cloud.mqttUrl, 'device/other/#', as('other', other.key));
  await expect(foreign.client.subscribeAsync('device/own/target', { qos: 1 })).rejects.toThrow();

  await targets.json('PUT', '/devices/own/target', compose('nginx:1'));
  await until(() => device.messages.length === 1, { what: 'the target' });
  expect(device.messages[0]).toMatchObject({ topic: 'device/own/target', qos: 1 });
  expect(imageOf(device.messages[0]?.text ?? '')).toBe('nginx:1');
  await using later = await watch(cloud.mqttUrl, 'device/own/#', as('own', key));
  await until(() => later.messages.length === 1, { what: 'the target for who comes later' });
  expect(later.messages[0]).toMatchObject({ text: device.messages[0]?.text, retain: true, qos: 1 });

  // Too large for a message: its version alone.
  const environment = { LONG: 'x'.repeat(62_000), LONGER: 'y'.repeat(62_000) };
  await targets.json('PUT', '/devices/own/target', { apps: [appOf('nginx:2', { environment })] });
  await until(() => device.messages.length === 2, { what: 'the version' });
  const { version } = await targets.json<{ version: string }>('GET', '/devices/own/target');
  expect(device.messages[1]?.text.slice(0, 100)).toBe(JSON.stringify({ version }));
  await targets.json('DELETE', '/devices/own/target');
  await until(() => device.messages.length === 3, { what: 'the end of it' });
  expect(device.messages[2]?.text).toBe('');

  // A device cannot give itself one, nor another.
  await using forger = await watch(cloud.mqttUrl, 'device/own/logs/ack', as('own', key));
  forger.client.publish('device/own/target', '{"version":"mine"}', { qos: 1, retain: true });
  await until(() => !forger.client.connected, { what: 'the refusal' });
  await until(() => admin.messages.length === 3, { what: 'what an admin sees' });
  expect(stranger.messages.filter(({ topic }) => topic.endsWith('/target'))).toEqual([]);
  expect(foreign.messages).toEqual([]);
});

test('an open stream, in both forms, and each report tell the version', async () => {
  await using cloud = await startTestCloud({ tuning: { rolloutTickMs: 100 } });
  const targets = new Targets(cloud);
  const device = await targets.device('streaming');
  const { url } = cloud;
  const open = (headers?: Record<string, string>) =>
    new StreamClient({ url, uuid: 'streaming', key: device.key, acks: true, headers });
  const told = ({ body }: StreamClient) =>
    body
      .split('\n')
      .filter((line) => line.startsWith('{"target":'))
      .map((line) => (JSON.parse(line) as { target: string }).target);
  const versionNow = async () =>
    (await targets.json<{ version: string }>('GET', '/devices/streaming/target')).version;
  using early = open();
  early.send(batch('journal01', 1, 1));
  await early.acked(1);
  expect(told(early)).toEqual([]);
  await targets.json('PUT', '/devices/streaming/target', compose('nginx:1'));
  const first = await versionNow();
  await until(() => told(early).length === 1, { what: 'the version' });
  using late = open({ 'millrace-acks': 'stream, short' });
  late.send(batch('journal02', 1, 1));
  await until(() => told(late).length === 1, { what: 'the version at the start' });
  await targets.json('PUT', '/devices/streaming/target', compose('nginx:2'));
  const second = await versionNow();
  await until(() => told(early).length === 2 && told(late).length === 2, { what: 'the next' });
  expect([told(early), told(late)]).toEqual([
    [first, second],
    [first, second],
  ]);
  late.send(batch('journal02', 2, 1));
  await late.acked(1);
  await until(() => /^2$/m.test(late.body), { what: 'a short acknowledgement behind it' });
  expect((await device.report()).headers.get('millrace-target')).toBe(second);
  // balena's devices get no word that they do not expect.
  using plain = new StreamClient({ url, uuid: 'streaming', key: device.key });
  plain.end();
  expect(await plain.answer()).toEqual({ status: 201, body: '' });
});

test('Mosquitto keeps the target of each device, also of what changed while it or the cloud was away', async () => {
  await using broker = await startMosquitto({ persistence: true });
  await using cloud = await startTestCloud({ env: { CLOUD_MQTT_BROKER: broker.url } });
  const targets = new Targets(cloud);
  await targets.device('ext');
  await targets.device('gone');
  await targets.json('PUT', '/devices/ext/target', compose('nginx:1'));
  await targets.json('PUT', '/devices/gone/target', compose('nginx:1'));
  const retained = async (uuid: string) => {
    await using watcher = await watch(broker.url, `device/${uuid}/target`);
    // What the broker keeps comes before what is sent after the subscription.
    await watcher.client.subscribeAsync('probe', { qos: 1 });
    await watcher.client.publishAsync('probe', 'x', { qos: 1 });
    await until(() => watcher.messages.some(({ topic }) => topic === 'probe'));
    return watcher.messages.find(({ topic, retain }) => retain && topic !== 'probe')?.text;
  };
  const holds = (uuid: string, image: string | undefined) =>
    until(
      async () => {
        const text = await retained(uuid);
        return (text === undefined ? undefined : imageOf(text)) === image;
      },
      { what: `${uuid} to have ${image}` },
    );
  await holds('ext', 'nginx:1');
  await holds('gone', 'nginx:1');
  await broker.stop();
  await targets.json('PUT', '/devices/ext/target', compose('nginx:2'));
  await targets.json('DELETE', '/devices/gone');
  await cloud.restart();
  await broker.start();
  await holds('ext', 'nginx:2');
  await holds('gone', undefined);
});
