import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import type { AppState, LogMessage } from '@millrace/wire';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { captureLog } from '../../../../tests/support/log.ts';
import { until } from '../../../../tests/support/wait.ts';
import { ApiBinder, type ApiBinderOptions } from '../../src/api-binder.ts';

interface Report {
  path: string;
  key: string | undefined;
  atMs: number;
  state: Record<string, unknown>;
}

/** A cloud that takes reports, and answers as it is told. */
async function startFarEnd() {
  const reports: Report[] = [];
  let status = 200;
  let headers: Record<string, string> = {};
  const server = createServer(async (request: IncomingMessage, response) => {
    const body = JSON.parse(await text(request)) as Record<string, Record<string, unknown>>;
    reports.push({
      path: `${request.method} ${request.url}`,
      key: request.headers.authorization,
      atMs: performance.now(),
      state: body.here as Record<string, unknown>,
    });
    response.writeHead(status, headers).end('{}');
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return {
    reports,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/base/`,
    answer(code: number, more: Record<string, string> = {}) {
      status = code;
      headers = more;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

const log = pino({ level: 'silent' });
const day = 86_400_000;

function binder(cloudEndpoint: string, options: Partial<ApiBinderOptions> = {}): ApiBinder {
  return new ApiBinder({
    cloudEndpoint,
    deviceUuid: 'here',
    apiKey: 'the-key-of-this-device',
    agentVersion: '1.2.3',
    meter: { read: async () => ({ cpu_usage: 5, memory_usage: 100, memory_total: 1000 }) },
    log,
    minIntervalMs: 1,
    metricsIntervalMs: day,
    sampleIntervalMs: 0,
    ...options,
  });
}

test('the first report is whole, the next ones hold what changed, and no change is no report', async () => {
  await using farEnd = await startFarEnd();
  let apps: Record<string, AppState> = {};
  await using reporter = binder(farEnd.url, { apps: async () => apps });
  await reporter.reportCurrentState();
  expect(farEnd.reports).toMatchObject([
    {
      path: 'PATCH /base/api/v3/device/state',
      key: 'Bearer the-key-of-this-device',
      state: { agent_version: '1.2.3', architecture: process.arch, cpu_usage: 5, apps: {} },
    },
  ]);
  await reporter.reportCurrentState();
  expect(farEnd.reports).toHaveLength(1);
  apps = { '7': { releases: { r1: { services: { web: { image: 'nginx', status: 'Running' } } } } } };
  await reporter.reportCurrentState();
  expect(farEnd.reports[1]?.state).toEqual({ apps });
  expect(reporter.state).toMatchObject({ reports: 2, lastError: undefined });
});

test('a change is told soon, several within the interval in one report', async () => {
  await using farEnd = await startFarEnd();
  let apps: Record<string, AppState> = {};
  await using reporter = binder(farEnd.url, { apps: async () => apps, minIntervalMs: 200 });
  reporter.start();
  await until(() => farEnd.reports.length === 1);
  for (const name of ['a', 'b', 'c']) {
    apps = { ...apps, [name]: { releases: {} } };
    reporter.noteChange();
  }
  await until(() => farEnd.reports.length === 2);
  expect(Object.keys(farEnd.reports[1]?.state.apps as object)).toEqual(['a', 'b', 'c']);
  const [first, second] = farEnd.reports as [Report, Report];
  // Timers of Node may fire a millisecond early.
  expect(second.atMs - first.atMs).toBeGreaterThanOrEqual(195);
});

test('metrics are reported when they have moved, and in their time whether they have or not', async () => {
  await using farEnd = await startFarEnd();
  let cpu_usage = 5;
  await using moving = binder(farEnd.url, { meter: { read: async () => ({ cpu_usage }) } });
  await moving.reportCurrentState();
  cpu_usage = 20;
  await moving.reportCurrentState();
  expect(farEnd.reports).toHaveLength(1);
  cpu_usage = 40;
  await moving.reportCurrentState();
  expect(farEnd.reports[1]?.state).toEqual({ cpu_usage: 40 });

  await using regular = binder(farEnd.url, {
    meter: { read: async () => ({ uptime: performance.now() }) },
    metricsIntervalMs: 0,
  });
  await regular.reportCurrentState();
  await regular.reportCurrentState();
  expect(farEnd.reports[3]?.state).toEqual({ uptime: expect.any(Number) });
});

test('an outage piles nothing up: afterwards one report says how things are', async () => {
  await using farEnd = await startFarEnd();
  const captured = captureLog();
  let apps: Record<string, AppState> = {};
  await using reporter = binder(farEnd.url, {
    apps: async () => apps,
    backoff: { minMs: 1, maxMs: 5 },
    log: captured.log,
  });
  farEnd.answer(503);
  reporter.start();
  for (const name of ['a', 'b', 'c']) {
    apps = { [name]: { releases: {} } };
    reporter.noteChange();
    const before = farEnd.reports.length;
    await until(() => farEnd.reports.length > before + 1);
  }
  expect(reporter.state.lastError).toMatch(/CLOUD_UNREACHABLE: http:\/\/127.0.0.1:\d+\S* answered 503/);
  farEnd.answer(200);
  await until(() => reporter.state.reports === 1);
  // Each attempt was whole, and none was a backlog of the ones before.
  expect(farEnd.reports.at(-1)?.state).toMatchObject({
    agent_version: '1.2.3',
    apps: { c: { releases: {} } },
  });
  expect(reporter.state.lastError).toBeUndefined();
  // Said once, not with each attempt.
  expect(captured.messages(40)).toEqual(['the state could not be reported; trying again']);
});

test('a cloud that asks for time gets it, and one that refuses is not asked all the time', async () => {
  await using farEnd = await startFarEnd();
  await using reporter = binder(farEnd.url);
  farEnd.answer(429, { 'retry-after': '120' });
  await expect(reporter.reportCurrentState()).rejects.toMatchObject({
    code: 'CLOUD_UNREACHABLE',
    afterMs: 120_000,
  });
  farEnd.answer(401);
  await expect(reporter.reportCurrentState()).rejects.toMatchObject({
    code: 'CLOUD_REFUSED',
    afterMs: 300_000,
  });
  farEnd.answer(302, { location: 'http://elsewhere.example.com/' });
  await expect(reporter.reportCurrentState()).rejects.toMatchObject({ code: 'CLOUD_REFUSED' });
});

test('an unreachable cloud is told of without the key', async () => {
  await using reporter = binder('http://127.0.0.1:1');
  const failure = await reporter.reportCurrentState().catch((error: Error) => error);
  expect(String(failure)).toContain('CLOUD_UNREACHABLE: http://127.0.0.1:1');
  expect(String(failure)).not.toContain('the-key-of-this-device');
});

test('it stops in the middle of a request that nobody answers', async () => {
  const silent = createServer(() => undefined);
  await new Promise<void>((done) => silent.listen(0, '127.0.0.1', done));
  const asked = new Promise((resolve) => silent.once('request', resolve));
  {
    await using reporter = binder(`http://127.0.0.1:${(silent.address() as AddressInfo).port}`);
    reporter.start();
    await asked;
  }
  silent.closeAllConnections();
  await new Promise((done) => silent.close(done));
});

test('the newest lines come with the metrics, as many as a report may hold', async () => {
  await using farEnd = await startFarEnd();
  const asked: unknown[] = [];
  const line = (i: number) => ({ id: `abcdefgh-${i}`, message: 'x'.repeat(10_000) }) as LogMessage;
  const recentLogs = {
    getLogs: async (query: unknown) => {
      asked.push(query);
      return Array.from({ length: 100 }, (_, i) => line(i + 1));
    },
  };
  await using reporter = binder(farEnd.url, {
    recentLogs,
    metricsIntervalMs: 300_000,
    sampleIntervalMs: 60_000,
  });
  const now = Date.now();
  await reporter.reportCurrentState();
  expect(asked).toEqual([{ since: expect.any(Number), limit: 1000 }]);
  expect((asked[0] as { since: number }).since - now).toBeCloseTo(-360_000, -3);
  const lines = farEnd.reports[0]?.state.recent_logs as LogMessage[];
  expect(lines.at(-1)?.id).toBe('abcdefgh-100');
  expect(lines).toHaveLength(52);
  // Not with a report that has no metrics.
  await reporter.reportCurrentState();
  expect(asked).toHaveLength(1);
});
