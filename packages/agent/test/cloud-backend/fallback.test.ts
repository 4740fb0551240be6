import { expect, test } from 'vitest';
import { captureLog } from '../../../../tests/support/log.ts';
import { until } from '../../../../tests/support/wait.ts';
import { CloudLogBackend } from '../../src/logging/cloud-backend.ts';
import { startBufferingProxy, startTestCloud } from './test-cloud.ts';

const device = { deviceUuid: 'abc-123', apiKey: 'key' };
const backoff = { minMs: 20, maxMs: 100, refusedMs: 60 };

test.each([true, false])(
  'behind a proxy that buffers (requests too: %s) short requests take over',
  async (bufferRequest) => {
    await using cloud = await startTestCloud();
    await using proxy = await startBufferingProxy(cloud.url, { bufferRequest });
    const { log, messages } = captureLog();
    await using backend = new CloudLogBackend({
      ...{ ...device, cloudEndpoint: proxy.url, log, backoff, ackTimeoutMs: 200 },
    });
    const connecting = backend.connect();
    for (let i = 1; i <= 500; i++) backend.log({ message: `line ${i}` });
    await connecting;
    await until(() => backend.state.mode === 'short' && backend.state.lag === 0);
    expect(backend.state.connected).toBe(true);
    expect(messages(40)).toEqual([expect.stringContaining('short requests')]);
    for (let i = 501; i <= 5000; i++) backend.log({ message: `line ${i}` });
    await until(() => backend.state.lag === 0);
    expect(cloud.lines.map(({ seq }) => seq)).toEqual(Array.from({ length: 5000 }, (_, i) => i + 1));
    // The long request was ended, not broken: its lines were not sent twice.
    expect(cloud.repeated).toBe(0);
    expect(cloud.requests.at(-1)?.headers['content-length']).toBeDefined();
  },
);

test('a cloud that answers 201 at the end and never acknowledges is served by short requests', async () => {
  await using cloud = await startTestCloud();
  cloud.behaviour = 'created';
  await using backend = new CloudLogBackend({
    ...{ ...device, cloudEndpoint: cloud.url, log: captureLog().log, backoff, ackTimeoutMs: 200 },
  });
  const connecting = backend.connect();
  for (let i = 1; i <= 3000; i++) backend.log({ message: `line ${i}` });
  await connecting;
  await until(() => backend.state.lag === 0);
  for (let i = 3001; i <= 9000; i++) backend.log({ message: `line ${i}` });
  await until(() => backend.state.lag === 0);
  expect(cloud.lines.map(({ seq }) => seq)).toEqual(Array.from({ length: 9000 }, (_, i) => i + 1));
  expect(cloud.repeated).toBe(0);
  expect(backend.state.mode).toBe('short');
});

test('streaming is tried again after a while', async () => {
  await using cloud = await startTestCloud();
  cloud.behaviour = 'created';
  await using backend = new CloudLogBackend({
    ...{ ...device, cloudEndpoint: cloud.url, log: captureLog().log, backoff },
    ...{ ackTimeoutMs: 100, streamRetryMs: 300 },
  });
  const connecting = backend.connect();
  backend.log({ message: 'one' });
  await connecting;
  await until(() => backend.state.mode === 'short');
  cloud.behaviour = 'stream';
  await until(() => backend.state.mode === 'stream');
  backend.log({ message: 'two' });
  await until(() => backend.state.lag === 0);
  expect(cloud.requests.at(-1)?.headers['content-length']).toBeUndefined();
  expect(cloud.repeated).toBe(0);
});

test('a captive portal that answers 200 to everything confirms nothing', async () => {
  await using cloud = await startTestCloud();
  cloud.behaviour = 'portal';
  const { log, messages } = captureLog();
  await using backend = new CloudLogBackend({
    ...{ ...device, cloudEndpoint: cloud.url, log, backoff, ackTimeoutMs: 100 },
  });
  const connecting = backend.connect();
  backend.log({ message: 'one' });
  await connecting;
  await until(() => messages(40).some((text) => text.includes('answered 200 without confirming')));
  expect(backend.state.lag).toBe(1);
});

test('a proven stream that goes quiet once is tried again before falling back', async () => {
  await using cloud = await startTestCloud();
  await using backend = new CloudLogBackend({
    ...{ ...device, cloudEndpoint: cloud.url, log: captureLog().log, backoff, ackTimeoutMs: 100 },
  });
  await backend.connect();
  backend.log({ message: 'one' });
  await until(() => backend.state.lag === 0);
  cloud.behaviour = 'mute';
  cloud.acking = false;
  backend.log({ message: 'two' });
  await until(() => cloud.requests.length === 2);
  expect(backend.state.mode).toBe('stream');
  cloud.behaviour = 'stream';
  cloud.acking = true;
  await until(() => backend.state.lag === 0 || backend.state.mode === 'short');
  await until(() => backend.state.lag === 0);
  expect(cloud.lines).toHaveLength(2);
});
