import { expect, test } from 'vitest';
import { captureLog } from '../../../../tests/support/log.ts';
import { startTcpProxy } from '../../../../tests/support/tcp-proxy.ts';
import { makeCertificates } from '../../../../tests/support/tls.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { CloudLogBackend } from '../../src/logging/cloud-backend.ts';
import { startTestCloud, type TestCloud } from './test-cloud.ts';

const device = { deviceUuid: 'abc-123', apiKey: 'top-secret-key' };
const backoff = { minMs: 20, maxMs: 100, refusedMs: 60 };

function seqs(cloud: TestCloud): (number | undefined)[] {
  return cloud.lines.map(({ seq }) => seq);
}

function all(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i + 1);
}

test.each(['gzip', 'none'] as const)(
  'one long request carries all lines and is acknowledged while open (%s)',
  async (compression) => {
    await using cloud = await startTestCloud();
    const { log, messages, text } = captureLog();
    await using backend = new CloudLogBackend({
      ...device,
      cloudEndpoint: `${cloud.url}/base/`,
      compression,
      log,
    });
    await backend.connect();
    expect(backend.state).toMatchObject({ connected: true, mode: 'stream' });
    expect(messages(30)).toEqual([`✅ Cloud log backend connected: ${cloud.url}/base`]);
    for (let round = 1; round <= 20; round++) {
      for (let i = 0; i < 10; i++) backend.log({ message: `round ${round}, line ${i}`, serviceName: 'web' });
      await until(() => backend.state.lag === 0);
      expect(cloud.lines.length).toBe(round * 10);
    }
    // Far more than the smallest batch: whole gzip members between the parts of the stream.
    for (let i = 0; i < 20_000; i++)
      backend.log({ message: `bulk line ${i}`, serviceName: 'web', level: 'warn' });
    await until(() => backend.state.lag === 0);
    backend.log({ message: 'last', level: 'error', isStdErr: true });
    await until(() => backend.state.lag === 0);
    expect(seqs(cloud)).toEqual(all(20_201));
    expect(cloud.lines.at(-1)).toMatchObject({ message: 'last', level: 'error', isStdErr: true });
    expect(cloud.repeated).toBe(0);

    await backend.disconnect();
    await until(() => cloud.requests[0]?.endedWell);
    expect(cloud.requests).toHaveLength(1);
    expect(cloud.requests[0]?.headers).toMatchObject({
      ...{
        'content-type': 'application/x-ndjson',
        'transfer-encoding': 'chunked',
        'millrace-acks': 'stream, short',
      },
      ...{ authorization: 'Bearer top-secret-key' },
      ...(compression === 'gzip' && { 'content-encoding': 'gzip' }),
    });
    const { bytes, wireBytes, lines, requests } = backend.state;
    expect({ lines, requests }).toEqual({ lines: 20_201, requests: 1 });
    if (compression === 'gzip') expect(wireBytes).toBeLessThan(bytes / 4);
    else expect(wireBytes).toBeGreaterThan(bytes);
    expect(text()).not.toContain('top-secret-key');
  },
);

test('small batches share the compressor: a line costs a few dozen bytes on the wire', async () => {
  await using cloud = await startTestCloud();
  await using backend = new CloudLogBackend({ ...device, cloudEndpoint: cloud.url, log: captureLog().log });
  await backend.connect();
  for (let i = 0; i < 200; i++) {
    backend.log({
      message: `GET /health ${i} 200`,
      serviceName: 'web',
      serviceId: 7,
      containerId: 'c'.repeat(64),
    });
    await until(() => backend.state.lag === 0);
  }
  const { bytes, wireBytes } = backend.state;
  expect(bytes / 200).toBeGreaterThan(140);
  expect(wireBytes / 200).toBeLessThan(60);
});

test('lines logged right before disconnect() arrive, and the request ends as it should', async () => {
  await using cloud = await startTestCloud();
  const backend = new CloudLogBackend({ ...device, cloudEndpoint: cloud.url, log: captureLog().log });
  await backend.connect();
  for (let i = 0; i < 5000; i++) backend.log({ message: `line ${i}` });
  await backend.disconnect();
  expect(backend.state).toMatchObject({ connected: false, lag: 0 });
  expect(seqs(cloud)).toEqual(all(5000));
  await until(() => cloud.requests[0]?.endedWell);
});

test('a connection that breaks again and again loses nothing', async () => {
  await using cloud = await startTestCloud();
  const { log, messages } = captureLog();
  await using backend = new CloudLogBackend({ ...device, cloudEndpoint: cloud.url, log, backoff });
  await backend.connect();
  let logged = 0;
  for (let round = 0; round < 8; round++) {
    for (let i = 0; i < 3000; i++) backend.log({ message: `line ${++logged}` });
    const enough = logged - 2500;
    await until(() => cloud.lines.length > enough);
    cloud.breakAll();
  }
  await until(() => backend.state.lag === 0);
  expect(seqs(cloud)).toEqual(all(logged));
  expect(cloud.requests.length).toBeGreaterThan(4);
  expect(messages(40)[0]).toContain('CLOUD_UNREACHABLE');
});

test('what is under way is bounded: without acknowledgements sending stops', async () => {
  await using cloud = await startTestCloud();
  cloud.acking = false;
  await using backend = new CloudLogBackend({
    ...{ ...device, cloudEndpoint: cloud.url, log: captureLog().log, maxUnackedLines: 5000 },
  });
  await backend.connect();
  for (let i = 0; i < 40_000; i++) backend.log({ message: `line ${i}` });
  await until(() => backend.state.lines >= 5000);
  await until(() => cloud.lines.length === backend.state.lines);
  // A batch holds at most 2000 lines, so the last one goes over the bound by less than that.
  expect(backend.state.lines).toBeLessThan(7000);
  expect(backend.state.lag).toBe(40_000);
  cloud.acking = true;
  cloud.breakAll();
  await until(() => backend.state.lag === 0);
  expect(seqs(cloud)).toEqual(all(40_000));
});

test('streams are ended and opened anew in good order, without repeating a line', async () => {
  await using cloud = await startTestCloud();
  const { log, messages } = captureLog();
  await using backend = new CloudLogBackend({ ...device, cloudEndpoint: cloud.url, log, reopenMs: 50 });
  await backend.connect();
  let logged = 0;
  await until(() => {
    backend.log({ message: `line ${++logged}` });
    return cloud.requests.length > 4;
  });
  await until(() => backend.state.lag === 0);
  expect(seqs(cloud)).toEqual(all(logged));
  expect(cloud.repeated).toBe(0);
  expect(cloud.requests.slice(0, -1).every(({ endedWell }) => endedWell)).toBe(true);
  expect(messages(40)).toEqual([]);
  expect(messages(30)).toHaveLength(1);
});

test('a half-open connection is noticed by the missing acknowledgements', async () => {
  await using cloud = await startTestCloud();
  const { port } = new URL(cloud.url);
  await using proxy = await startTcpProxy({ port: Number(port) });
  const { log, messages } = captureLog();
  await using backend = new CloudLogBackend({
    ...{ ...device, cloudEndpoint: `http://127.0.0.1:${proxy.port}`, log, backoff, ackTimeoutMs: 200 },
  });
  await backend.connect();
  backend.log({ message: 'gets through' });
  await until(() => backend.state.lag === 0);
  proxy.freeze();
  backend.log({ message: 'into the void' });
  await until(() => messages(40).length > 0);
  expect(messages(40)[0]).toContain('acknowledges nothing');
  expect(backend.state.mode).toBe('stream');
  proxy.open();
  await until(() => backend.state.lag === 0);
  expect(seqs(cloud)).toEqual(all(2));
});

test('connect() resolves without a cloud, and delivery starts when there is one', async () => {
  await using cloud = await startTestCloud();
  const { port } = new URL(cloud.url);
  await using proxy = await startTcpProxy({ port: Number(port) });
  proxy.cut();
  const states: boolean[] = [];
  await using backend = new CloudLogBackend({
    ...{ ...device, cloudEndpoint: `http://127.0.0.1:${proxy.port}`, log: captureLog().log, backoff },
    onStateChange: ({ connected }) => states.push(connected),
  });
  await backend.connect();
  expect(backend.state.connected).toBe(false);
  for (let i = 0; i < 100; i++) backend.log({ message: `line ${i}` });
  proxy.open();
  await until(() => backend.state.lag === 0);
  proxy.cut();
  await until(() => !backend.state.connected);
  expect(states.filter((state, i) => state !== states[i - 1])).toEqual([false, true, false]);
});

test('disconnect() takes no longer than its limit when the cloud is silent', async () => {
  await using cloud = await startTestCloud();
  cloud.behaviour = 'hang';
  const backend = new CloudLogBackend({ ...device, cloudEndpoint: cloud.url, log: captureLog().log });
  const connecting = backend.connect();
  backend.log({ message: 'never confirmed' });
  await until(() => cloud.lines.length === 1);
  const started = performance.now();
  await backend.disconnect();
  expect(performance.now() - started).toBeLessThan(3000);
  await connecting;
});

test('HTTPS: a CA of our own, an unknown one, and a second connection after disconnect()', async () => {
  await using folder = await tempDir();
  const { ca, serverCert: cert, serverKey: key } = await makeCertificates(folder.path);
  await using cloud = await startTestCloud({ cert, key });
  const { log, messages } = captureLog();
  await using stranger = new CloudLogBackend({ ...device, cloudEndpoint: cloud.url, log, backoff });
  await stranger.connect();
  expect(stranger.state.connected).toBe(false);
  expect(messages(40)[0]).toMatch(/CLOUD_UNREACHABLE.*certificate/);
  await stranger.disconnect();
  const tls = { ca };
  await using backend = new CloudLogBackend({
    ...device,
    cloudEndpoint: cloud.url,
    tls,
    log: captureLog().log,
  });
  for (let life = 1; life <= 2; life++) {
    await backend.connect();
    expect(backend.state.connected).toBe(true);
    backend.log({ message: `life ${life}` });
    await until(() => backend.state.lag === 0);
    await backend.disconnect();
    expect(backend.state.connected).toBe(false);
  }
  expect(seqs(cloud)).toEqual(all(2));
});

test('an idle stream is kept alive, and its blank lines are no log lines', async () => {
  await using cloud = await startTestCloud();
  await using backend = new CloudLogBackend({
    ...{ ...device, cloudEndpoint: cloud.url, log: captureLog().log, heartbeatMs: 20 },
  });
  await backend.connect();
  backend.log({ message: 'one' });
  await until(() => backend.state.lag === 0);
  const before = backend.state.wireBytes;
  await until(() => backend.state.wireBytes > before + 40);
  backend.log({ message: 'two' });
  await until(() => backend.state.lag === 0);
  expect(cloud.requests.map(({ lines }) => lines)).toEqual([2]);
});
