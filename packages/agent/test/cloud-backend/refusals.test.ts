import { expect, test } from 'vitest';
import { captureLog } from '../../../../tests/support/log.ts';
import { until } from '../../../../tests/support/wait.ts';
import { Journal } from '../../src/journal/journal.ts';
import { CloudLogBackend } from '../../src/logging/cloud-backend.ts';
import { startTestCloud } from './test-cloud.ts';

const device = { deviceUuid: 'abc-123', apiKey: 'top-secret-key' };
const backoff = { minMs: 20, maxMs: 100, refusedMs: 60 };

test.each([401, 403])('%i is said clearly and once, and tried again slowly', async (status) => {
  await using cloud = await startTestCloud();
  cloud.behaviour = status;
  const { log, lines, messages, text } = captureLog();
  const slowly = { minMs: 1, maxMs: 1, refusedMs: 200 };
  await using backend = new CloudLogBackend({ ...device, cloudEndpoint: cloud.url, log, backoff: slowly });
  await backend.connect();
  backend.log({ message: 'waits' });
  await until(() => cloud.requests.length >= 3);
  expect(Number(lines[1]?.time) - Number(lines[0]?.time)).toBeGreaterThanOrEqual(195);
  expect(messages(40)).toHaveLength(1);
  expect(messages(40)[0]).toContain(`CLOUD_REFUSED: ${cloud.url} answered ${status}`);
  expect(backend.state.lastError).toContain('CLOUD_REFUSED');
  cloud.behaviour = 'stream';
  await until(() => backend.state.lag === 0);
  expect(text()).not.toContain('top-secret-key');
});

test.each([500, 502, 503, 408, 429])(
  '%i is tried again with growing pauses, and loses nothing',
  async (status) => {
    await using cloud = await startTestCloud();
    cloud.behaviour = status;
    const { log, messages } = captureLog();
    await using backend = new CloudLogBackend({ ...device, cloudEndpoint: cloud.url, log, backoff });
    await backend.connect();
    for (let i = 0; i < 1000; i++) backend.log({ message: `line ${i}` });
    await until(() => cloud.requests.length >= 3);
    cloud.behaviour = 'stream';
    await until(() => backend.state.lag === 0);
    expect(cloud.lines).toHaveLength(1000);
    expect(cloud.repeated).toBe(0);
    expect(messages(40)).toHaveLength(1);
  },
);

test('Retry-After is honoured', async () => {
  await using cloud = await startTestCloud();
  cloud.behaviour = 429;
  cloud.headers = { 'retry-after': '1' };
  await using backend = new CloudLogBackend({
    ...device,
    cloudEndpoint: cloud.url,
    log: captureLog().log,
    backoff,
  });
  const started = performance.now();
  await backend.connect();
  cloud.behaviour = 'stream';
  backend.log({ message: 'one' });
  await until(() => backend.state.lag === 0);
  expect(performance.now() - started).toBeGreaterThan(1000);
  expect(cloud.requests).toHaveLength(2);
});

test('a redirect is not followed', async () => {
  await using elsewhere = await startTestCloud();
  await using cloud = await startTestCloud();
  cloud.behaviour = 307;
  cloud.headers = { location: elsewhere.url };
  const { log, messages } = captureLog();
  await using backend = new CloudLogBackend({ ...device, cloudEndpoint: cloud.url, log, backoff });
  await backend.connect();
  await until(() => messages(40).length > 0);
  expect(messages(40)[0]).toContain('redirect');
  expect(elsewhere.requests).toHaveLength(0);
});

test.each([400, 413])(
  'a request refused with %i is halved until the line at fault is alone, which is given up',
  async (status) => {
    await using cloud = await startTestCloud();
    cloud.judge = (lines) => (lines.some(({ message }) => message === 'poison') ? status : undefined);
    const { log, lines } = captureLog();
    await using backend = new CloudLogBackend({
      ...{ ...device, cloudEndpoint: cloud.url, log, backoff, ackTimeoutMs: 150 },
    });
    for (let i = 1; i <= 5000; i++) {
      backend.log({ message: i === 77 || i === 78 || i === 4321 ? 'poison' : `line ${i}` });
    }
    await backend.connect();
    await until(() => backend.state.lag === 0);
    expect(backend.state).toMatchObject({ mode: 'short', refused: 3 });
    expect(cloud.lines.map(({ message }) => message)).toEqual(
      Array.from({ length: 5000 }, (_, i) => `line ${i + 1}`).filter((_, i) => ![76, 77, 4320].includes(i)),
    );
    expect(lines.filter(({ msg }) => msg.includes('given up')).map(({ seq }) => seq)).toEqual([77, 78, 4321]);
  },
);

test('a line that the cloud refuses for good is recorded as lost, and the record arrives', async () => {
  await using cloud = await startTestCloud();
  cloud.judge = (lines) => (lines.some(({ message }) => message === 'poison') ? 413 : undefined);
  await using journal = new Journal({ syncIntervalMs: 1 });
  const { log } = captureLog();
  await using backend = new CloudLogBackend({
    ...{ ...device, cloudEndpoint: cloud.url, log, backoff, ackTimeoutMs: 150 },
    feed: journal.cursor('cloud'),
  });
  for (const message of ['one', 'poison', 'three']) journal.append({ message, timestamp: 1 });
  await backend.connect();
  await until(() => cloud.lines.length === 3);
  expect(cloud.lines.map(({ message }) => message)).toEqual([
    'one',
    'three',
    'lost 1 line, seq 2: refused by the far end (on the way to cloud)',
  ]);
  await until(() => backend.state.lag === 0);
});

test('a cloud that refuses everything with 400 makes no line disappear', async () => {
  await using cloud = await startTestCloud();
  cloud.judge = () => 400;
  await using backend = new CloudLogBackend({
    ...{ ...device, cloudEndpoint: cloud.url, log: captureLog().log, backoff, ackTimeoutMs: 100 },
  });
  for (let i = 1; i <= 20; i++) backend.log({ message: `line ${i}` });
  await backend.connect();
  await until(() => cloud.requests.length > 15);
  expect(backend.state).toMatchObject({ refused: 0, lag: 20 });
  cloud.judge = undefined;
  await until(() => backend.state.lag === 0);
  expect(cloud.lines).toHaveLength(20);
});

test('a line that is refused just before the cloud takes everything again is sent again, not given up', async () => {
  await using cloud = await startTestCloud();
  let refuses = true;
  cloud.judge = (lines) => {
    if (!refuses) return undefined;
    // The refusal of the one line is the last; the request without lines that follows is accepted.
    if (lines.length === 1) refuses = false;
    return 413;
  };
  await using backend = new CloudLogBackend({
    ...{ ...device, cloudEndpoint: cloud.url, log: captureLog().log, backoff, ackTimeoutMs: 150 },
  });
  for (let i = 1; i <= 20; i++) backend.log({ message: `line ${i}` });
  await backend.connect();
  await until(() => backend.state.lag === 0);
  expect(refuses).toBe(false);
  expect(backend.state).toMatchObject({ refused: 0 });
  expect(cloud.lines).toHaveLength(20);
});

test.each([
  ['cloudEndpoint', { cloudEndpoint: 'cloud.example.com' }],
  ['cloudEndpoint', { cloudEndpoint: 'mqtt://cloud' }],
  ['apiKey', { cloudEndpoint: 'https://user:pass@cloud' }],
  ['cloudEndpoint', { cloudEndpoint: 'https://cloud?key=1' }],
  ['deviceUuid', { deviceUuid: '' }],
  ['apiKey', { apiKey: '' }],
  ['apiKey', { apiKey: 'bad\nheader' }],
  ['compression', { compression: 'zstd' }],
  ['ackTimeoutMs', { ackTimeoutMs: 0 }],
  ['maxUnackedBytes', { maxUnackedBytes: -1 }],
])('a wrong option is named when the backend is made: %s %o', (named, wrong) => {
  const options = { ...device, cloudEndpoint: 'https://cloud.example.com', log: captureLog().log };
  const make = () => new CloudLogBackend({ ...options, ...(wrong as object) });
  expect(make).toThrow('OPTION_INVALID');
  expect(make).toThrow(named);
});

test('an unencrypted way to another machine is warned of', () => {
  const { log, messages } = captureLog();
  new CloudLogBackend({ ...device, cloudEndpoint: 'http://cloud.example.com', log });
  expect(messages(40)[0]).toContain('unencrypted');
  new CloudLogBackend({ ...device, cloudEndpoint: 'http://127.0.0.1:8080', log });
  expect(messages(40)).toHaveLength(1);
});
