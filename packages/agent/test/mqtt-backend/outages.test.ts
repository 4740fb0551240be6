import { expect, test } from 'vitest';
import { captureLog } from '../../../../tests/support/log.ts';
import { mosquittoSub, type Subscriber, startMosquitto } from '../../../../tests/support/mosquitto.ts';
import { startTcpProxy } from '../../../../tests/support/tcp-proxy.ts';
import { until } from '../../../../tests/support/wait.ts';
import { MqttLogBackend } from '../../src/logging/mqtt-backend.ts';

const backoff = { minMs: 20, maxMs: 100 };
const filter = 'container-manager/logs/#';

/** Seqs of all lines that arrived at these subscribers, batched or not. */
function seqs(...subscribers: Subscriber[]): Set<number> {
  const out = new Set<number>();
  for (const { messages } of subscribers) {
    for (const { payload } of messages) {
      const value = JSON.parse(payload);
      for (const { seq } of value.logs ?? [value]) out.add(seq);
    }
  }
  return out;
}

function all(count: number): Set<number> {
  return new Set(Array.from({ length: count }, (_, i) => i + 1));
}

test.each([false, true])(
  'a broker that is away for a while costs nothing (batched: %s)',
  async (enableBatching) => {
    await using broker = await startMosquitto();
    await using proxy = await startTcpProxy({ port: broker.port });
    const { log, messages } = captureLog();
    await using backend = new MqttLogBackend({
      ...{ brokerUrl: `mqtt://127.0.0.1:${proxy.port}`, log, backoff, enableBatching, batchInterval: 20 },
    });
    await using before = await mosquittoSub(broker, filter);
    await backend.connect();
    for (let i = 0; i < 500; i++) backend.log({ message: 'before', serviceName: `s${i % 7}` });
    await until(() => backend.state.lag === 0);
    await until(() => seqs(before).size === 500);
    proxy.cut();
    await broker.stop();
    await until(() => !backend.state.connected);
    for (let i = 0; i < 2000; i++) backend.log({ message: 'meanwhile', serviceName: `s${i % 7}` });
    // Several attempts fail; they are one warning each time the reason changes.
    await until(() => messages(20).length >= 3);
    expect(messages(40).length).toBeLessThanOrEqual(3);
    expect(messages(40)[0]).toContain('BROKER_UNREACHABLE');
    await broker.restart();
    await using after = await mosquittoSub(broker, filter);
    proxy.open();
    await until(() => backend.state.lag === 0);
    await until(() => seqs(before, after).size === 2500);
    expect(seqs(before, after)).toEqual(all(2500));
    expect(backend.state.lost).toBe(0);
  },
);

test.each([1, 2] as const)('a broker killed in the middle of a burst: no line lost (QoS %i)', async (qos) => {
  await using broker = await startMosquitto();
  await using proxy = await startTcpProxy({ port: broker.port });
  await using backend = new MqttLogBackend({
    ...{ brokerUrl: `mqtt://127.0.0.1:${proxy.port}`, log: captureLog().log, backoff, qos },
  });
  await using first = await mosquittoSub(broker, filter);
  await backend.connect();
  const total = 6000;
  for (let i = 0; i < total; i++) backend.log({ message: 'burst', serviceName: `s${i % 5}` });
  await until(() => first.lines.length > 500);
  proxy.cut();
  await broker.kill();
  expect(backend.state.lag).toBeGreaterThan(0);
  await broker.start();
  await using second = await mosquittoSub(broker, filter);
  proxy.open();
  await until(() => backend.state.lag === 0);
  await until(() => seqs(first, second).size === total, { what: () => `${seqs(first, second).size} lines` });
});

test('a half-open connection is noticed, and what went into it is sent again', async () => {
  await using broker = await startMosquitto();
  await using proxy = await startTcpProxy({ port: broker.port });
  const { log, messages } = captureLog();
  await using backend = new MqttLogBackend({
    ...{ brokerUrl: `mqtt://127.0.0.1:${proxy.port}`, log, backoff, ackTimeoutMs: 300, maxInFlight: 5 },
  });
  await using watcher = await mosquittoSub(broker, filter);
  await backend.connect();
  backend.log({ message: 'gets through' });
  await until(() => backend.state.lag === 0);
  proxy.freeze();
  for (let i = 0; i < 100; i++) backend.log({ message: 'into the void' });
  await until(() => !backend.state.connected);
  // Never more under way than the window allows.
  expect(backend.state.published - backend.state.acked).toBe(5);
  expect(messages(40)[0]).toContain('no acknowledgement for 300 ms');
  proxy.open();
  await until(() => seqs(watcher).size === 101);
});

test('keepalive notices a half-open connection while there is nothing to send', async () => {
  await using broker = await startMosquitto();
  await using proxy = await startTcpProxy({ port: broker.port });
  await using backend = new MqttLogBackend({
    ...{ brokerUrl: `mqtt://127.0.0.1:${proxy.port}`, log: captureLog().log, backoff },
    clientOptions: { keepalive: 1 },
  });
  await backend.connect();
  proxy.freeze();
  await until(() => !backend.state.connected);
  proxy.open();
  await until(() => backend.state.connected);
});

test('memory stays bounded while the broker is away, and the loss is counted and told', async () => {
  await using broker = await startMosquitto();
  await using proxy = await startTcpProxy({ port: broker.port });
  proxy.cut();
  await using backend = new MqttLogBackend({
    ...{ brokerUrl: `mqtt://127.0.0.1:${proxy.port}`, log: captureLog().log, backoff },
    memory: { maxLines: 1000 },
  });
  // Resolves though there is no broker.
  await backend.connect();
  expect(backend.state.connected).toBe(false);
  for (let i = 1; i <= 5000; i++) backend.log({ message: `line ${i}`, serviceName: 'web' });
  expect(backend.state).toMatchObject({ lag: 1000, lost: 4000 });
  await using watcher = await mosquittoSub(broker, filter);
  proxy.open();
  await until(() => backend.state.lag === 0);
  await until(() => watcher.lines.length === 1001);
  const told = watcher.messages.find(({ topic }) => topic === 'container-manager/logs/manager/warn');
  expect(JSON.parse(told?.payload ?? '').message).toBe('lost 4000 lines, seq 1–4000: memory full');
});

test('disconnect() takes no longer than its limit when the broker is silent', async () => {
  await using broker = await startMosquitto();
  await using proxy = await startTcpProxy({ port: broker.port });
  const { log, messages } = captureLog();
  const backend = new MqttLogBackend({ brokerUrl: `mqtt://127.0.0.1:${proxy.port}`, log, deviceUuid: 'd' });
  await backend.connect();
  proxy.freeze();
  for (let i = 0; i < 10; i++) backend.log({ message: 'never arrives' });
  const started = performance.now();
  await backend.disconnect();
  expect(performance.now() - started).toBeLessThan(3000);
  expect(messages(40)).toEqual(['disconnected with lines that did not arrive']);

  // And at once when there never was a connection.
  await using never = new MqttLogBackend({ brokerUrl: 'mqtt://127.0.0.1:1', log: captureLog().log });
  await never.connect();
  const again = performance.now();
  await never.disconnect();
  expect(performance.now() - again).toBeLessThan(500);
});

test('lines logged right before disconnect() are sent', async () => {
  await using broker = await startMosquitto();
  await using watcher = await mosquittoSub(broker, filter);
  for (const enableBatching of [false, true]) {
    const backend = new MqttLogBackend({ brokerUrl: broker.url, log: captureLog().log, enableBatching });
    await backend.connect();
    for (let i = 0; i < 300; i++) backend.log({ message: `line ${i}`, serviceName: `s${i % 3}` });
    await backend.disconnect();
    expect(backend.state).toMatchObject({ connected: false, lag: 0 });
  }
  await until(() => watcher.lines.length === 300 + 6);
});
