import { expect, test, vi } from 'vitest';
import { FolderDisk } from '../packages/agent/src/journal/disk.ts';
import { Journal } from '../packages/agent/src/journal/journal.ts';
import { CloudLogBackend } from '../packages/agent/src/logging/cloud-backend.ts';
import { MqttLogBackend } from '../packages/agent/src/logging/mqtt-backend.ts';
import type { Feed } from '../packages/agent/src/logging/types.ts';
import { startBufferingProxy } from '../packages/agent/test/cloud-backend/test-cloud.ts';
import { adminToken, startTestCloud, type TestCloud } from './support/cloud.ts';
import { captureLog } from './support/log.ts';
import { startTcpProxy } from './support/tcp-proxy.ts';
import { tempDir } from './support/tmp.ts';
import { until } from './support/wait.ts';

const backlogLines = 60_000;
/** The backlog takes some twelve seconds over such an uplink. */
const upBytesPerSecond = 75_000;
/**
 * How much of the backlog may go by while a fresh line is on its way: all that is left of it, were there one lane. It is a
 * twentieth on a quiet machine, and a quarter has been seen on one with ten times the work it can do.
 */
const goesByLines = backlogLines / 2;
const uuid = 'device-with-backlog';
const apiKey = 'a-device-key-for-tests';
const backoff = { minMs: 20, maxMs: 100 };
/** What is on its way takes ten seconds over that uplink, and longer where the machine has others to serve. */
const ackTimeoutMs = 120_000;

vi.setConfig({ testTimeout: 300_000 });

interface Backend extends AsyncDisposable {
  connect(): Promise<void>;
  readonly state: { lag: number };
}

/** Messages of the service `now` as the live tail shows them. */
async function tailFresh(cloud: TestCloud): Promise<{ seen: Set<string> } & AsyncDisposable> {
  const over = new AbortController();
  const response = await fetch(`${cloud.url}/api/v1/logs/tail?service=now`, {
    headers: { authorization: `Bearer ${adminToken}` },
    signal: over.signal,
  });
  const seen = new Set<string>();
  const reading = (async () => {
    for await (const text of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      for (const [, message] of text.matchAll(/"message":"([^"]*)"/g)) seen.add(message as string);
    }
  })().catch(() => undefined);
  return {
    seen,
    async [Symbol.asyncDispose]() {
      over.abort();
      await reading;
    },
  };
}

async function drainSlowly(
  target: (cloud: TestCloud) => number,
  open: (port: number, feed: Feed) => Backend,
) {
  await using dir = await tempDir();
  await using cloud = await startTestCloud();
  await cloud.register(uuid, apiKey);
  await using proxy = await startTcpProxy({ port: target(cloud) });
  await using journal = new Journal({ disk: new FolderDisk(`${dir.path}/journal`) });
  const feed = journal.cursor('far');
  proxy.cut();
  for (let i = 1; i <= backlogLines; i++) {
    const message = `GET /items/${i} ${(i * 7919) % 1000} ms for ${(i * 104_729) % 100_003}`;
    journal.append({ message, serviceName: 'before', timestamp: 1.7e12 + i });
    if (i % 5000 === 0) await journal.ready();
  }
  await journal.flush();
  await using tail = await tailFresh(cloud);
  await using backend = open(proxy.port, feed);
  await backend.connect();
  let fresh = 0;
  const known = async () => {
    const { devices } = await cloud.get<{ devices: { lines: number; missing: number }[] }>('/api/v1/devices');
    return devices[0] ?? { lines: 0, missing: 0 };
  };
  /** Prints a line now, and returns how many others were stored until the tail shows it. */
  const passedBy = async () => {
    const message = `fresh ${++fresh}`;
    const { lines } = await known();
    journal.append({ message, serviceName: 'now' });
    await until(() => tail.seen.has(message), { what: `${message} in the tail` });
    return (await known()).lines - lines;
  };

  proxy.slow(upBytesPerSecond);
  proxy.open();
  const passed = [await passedBy()];
  // Lines written all the while are not held up either, and the backlog is not held up by them.
  const first = await known();
  for (let i = 0; i < 3; i++) passed.push(await passedBy());
  await until(async () => (await known()).lines > first.lines + 1000, { what: 'the backlog to move' });
  passed.push(await passedBy());
  const during = await known();
  expect(Math.max(...passed), `lines before each fresh one: ${passed}`).toBeLessThan(goesByLines);
  expect(during.lines).toBeLessThan(backlogLines * 0.9);
  // The tail shows a line before it is stored, so the gap may take a moment to be seen.
  await until(async () => (await known()).missing > backlogLines / 10, { what: 'the gap to be seen' });

  await passedBy();
  // All has been seen that takes a slow uplink.
  proxy.slow(100 * upBytesPerSecond);
  await until(() => backend.state.lag === 0, { timeoutMs: 200_000, what: () => `lag ${backend.state.lag}` });
  expect(await known()).toMatchObject({ lines: backlogLines + fresh, missing: 0 });
  const seqs = (await cloud.linesOf('before')).map(({ seq }) => seq);
  expect(seqs).toEqual(Array.from({ length: backlogLines }, (_, i) => i + 1));
  expect((await cloud.linesOf('now')).length).toBe(fresh);
}

test('after an outage fresh lines do not wait behind the backlog, and each line is stored once (HTTP)', async () => {
  const { log, messages } = captureLog();
  await drainSlowly(
    (cloud) => Number(new URL(cloud.url).port),
    (port, feed) =>
      new CloudLogBackend({
        ...{ cloudEndpoint: `http://127.0.0.1:${port}`, deviceUuid: uuid, apiKey, feed, log, backoff },
        ackTimeoutMs,
      }),
  );
  expect(messages(40).filter((message) => !message.includes('ECONNRESET'))).toEqual([]);
});

test('after an outage fresh lines do not wait behind the backlog, and each line is stored once (MQTT, acknowledged by the cloud)', async () => {
  const { log } = captureLog();
  await drainSlowly(
    (cloud) => cloud.mqttPort,
    (port, feed) =>
      new MqttLogBackend({
        ...{ brokerUrl: `mqtt://127.0.0.1:${port}`, clientOptions: { username: uuid, password: apiKey } },
        ...{ baseTopic: 'device/logs', ack: 'cloud', deviceUuid: uuid, feed, log, backoff },
        ackTimeoutMs,
      }),
  );
});

test('with short requests the lanes take turns, and each line is stored once', async () => {
  await using dir = await tempDir();
  await using cloud = await startTestCloud();
  await cloud.register(uuid, apiKey);
  await using proxy = await startBufferingProxy(cloud.url, { bufferRequest: true });
  await using journal = new Journal({ disk: new FolderDisk(`${dir.path}/journal`) });
  const feed = journal.cursor('far');
  const { log } = captureLog();
  await using backend = new CloudLogBackend({
    ...{ cloudEndpoint: proxy.url, deviceUuid: uuid, apiKey, feed, log, backoff, ackTimeoutMs: 1000 },
  });
  await backend.connect();
  journal.append({ message: 'first', serviceName: 'before' });
  await until(() => backend.state.mode === 'short' && backend.state.lag === 0);
  const total = 60_000;
  for (let i = 2; i <= total; i++) journal.append({ message: `line ${i}`, serviceName: 'before' });
  journal.append({ message: 'fresh', serviceName: 'now' });
  await until(() => backend.state.lag === 0, { timeoutMs: 200_000 });
  expect(await cloud.lineCount()).toBe(total + 1);
  expect((await cloud.linesOf('before')).map(({ seq }) => seq)).toEqual(
    Array.from({ length: total }, (_, i) => i + 1),
  );
  expect(await cloud.linesOf('now')).toHaveLength(1);
});
