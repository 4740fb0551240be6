import { createServer } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { BatchDecoder, decodePart } from '@millrace/wire';
import { Aedes } from 'aedes';
import mqtt from 'mqtt';
import { expect, test } from 'vitest';
import { captureLog } from '../../../../tests/support/log.ts';
import { mosquittoSub, startMosquitto } from '../../../../tests/support/mosquitto.ts';
import { freePort } from '../../../../tests/support/ports.ts';
import { startTcpProxy } from '../../../../tests/support/tcp-proxy.ts';
import { until } from '../../../../tests/support/wait.ts';
import { MqttLogBackend } from '../../src/logging/mqtt-backend.ts';

/** What a cloud does behind the broker: reads batches, and acknowledges them when the test lets it. */
async function startReader(brokerUrl: string) {
  const client = await mqtt.connectAsync(brokerUrl, { reconnectPeriod: 20 });
  const seqs: number[] = [];
  const reader = {
    seqs,
    messages: 0,
    acking: true,
    journal: '',
    ack: (text: string) => client.publishAsync('device/d1/logs/ack', text, { qos: 1 }),
    [Symbol.asyncDispose]: () => client.endAsync(true),
  };
  client.on('message', (_topic, payload) => {
    reader.messages++;
    const [part] = new BatchDecoder().push(gunzipSync(payload));
    if (!part?.header || part.firstSeq === null) throw new Error('not a batch');
    for (const line of decodePart(part)) seqs.push(line.seq as number);
    reader.journal = part.header.journal;
    const { journal, first, count } = part.header;
    if (reader.acking) reader.ack(`${JSON.stringify({ ack: { journal, through: first + count - 1 } })}\n`);
  });
  await client.subscribeAsync('device/d1/logs', { qos: 1 });
  return reader;
}

const options = { baseTopic: 'device/logs', deviceUuid: 'd1', ack: 'cloud' as const };
const backoff = { minMs: 20, maxMs: 100 };

test('gzip batches advance only when the cloud says so', async () => {
  await using broker = await startMosquitto();
  await using cloud = await startReader(broker.url);
  cloud.acking = false;
  await using backend = new MqttLogBackend({ ...options, brokerUrl: broker.url, log: captureLog().log });
  await backend.connect();
  for (let i = 0; i < 100; i++) backend.log({ message: `line ${i}` });
  await until(() => cloud.seqs.length === 100);
  await until(() => backend.state.acked === backend.state.published);
  // The broker has confirmed every message, and that counts for nothing.
  expect(backend.state.lag).toBe(100);
  const { journal } = cloud;
  await cloud.ack(`{"ack":{"journal":"${journal}","through":40}}`);
  await until(() => backend.state.lag === 60);
  // Nonsense, another journal, a step back, and more than was ever sent: none of it moves anything too far.
  await cloud.ack('nonsense');
  await cloud.ack('{"ack":{"journal":7,"through":"x"}}\n{"ack":null}');
  await cloud.ack('{"ack":{"journal":"anotherjournal","through":100}}');
  await cloud.ack(`{"ack":{"journal":"${journal}","through":3}}`);
  await cloud.ack(
    `{"ack":{"journal":"${journal}","through":50}}\n{"ack":{"journal":"${journal}","through":70}}`,
  );
  await until(() => backend.state.lag === 30);
  await cloud.ack(`{"ack":{"journal":"${journal}","through":1000000}}`);
  await until(() => backend.state.lag === 0);
  cloud.acking = true;
  backend.log({ message: 'one more' });
  await until(() => backend.state.lag === 0);
  expect(cloud.seqs).toEqual(Array.from({ length: 101 }, (_, i) => i + 1));
});

test('without an acknowledgement batches are sent again, on the same connection and ever more slowly', async () => {
  await using broker = await startMosquitto();
  await using cloud = await startReader(broker.url);
  cloud.acking = false;
  const { log, messages, lines } = captureLog();
  await using backend = new MqttLogBackend({ ...options, brokerUrl: broker.url, log, ackTimeoutMs: 100 });
  await backend.connect();
  backend.log({ message: 'one' });
  await until(() => cloud.messages === 3);
  expect(messages(30)).toHaveLength(1);
  const waits = lines.filter(({ level }) => level === 40).map(({ afterMs }) => afterMs);
  expect(waits.slice(0, 2)).toEqual([100, 200]);
  cloud.acking = true;
  await until(() => backend.state.lag === 0);
  expect(new Set(cloud.seqs)).toEqual(new Set([1]));
});

test('what a broker took before the cloud listened is sent again soon, one message at a time', async () => {
  await using broker = await startMosquitto();
  const { log, messages } = captureLog();
  // The time after which silence is suspicious is the default of 30 s.
  await using backend = new MqttLogBackend({ ...options, brokerUrl: broker.url, log });
  await backend.connect();
  backend.log({ message: 'line 0' });
  await until(() => backend.state.acked === 1);
  for (let i = 1; i < 100; i++) backend.log({ message: `line ${i}` });
  await until(() => backend.state.published === 2);
  await using cloud = await startReader(broker.url);
  await until(() => backend.state.lag === 0);
  expect(backend.state.published).toBeLessThan(6);
  expect(new Set(cloud.seqs)).toEqual(new Set(Array.from({ length: 100 }, (_, i) => i + 1)));
  expect(messages(40)).toEqual([]);
});

test('a broken connection repeats only what is not acknowledged', async () => {
  await using broker = await startMosquitto();
  await using proxy = await startTcpProxy({ port: broker.port });
  await using cloud = await startReader(broker.url);
  await using backend = new MqttLogBackend({
    ...{ ...options, brokerUrl: `mqtt://127.0.0.1:${proxy.port}`, log: captureLog().log, backoff },
  });
  await backend.connect();
  for (let i = 0; i < 50; i++) backend.log({ message: `line ${i}` });
  await until(() => backend.state.lag === 0);
  cloud.acking = false;
  for (let i = 0; i < 50; i++) backend.log({ message: `line ${i}` });
  await until(() => cloud.seqs.length === 100);
  cloud.acking = true;
  proxy.cut();
  proxy.open();
  await until(() => backend.state.lag === 0);
  expect(cloud.seqs.slice(100)).toEqual(Array.from({ length: 50 }, (_, i) => i + 51));
});

test('a broker that forbids the acknowledgement topic is named', async () => {
  const aedes = await Aedes.createBroker({
    authorizeSubscribe: (_client, _subscription, callback) => callback(null, null),
  });
  await using server = createServer(aedes.handle);
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  {
    const { log, messages } = captureLog();
    await using backend = new MqttLogBackend({ ...options, brokerUrl: `mqtt://127.0.0.1:${port}`, log });
    await backend.connect();
    await until(() => messages(40).length > 0);
    expect(messages(40)[0]).toMatch(/BROKER_REFUSED.*device\/d1\/logs\/ack/);
  }
  await new Promise<void>((resolve) => aedes.close(resolve));
});

test('a broker that forbids the status topic still gets the lines', async () => {
  await using broker = await startMosquitto({
    users: { watcher: 'w', device: 'p' },
    acl: ['user watcher', 'topic readwrite #', 'user device', 'topic write container-manager/logs/#'],
  });
  await using watcher = await mosquittoSub(broker, '#');
  const { log, messages } = captureLog();
  await using backend = new MqttLogBackend({
    ...{ brokerUrl: broker.url, deviceUuid: 'd1', log, backoff },
    clientOptions: { username: 'device', password: 'p' },
  });
  await backend.connect();
  for (let i = 0; i < 200; i++) backend.log({ message: `line ${i}` });
  await until(() => watcher.lines.length === 200);
  await until(() => backend.state.lag === 0);
  expect(messages(40)).toContain('the broker seems to forbid the status topic: trying without it');
});
