import { expect, test } from 'vitest';
import { captureLog } from '../../../../tests/support/log.ts';
import { mosquittoSub, startMosquitto } from '../../../../tests/support/mosquitto.ts';
import { makeCertificates } from '../../../../tests/support/tls.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { MqttLogBackend } from '../../src/logging/mqtt-backend.ts';

const backoff = { minMs: 20, maxMs: 50, refusedMs: 50 };

test('user and password: accepted, refused clearly and once, accepted when corrected at the broker', async () => {
  await using broker = await startMosquitto({ users: { watcher: 'w', admin: 'right horse' } });
  await using watcher = await mosquittoSub(broker, 'container-manager/logs/#');
  {
    const { log } = captureLog();
    const clientOptions = { username: 'admin', password: 'right horse' };
    await using backend = new MqttLogBackend({ brokerUrl: broker.url, clientOptions, log });
    await backend.connect();
    expect(backend.state.connected).toBe(true);
    backend.log({ message: 'in' });
    await until(() => watcher.lines.length === 1);
  }
  const { log, lines, messages, text } = captureLog();
  const brokerUrl = broker.url.replace('mqtt://', 'mqtt://admin:wrong%20horse@');
  await using backend = new MqttLogBackend({
    brokerUrl,
    log,
    backoff: { minMs: 1, maxMs: 1, refusedMs: 200 },
  });
  await backend.connect();
  expect(backend.state.connected).toBe(false);
  backend.log({ message: 'waits' });
  // More than one attempt, one warning.
  await until(() => messages(20).length >= 2, { what: () => text() });
  expect(messages(40)).toHaveLength(1);
  expect(messages(40)[0]).toContain('BROKER_REFUSED');
  // Slowly, unlike a broker that is only away.
  expect(Number(lines[1]?.time) - Number(lines[0]?.time)).toBeGreaterThanOrEqual(195);
  expect(messages(40)[0]).toContain('MQTT_PASSWORD');
  await broker.setUsers({ watcher: 'w', admin: 'wrong horse' });
  await until(() => backend.state.connected);
  await until(() => watcher.lines.length === 2);
  expect(messages(30)).toEqual([`✅ MQTT log backend connected: ${broker.url}`]);
  expect(text()).not.toMatch(/horse/);
  expect(JSON.stringify(backend.state)).not.toMatch(/horse/);
});

test('TLS: the right CA is accepted, an unknown one is not', async () => {
  await using broker = await startMosquitto({ tls: true });
  await using watcher = await mosquittoSub(broker, 'container-manager/logs/#');
  {
    const { log, messages } = captureLog();
    await using stranger = new MqttLogBackend({ brokerUrl: broker.url, log, backoff });
    await stranger.connect();
    expect(stranger.state.connected).toBe(false);
    expect(messages(40)[0]).toMatch(/BROKER_UNREACHABLE.*certificate/);
    stranger.log({ message: 'never arrives' });
  }
  {
    await using careless = new MqttLogBackend({
      ...{ brokerUrl: broker.url, log: captureLog().log },
      clientOptions: { rejectUnauthorized: false },
    });
    await careless.connect();
    expect(careless.state.connected).toBe(true);
  }
  const { log, messages } = captureLog();
  const clientOptions = { ca: broker.certificates?.ca, rejectUnauthorized: true };
  await using backend = new MqttLogBackend({ brokerUrl: broker.url, clientOptions, log });
  await backend.connect();
  expect(messages(30)).toEqual([`✅ MQTT log backend connected: ${broker.url}`]);
  backend.log({ message: 'encrypted' });
  await until(() => watcher.lines.length === 1);
  expect(watcher.lines[0]).toContain('encrypted');
});

test('TLS with client certificates: none is refused, a foreign one too, the right one accepted', async () => {
  await using broker = await startMosquitto({ clientCerts: true });
  await using folder = await tempDir();
  const foreign = await makeCertificates(folder.path);
  const certificates = broker.certificates;
  if (!certificates) throw new Error('no certificates');
  for (const pair of [{}, { cert: foreign.clientCert, key: foreign.clientKey }]) {
    const { log, messages } = captureLog();
    await using backend = new MqttLogBackend({
      ...{ brokerUrl: broker.url, log, backoff },
      clientOptions: { ca: certificates.ca, ...pair },
    });
    await backend.connect();
    expect(backend.state.connected).toBe(false);
    await until(() => messages(40).length > 0);
    expect(messages(40)[0]).toContain('BROKER_');
  }
  const clientOptions = { ca: certificates.ca, cert: certificates.clientCert, key: certificates.clientKey };
  await using backend = new MqttLogBackend({ brokerUrl: broker.url, clientOptions, log: captureLog().log });
  await backend.connect();
  expect(backend.state.connected).toBe(true);
});

test('WebSocket, plain and with TLS', async () => {
  for (const tls of [false, true]) {
    await using broker = await startMosquitto({ tls, websocket: true });
    await using watcher = await mosquittoSub(broker, 'container-manager/logs/#');
    await using backend = new MqttLogBackend({
      ...{ brokerUrl: broker.websocketUrl ?? '', log: captureLog().log },
      clientOptions: tls ? { ca: broker.certificates?.ca } : {},
    });
    await backend.connect();
    backend.log({ message: 'by WebSocket' });
    await until(() => watcher.lines.length === 1);
  }
});

test.each([
  ['brokerUrl', { brokerUrl: 'localhost:1883' }],
  ['brokerUrl', { brokerUrl: 'http://localhost:1883' }],
  ['brokerUrl', { brokerUrl: 'mqtt://' }],
  ['qos', { qos: 3 }],
  ['batchInterval', { batchInterval: -1 }],
  ['batchInterval', { batchInterval: Number.NaN }],
  ['maxBatchSize', { maxBatchSize: 0 }],
  ['maxBatchSize', { maxBatchSize: 1.5 }],
  ['#', { baseTopic: 'a/#' }],
  ['a//b', { baseTopic: 'a//b' }],
  ['device layout', { ack: 'cloud' }],
  ['ack', { ack: 'nobody' }],
  ['retain', { ack: 'cloud', baseTopic: 'device/logs', retain: true }],
  ['mqtts://', { clientOptions: { ca: 'x' } }],
  ['clientOptions.key', { brokerUrl: 'mqtts://h', clientOptions: { cert: 'x' } }],
  ['deviceUuid', { deviceUuid: '' }],
  ['maxInFlight', { maxInFlight: 0 }],
  ['maxBytes', { memory: { maxBytes: 1 } }],
])('a wrong option is named when the backend is made: %s %o', (named, wrong) => {
  const make = () =>
    new MqttLogBackend({ brokerUrl: 'mqtt://localhost', log: captureLog().log, ...(wrong as object) });
  expect(make).toThrow(/OPTION_INVALID|TOPIC_INVALID/);
  expect(make).toThrow(named);
});

test('an address with a password that cannot be read is not repeated', () => {
  expect(() => new MqttLogBackend({ brokerUrl: 'nonsense://u:secret@h' })).toThrow(/^(?!.*secret)/s);
});

test('log() is refused when lines come from a feed', () => {
  const feed = {
    next: async () => undefined,
    ack: () => {},
    rewind: () => {},
    lag: () => ({ lines: 0, lost: 0 }),
  };
  const backend = new MqttLogBackend({ brokerUrl: 'mqtt://localhost', feed, log: captureLog().log });
  expect(() => backend.log({ message: 'x' })).toThrow('OPTION_INVALID');
});
