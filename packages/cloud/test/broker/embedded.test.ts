import { execFile } from 'node:child_process';
import { connect as tcpConnect } from 'node:net';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { mosquittoSub } from '../../../../tests/support/mosquitto.ts';
import { until } from '../../../../tests/support/wait.ts';
import { adminToken, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { batch } from '../support/stream-client.ts';

const run = promisify(execFile);
let cloud: TestCloud;
const keys = new Map<string, string>();

beforeAll(async () => {
  cloud = await startTestCloud({ env: { MQTT_WS_ORIGINS: 'https://logs.example.com' } });
  for (const uuid of ['d1', 'd2']) keys.set(uuid, await cloud.register(uuid));
});
afterAll(() => cloud[Symbol.asyncDispose]());

class Peer implements AsyncDisposable {
  readonly client: MqttClient;
  readonly messages: { topic: string; text: string }[] = [];
  constructor(client: MqttClient) {
    this.client = client;
    client.on('message', (topic, payload) => this.messages.push({ topic, text: payload.toString() }));
    client.on('error', () => undefined);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.endAsync(true);
  }
}

const as = (uuid: string): IClientOptions => ({ username: uuid, password: keys.get(uuid) });
const asAdmin: IClientOptions = { username: 'admin', password: adminToken };

async function connect(options: IClientOptions = {}, url = cloud.mqttUrl): Promise<Peer> {
  return new Peer(await mqtt.connectAsync(url, { reconnectPeriod: 0, ...options }));
}

const granted = async (peer: Peer, topic: string): Promise<number | undefined> =>
  new Promise((resolve) => {
    peer.client.subscribe(topic, { qos: 1 }, (_error, _asked, answer) =>
      resolve(answer?.granted[0] as number),
    );
  });

const isClosed = (peer: Peer) =>
  until(() => !peer.client.connected, { what: 'the broker to close the connection' });

test('a gzip batch is stored before PUBACK, and acknowledged on the ack topic', async () => {
  await using device = await connect(as('d1'));
  expect(await granted(device, 'device/d1/logs/ack')).toBe(1);
  await device.client.publishAsync('device/d1/logs', gzipSync(batch('journal01', 1, 100)), { qos: 1 });
  expect(await cloud.search('device=d1&limit=1000')).toHaveLength(100);
  await until(() => device.messages.length > 0, { what: 'the ack' });
  expect(device.messages.map(({ topic, text }) => [topic, JSON.parse(text)])).toEqual([
    ['device/d1/logs/ack', { ack: { journal: 'journal01', through: 100, stored: [[1, 100]] } }],
  ]);
  // The same again is confirmed again, and not stored.
  await device.client.publishAsync('device/d1/logs', gzipSync(batch('journal01', 1, 100)), { qos: 1 });
  await until(() => device.messages.length > 1, { what: 'the second ack' });
  expect(await cloud.search('device=d1&limit=1000')).toHaveLength(100);
});

test.each([0, 1, 2] as const)('every shape of a payload is stored (QoS %i)', async (qos) => {
  const uuid = `shapes-${qos}`;
  keys.set(uuid, await cloud.register(uuid));
  await using device = await connect(as(uuid));
  const payloads = [
    '{"message":"single"}',
    '[{"message":"array 1"},{"message":"array 2"}]',
    '{"count":2,"logs":[{"message":"counted 1"},{"message":"counted 2"}]}',
    gzipSync(batch('journal02', 1, 2, 'batched')),
    gzipSync(
      Array.from({ length: 500 }, (_, i) => `{"message":"cut ${i} ${Math.random()}"}\n`).join(''),
    ).subarray(0, 3000),
    'plain text',
    Buffer.from([0xff, 0x00, 0xfe, 0x01]),
  ];
  for (const payload of payloads) await device.client.publishAsync(`device/${uuid}/logs`, payload, { qos });
  const lines = await cloud.lines(uuid, 10);
  const messages = lines.map(({ message }) => message);
  for (const text of [
    'single',
    'array 1',
    'array 2',
    'counted 1',
    'counted 2',
    'batched 1',
    'batched 2',
    'plain text',
  ]) {
    expect(messages).toContain(text);
  }
  await until(async () => (await cloud.search(`device=${uuid}&text=cut`)).length > 10, {
    what: 'the cut batch',
  });
  expect(device.client.connected).toBe(true);
});

test('poison is confirmed and set aside, and what follows is stored', async () => {
  keys.set('poison', await cloud.register('poison'));
  await using device = await connect(as('poison'));
  const topic = 'device/poison/logs';
  await device.client.publishAsync(topic, gzipSync(Buffer.alloc(200_000_000)), { qos: 1 });
  await device.client.publishAsync(topic, '', { qos: 1 });
  await device.client.publishAsync(topic, '{"message":"after"}', { qos: 1 });
  expect((await cloud.search('device=poison&text=after')).length).toBe(1);
  expect(device.client.connected).toBe(true);
  expect(cloud.logged.some((line) => line.includes('was set aside'))).toBe(true);
});

test('a packet over the limit ends the connection before it is gathered', async () => {
  await using device = await connect(as('d1'));
  device.client.publish('device/d1/logs', Buffer.alloc(3_000_000, 0x61), { qos: 1 });
  await isClosed(device);
});

test('what a person sees with mosquitto_sub, and sends with mosquitto_pub', async () => {
  await using seen = await mosquittoSub({ url: cloud.mqttUrl }, 'device/#');
  const { hostname, port } = new URL(cloud.mqttUrl);
  const message = '{"message":"by hand"}';
  const pub = (user: string, password: string, topic: string) =>
    run('mosquitto_pub', [
      '-h',
      hostname,
      '-p',
      port,
      '-q',
      '1',
      '-u',
      user,
      '-P',
      password,
      '-t',
      topic,
      '-m',
      message,
    ]);
  await pub('d2', keys.get('d2') as string, 'device/d2/logs');
  await until(() => seen.lines.includes(`device/d2/logs ${message}`), { what: 'the line to be seen' });
  expect((await cloud.search('device=d2')).map((line) => line.message)).toEqual(['by hand']);
  await expect(pub('d2', 'a-wrong-password', 'device/d2/logs')).rejects.toThrow(
    /not authori[sz]ed|bad user name/i,
  );
});

test('the service layout passes from a device to whoever watches, and into no store', async () => {
  await using watcher = await mosquittoSub({ url: cloud.mqttUrl }, 'container-manager/logs/#');
  await using device = await connect(as('d1'));
  await device.client.publishAsync('container-manager/logs/1001/web/info', '{"message":"hi"}', { qos: 1 });
  await until(() => watcher.lines.length > 0, { what: 'the line to be seen' });
  expect(watcher.lines).toEqual(['container-manager/logs/1001/web/info {"message":"hi"}']);
});

test.each<[string, () => IClientOptions, RegExp]>([
  ['a wrong key', () => ({ username: 'd1', password: 'wrong-key-wrong-key' }), /bad user name|Bad username/i],
  ["another device's key", () => ({ username: 'd1', password: keys.get('d2') }), /Bad username/i],
  ['no key', () => ({ username: 'd1' }), /Bad username/i],
  ['an unknown device', () => ({ username: 'nobody', password: keys.get('d1') }), /Bad username/i],
  ['a wrong admin token', () => ({ username: 'admin', password: 'wrong' }), /Bad username/i],
  ["a device's key as the admin's", () => ({ username: 'admin', password: keys.get('d1') }), /Bad username/i],
])('%s is refused with a CONNACK', async (_name, options, message) => {
  await expect(connect(options())).rejects.toThrow(message);
});

test.each<[string, () => IClientOptions, string]>([
  ['a device', () => as('d1'), 'device/d2/logs'],
  ['a device', () => as('d1'), 'device/d2/status'],
  ['a device', () => as('d1'), 'device/d1/logs/ack'],
  ['a device', () => as('d1'), '$SYS/broker/x'],
  ['an admin', () => asAdmin, 'device/d2/logs'],
  ['anonymous', () => ({}), 'device/d2/logs'],
  ['anonymous', () => ({}), 'device/anyone/status'],
])('%s that publishes where it may not is cut off', async (_name, options, topic) => {
  const before = (await cloud.search('device=d2&limit=1000')).length;
  await using watcher = await connect(asAdmin);
  await granted(watcher, topic);
  await using peer = await connect(options());
  peer.client.publish(topic, '{"message":"forged"}', { qos: 1 });
  await isClosed(peer);
  expect(await cloud.search('device=d2&limit=1000')).toHaveLength(before);
  expect(watcher.messages).toEqual([]);
});

test.each<[string, string, number, () => IClientOptions]>([
  ['a device', 'device/d1/#', 1, () => as('d1')],
  ['a device', 'device/d2/#', 128, () => as('d1')],
  ['a device', '#', 128, () => as('d1')],
  ['a device', 'device/+/logs', 128, () => as('d1')],
  ['a device', 'container-manager/logs/#', 128, () => as('d1')],
  ['an anonymous client', '#', 1, () => ({})],
  ['an anonymous client', '$SYS/#', 128, () => ({})],
  ['an admin', '$SYS/#', 1, () => asAdmin],
])('%s that subscribes to %s is answered %i', async (_name, topic, qos, options) => {
  await using peer = await connect(options());
  expect(await granted(peer, topic)).toBe(qos);
});

test("a last will is held to its owner's rights too", async () => {
  await using watcher = await connect(asAdmin);
  await granted(watcher, 'device/#');
  for (const topic of ['device/d2/logs', 'device/d1/status']) {
    const peer = await connect({
      ...as('d1'),
      will: { topic, payload: Buffer.from('{"online":false}'), qos: 1, retain: false },
    });
    peer.client.stream.destroy();
  }
  await until(() => watcher.messages.length > 0, { what: 'the allowed will' });
  expect(watcher.messages.map(({ topic }) => topic)).toEqual(['device/d1/status']);
});

test('a device cannot throw another one out by taking its client id', async () => {
  await using first = await connect({ ...as('d1'), clientId: 'same' });
  await using second = await connect({ ...as('d2'), clientId: 'same' });
  await second.client.publishAsync('x/y', '1', { qos: 1 });
  await first.client.publishAsync('x/y', '1', { qos: 1 });
  expect(first.client.connected).toBe(true);
});

test('a status makes a device online and offline, and is there for those who come later', async () => {
  const online = async () => {
    const { devices } = (await (await cloud.get('/api/v1/devices')).json()) as {
      devices: { uuid: string; online: boolean | null }[];
    };
    return devices.find(({ uuid }) => uuid === 'd2')?.online;
  };
  {
    await using device = await connect({
      ...as('d2'),
      will: { topic: 'device/d2/status', payload: Buffer.from('{"online":false}'), qos: 1, retain: true },
    });
    await device.client.publishAsync('device/d2/status', '{"online":true,"since":1}', {
      qos: 1,
      retain: true,
    });
    await until(async () => (await online()) === true, { what: 'the device to be online' });
    await using late = await connect();
    await granted(late, 'device/+/status');
    await until(() => late.messages.length > 0, { what: 'the retained status' });
    expect(late.messages[0]?.text).toBe('{"online":true,"since":1}');
    device.client.stream.destroy();
  }
  await until(async () => (await online()) === false, { what: 'the device to be offline' });
});

test.each(['the port of its own', '/mqtt of the HTTP server'])('WebSocket works on %s', async (which) => {
  const { port } = new URL(cloud.url);
  const url = which.startsWith('/mqtt')
    ? `ws://127.0.0.1:${port}/mqtt`
    : `ws://127.0.0.1:${cloud.cloud.wsPort}`;
  await using watcher = await connect({}, url);
  await granted(watcher, 'container-manager/logs/#');
  await using device = await connect(as('d1'), url);
  await device.client.publishAsync('container-manager/logs/1/web/info', '{"message":"over ws"}', { qos: 1 });
  await until(() => watcher.messages.length > 0, { what: 'the line to be seen' });
  const uuid = `ws-${port === url ? 1 : which.length}`;
  keys.set(uuid, await cloud.register(uuid));
  await using sender = await connect(as(uuid), url);
  await sender.client.publishAsync(`device/${uuid}/logs`, '{"message":"stored"}', { qos: 1 });
  expect(await cloud.search(`device=${uuid}`)).toHaveLength(1);
});

const openSocket = (options: {
  origin?: string;
  headers?: Record<string, string>;
  protocol?: string;
  path?: string;
}) =>
  new Promise<number>((resolve) => {
    const { origin, headers, protocol = 'mqtt', path = '' } = options;
    const socket = new WebSocket(`ws://127.0.0.1:${cloud.cloud.wsPort}${path}`, protocol || undefined, {
      origin,
      headers,
    });
    socket.on('open', () => {
      socket.terminate();
      resolve(101);
    });
    socket.on('unexpected-response', (_request, response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    socket.on('error', () => undefined);
  });

test.each([
  [{}, 101],
  [{ path: '/any/path' }, 101],
  [{ origin: 'http://localhost:3000' }, 101],
  [{ origin: 'https://logs.example.com' }, 101],
  [{ origin: 'https://evil.example' }, 403],
  [{ origin: 'http://localhost.evil.example' }, 403],
  [{ origin: 'null' }, 403],
  [{ protocol: 'chat' }, 400],
  [{ protocol: '' }, 400],
])('a WebSocket with %j is answered with %i', async (options, status) => {
  expect(await openSocket(options)).toBe(status);
});

test('behind a proxy nobody counts as local', async () => {
  const peer = new Peer(
    mqtt.connect(`ws://127.0.0.1:${cloud.cloud.wsPort}`, {
      reconnectPeriod: 0,
      wsOptions: { headers: { 'x-forwarded-for': '203.0.113.9' } },
    }),
  );
  const errors: Error[] = [];
  peer.client.on('error', (error) => errors.push(error));
  await until(() => errors.length > 0, { what: 'the refusal' });
  expect(errors[0]?.message).toMatch(/not authorized/i);
  await peer[Symbol.asyncDispose]();
});

test.each<[string, Buffer]>([
  ['HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
  ['a publish before CONNECT', Buffer.from([0x30, 3, 0, 1, 0x61])],
  ['a CONNECT of 200 MB', Buffer.from([0x10, 0x80, 0xc2, 0xd7, 0x5f])],
  ['a length that never ends', Buffer.from([0x10, 0xff, 0xff, 0xff, 0xff, 0x7f])],
])('a stranger that begins with %s is cut off', async (_name, bytes) => {
  let closed = false;
  const socket = tcpConnect(cloud.cloud.mqttPort as number, '127.0.0.1', () => socket.write(bytes));
  socket.on('error', () => undefined);
  socket.on('close', () => {
    closed = true;
  });
  socket.resume();
  await until(() => closed, { what: 'the connection to be closed' });
});

test.each([
  [0, 'reads too slowly and misses messages'],
  [1, 'reads too slowly for QoS 1 and is disconnected'],
])(
  'a subscriber that does not read delays no publisher (QoS %i)',
  async (qos, message) => {
    const { hostname, port } = new URL(cloud.mqttUrl);
    const dead = tcpConnect(Number(port), hostname);
    dead.on('error', () => undefined);
    // CONNECT (3.1.1, clean session, keep alive 0) and SUBSCRIBE to flood/#, by hand, and never a byte read.
    dead.write(Buffer.from('100e00044d5154540402000000026964', 'hex'));
    const filter = Buffer.from('flood/#');
    dead.write(
      Buffer.concat([
        Buffer.from([0x82, filter.length + 5, 0, 1, 0, filter.length]),
        filter,
        Buffer.from([qos]),
      ]),
    );
    await until(() => dead.bytesWritten > 25, { what: 'the subscription to be sent' });
    dead.pause();
    await using quick = await connect();
    await granted(quick, 'flood/#');
    await using sender = await connect(as('d1'));
    const payload = 'x'.repeat(100_000);
    const started = performance.now();
    for (let i = 0; i < 400; i++) await sender.client.publishAsync(`flood/${i}`, payload, { qos: 1 });
    await until(() => quick.messages.length === 400, { what: 'the quick one to have it all' });
    expect(performance.now() - started).toBeLessThan(8000);
    expect(cloud.logged.some((line) => line.includes(message))).toBe(true);
    dead.destroy();
  },
  60_000,
);

test('two thousand small messages in flight share commits', async () => {
  keys.set('burst', await cloud.register('burst'));
  await using device = await connect(as('burst'));
  const started = performance.now();
  await Promise.all(
    Array.from({ length: 2000 }, (_, i) =>
      device.client.publishAsync('device/burst/logs', `{"message":"m ${i}"}`, { qos: 1 }),
    ),
  );
  expect(performance.now() - started).toBeLessThan(15_000);
  expect(await cloud.search('device=burst&limit=10000')).toHaveLength(2000);
});

test('no secret is logged', () => {
  const all = cloud.logged.join('');
  for (const secret of [
    adminToken,
    cloud.cloud.joinKey,
    ...keys.values(),
    'wrong-key-wrong-key',
    'a-wrong-password',
  ]) {
    expect(all).not.toContain(secret);
  }
});
