import { serviceTopic } from '@millrace/wire';
import { expect, test } from 'vitest';
import { captureLog } from '../../../../tests/support/log.ts';
import { mosquittoSub, startMosquitto } from '../../../../tests/support/mosquitto.ts';
import { until } from '../../../../tests/support/wait.ts';
import { MqttLogBackend } from '../../src/logging/mqtt-backend.ts';
import type { LogInput } from '../../src/logging/types.ts';

const line: LogInput = {
  message: 'Server started on port 8080',
  timestamp: 1696195200000,
  level: 'info',
  source: { type: 'container', name: 'web' },
  serviceId: 1001,
  serviceName: 'web',
  containerId: 'abc123',
  isStdErr: false,
  isSystem: false,
};

test('the service layout shows one message per line under {base}/{appId}/{serviceName}/{level}', async () => {
  await using broker = await startMosquitto();
  await using watcher = await mosquittoSub(broker, 'container-manager/logs/#');
  const { log, messages } = captureLog();
  await using backend = new MqttLogBackend({ brokerUrl: broker.url, log, debug: true });
  await backend.connect();
  backend.log(line);
  backend.log({ ...line, level: 'error', isStdErr: true, message: 'failed' });
  backend.log({ ...line, serviceName: 'redis', source: { type: 'container', name: 'redis' }, level: 'warn' });
  backend.log({ message: 'kernel', level: 'info', isSystem: true });
  backend.log({ message: 'agent', level: 'error', source: { type: 'manager', name: 'manager' } });
  await until(() => watcher.lines.length === 5, { what: () => watcher.lines.join('\n') });

  expect(watcher.messages.map(({ topic }) => topic)).toEqual([
    'container-manager/logs/1001/web/info',
    'container-manager/logs/1001/web/error',
    'container-manager/logs/1001/redis/warn',
    'container-manager/logs/system/info',
    'container-manager/logs/manager/error',
  ]);
  expect(backend.buildTopic(line)).toBe('container-manager/logs/1001/web/info');
  const first = JSON.parse(watcher.messages[0]?.payload ?? '');
  expect(first).toEqual({ ...line, id: expect.stringMatching(/^[0-9a-z]{16}-1$/), seq: 1 });
  // What the log shows: the address as given, and each publish.
  expect(messages(30)).toEqual([`✅ MQTT log backend connected: ${broker.url}`]);
  expect(messages(20)).toHaveLength(5);
  await until(() => backend.state.lag === 0);
  expect(backend.state).toMatchObject({ connected: true, published: 5, acked: 5, lines: 5, lost: 0 });
});

test('the service layout shows the values of JSON and logfmt as fields; the device layout leaves them to clouds', async () => {
  await using broker = await startMosquitto();
  await using watcher = await mosquittoSub(broker, '#');
  for (const baseTopic of ['container-manager/logs', 'device/logs']) {
    await using backend = new MqttLogBackend({
      ...{ brokerUrl: broker.url, baseTopic, deviceUuid: 'd1', log: captureLog().log },
    });
    await backend.connect();
    backend.log({ ...line, message: '{"status":500,"user":{"id":7}}' });
    backend.log({ ...line, message: 'status=500 took=1.5' });
    backend.log({ ...line, message: 'status=500 took=1.5', fields: { given: true } });
    await until(() => backend.state.lag === 0);
  }
  await until(() => watcher.messages.filter(({ topic }) => !topic.endsWith('status')).length === 6);
  const shown = watcher.messages.map(({ topic, payload }) => [
    topic.split('/')[0],
    JSON.parse(payload).fields,
  ]);
  expect(shown.filter(([base]) => base === 'container-manager').map(([, fields]) => fields)).toEqual([
    { status: 500, user: { id: 7 } },
    { status: 500, took: 1.5 },
    { given: true },
  ]);
  const ofDevice = shown.filter(([base]) => base === 'device').map(([, fields]) => fields);
  expect(ofDevice.filter((fields) => fields !== undefined)).toEqual([{ given: true }]);
});

test('the service layout, batched: {count, logs} under …/{level}/batch, by interval and by size', async () => {
  await using broker = await startMosquitto();
  await using watcher = await mosquittoSub(broker, 'container-manager/logs/#');
  const { log } = captureLog();
  await using backend = new MqttLogBackend({
    ...{ brokerUrl: broker.url, log, enableBatching: true, batchInterval: 60_000, maxBatchSize: 50 },
  });
  await backend.connect();
  for (let i = 1; i <= 120; i++) {
    backend.log({ ...line, message: `line ${i}`, level: i % 4 === 0 ? 'error' : 'info' });
  }
  // 90 of info, 30 of error: one full batch each leaves by size, the rest when the backend stops.
  await until(() => watcher.lines.length === 1);
  expect(backend.state.lag).toBeGreaterThan(0);
  await backend.disconnect();
  await until(() => watcher.lines.length === 3);
  const batches = watcher.messages.map(({ topic, payload }) => ({ topic, ...JSON.parse(payload) }));
  expect(batches.map(({ topic, count, logs }) => [topic, count, logs.length])).toEqual([
    ['container-manager/logs/1001/web/info/batch', 50, 50],
    ['container-manager/logs/1001/web/error/batch', 30, 30],
    ['container-manager/logs/1001/web/info/batch', 40, 40],
  ]);
  const seqs = batches.flatMap(({ logs }) => logs.map(({ seq }: { seq: number }) => seq));
  expect(seqs.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 120 }, (_, i) => i + 1));
  expect(backend.state).toMatchObject({ published: 3, acked: 3, lag: 0 });

  await backend.connect();
  backend.log({ ...line, message: 'waits no longer than the interval' });
  await backend.disconnect();
  await until(() => watcher.lines.length === 4);
});

test('a batch leaves once its interval is over', async () => {
  await using broker = await startMosquitto();
  await using watcher = await mosquittoSub(broker, 'container-manager/logs/#');
  await using backend = new MqttLogBackend({
    ...{ brokerUrl: broker.url, log: captureLog().log, enableBatching: true, batchInterval: 200 },
  });
  await backend.connect();
  const started = performance.now();
  backend.log(line);
  await until(() => watcher.lines.length === 1);
  expect(performance.now() - started).toBeGreaterThan(190);
  expect(JSON.parse(watcher.messages[0]?.payload ?? '').count).toBe(1);
});

test('the device layout publishes under device/{uuid}/logs, and a retained status', async () => {
  await using broker = await startMosquitto();
  await using watcher = await mosquittoSub(broker, 'device/#');
  const options = {
    ...{ brokerUrl: broker.url, baseTopic: 'device/logs', deviceUuid: 'abc-123-uuid', log: captureLog().log },
  };
  {
    await using backend = new MqttLogBackend(options);
    await backend.connect();
    backend.log({ message: 'Container started', serviceId: 1, timestamp: 1696600000000 });
    await until(() => watcher.lines.length === 2);
    expect(watcher.messages[0]?.topic).toBe('device/abc-123-uuid/status');
    expect(JSON.parse(watcher.messages[0]?.payload ?? '')).toEqual({
      online: true,
      since: expect.any(Number),
    });
    expect(watcher.messages[1]?.topic).toBe('device/abc-123-uuid/logs');
    expect(JSON.parse(watcher.messages[1]?.payload ?? '')).toMatchObject({
      ...{ message: 'Container started', serviceId: 1, timestamp: 1696600000000 },
    });
    await using late = await mosquittoSub(broker, 'device/+/status');
    await until(() => late.lines.length === 1);
  }
  await until(() => watcher.lines.length === 3);
  expect(watcher.lines[2]).toBe('device/abc-123-uuid/status {"online":false}');

  await using batched = new MqttLogBackend({ ...options, enableBatching: true, batchInterval: 0 });
  await batched.connect();
  batched.log({ message: 'one' });
  batched.log({ message: 'two', level: 'error' });
  await until(() => watcher.lines.length === 5);
  expect(watcher.messages[4]?.topic).toBe('device/abc-123-uuid/logs');
  expect(JSON.parse(watcher.messages[4]?.payload ?? '')).toMatchObject({
    count: 2,
    logs: [{ message: 'one' }, { message: 'two' }],
  });
});

test('the last will says offline when the device vanishes', async () => {
  await using broker = await startMosquitto();
  await using watcher = await mosquittoSub(broker, 'device/#');
  await using backend = new MqttLogBackend({
    ...{ brokerUrl: broker.url, deviceUuid: 'd1', log: captureLog().log },
  });
  await backend.connect();
  await until(() => watcher.lines.length === 1);
  // Another client with the same id takes over: the broker treats the first one as vanished.
  await using thief = await mosquittoSub(broker, 'nothing', { args: ['-i', 'millrace-d1'] });
  await until(() => watcher.lines.includes('device/d1/status {"online":false}'));
  expect(thief.lines).toEqual([]);
});

test('hostile names stay inside their topic level and their message', async () => {
  await using broker = await startMosquitto();
  await using watcher = await mosquittoSub(broker, '#');
  await using backend = new MqttLogBackend({ brokerUrl: broker.url, log: captureLog().log });
  await backend.connect();
  const names = [
    '../../#',
    'a/b',
    '+',
    '#',
    '',
    'nul\u0000byte',
    '\ud800',
    'né 漢字 🚀',
    '$SYS',
    'x'.repeat(9000),
    'a\nb',
  ];
  for (const name of names) {
    backend.log({ message: name, level: 'info', serviceName: name, appId: name });
  }
  // The largest line that there can be, and names too large to repeat.
  backend.log({ message: 'm'.repeat(200_000), level: 'info', serviceName: 's' });
  backend.log({ message: 'y'.repeat(30_000), level: 'info', serviceName: 'n'.repeat(65_000) });
  await until(() => backend.state.lag === 0);
  await until(() => watcher.lines.length === names.length + 2);
  for (const [i, { topic, payload }] of watcher.messages.entries()) {
    expect(topic.split('/')).toHaveLength(5);
    expect(topic.startsWith('container-manager/logs/')).toBe(true);
    expect(Buffer.byteLength(payload)).toBeLessThanOrEqual(120 * 1024);
    const sent = JSON.parse(payload);
    expect(topic).toBe(serviceTopic('container-manager/logs', sent));
    if (i < names.length) expect(sent.serviceName).toBe(names[i]?.toWellFormed());
  }
});

test('retain keeps the last message of a topic', async () => {
  await using broker = await startMosquitto();
  await using backend = new MqttLogBackend({ brokerUrl: broker.url, retain: true, log: captureLog().log });
  await backend.connect();
  backend.log({ ...line, message: 'older' });
  backend.log({ ...line, message: 'newest' });
  await until(() => backend.state.lag === 0);
  await using late = await mosquittoSub(broker, 'container-manager/logs/#');
  await until(() => late.lines.length === 1);
  expect(JSON.parse(late.messages[0]?.payload ?? '').message).toBe('newest');
});

test.each([0, 1, 2] as const)('QoS %i delivers every line once, in order', async (qos) => {
  await using broker = await startMosquitto();
  await using watcher = await mosquittoSub(broker, 'container-manager/logs/#', { qos });
  await using backend = new MqttLogBackend({ brokerUrl: broker.url, qos, log: captureLog().log });
  await backend.connect();
  for (let i = 1; i <= 3000; i++) backend.log({ message: `line ${i}`, serviceName: 'web' });
  await until(() => watcher.lines.length >= 3000);
  await until(() => backend.state.lag === 0);
  expect(watcher.messages.map(({ payload }) => JSON.parse(payload).seq)).toEqual(
    Array.from({ length: 3000 }, (_, i) => i + 1),
  );
  expect(backend.state).toMatchObject({ published: 3000, acked: 3000 });
});
