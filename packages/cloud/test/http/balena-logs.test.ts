import { get as httpGet, type IncomingMessage } from 'node:http';
import type { BalenaLog } from '@millrace/wire';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { adminToken, startTestCloud, type TestCloud } from '../support/cloud.ts';

let cloud: TestCloud;
let key: string;
const startMs = 1_700_000_000_000;

beforeAll(async () => {
  cloud = await startTestCloud({ tuning: { tailHeartbeatMs: 50, tailMaxWaitingBytes: 64 * 1024 } });
  key = await cloud.register('balena');
  await post(
    [1, 2, 3, 4, 5].map((i) => ({
      message: `line ${i}`,
      timestamp: startMs + i,
      serviceId: 7,
      isStdErr: i === 3,
    })),
  );
});
afterAll(() => cloud[Symbol.asyncDispose]());

async function post(lines: object[]): Promise<void> {
  const response = await fetch(`${cloud.url}/device/v2/balena/log-stream`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}` },
    body: lines.map((line) => `${JSON.stringify(line)}\n`).join(''),
  });
  expect(response.status).toBe(201);
}

const messages = async (query: string, uuid = 'balena') => {
  const response = await cloud.get(`/device/v2/${uuid}/logs?${query}`);
  expect(response.status).toBe(200);
  return ((await response.json()) as BalenaLog[]).map(({ message }) => message);
};

test('a JSON array in the shape of balena, oldest first', async () => {
  const response = await cloud.get('/device/v2/balena/logs');
  expect(response.headers.get('content-type')).toBe('application/json; charset=utf-8');
  const logs = (await response.json()) as BalenaLog[];
  expect(logs).toHaveLength(5);
  expect(logs[2]).toEqual({
    message: 'line 3',
    createdAt: expect.any(Number),
    timestamp: startMs + 3,
    isSystem: false,
    isStdErr: true,
    serviceId: 7,
  });
});

test.each([
  ['count=2', ['line 4', 'line 5']],
  ['count=0', []],
  ['count=all', ['line 1', 'line 2', 'line 3', 'line 4', 'line 5']],
  [`start=${startMs + 4}`, ['line 4', 'line 5']],
  [`start=${new Date(startMs + 5).toISOString()}&count=all`, ['line 5']],
  [`start=${startMs + 6}&count=all`, []],
  [`start=${startMs}&count=1&stream=0`, ['line 5']],
])('%s', async (query, expected) => {
  expect(await messages(query)).toEqual(expected);
});

test.each([
  ['count=many', 400],
  ['count=10001', 400],
  ['start=yesterday', 400],
  ['stream=yes', 400],
  ['since=1', 400],
])('%s is refused', async (query, status) => {
  expect((await cloud.get(`/device/v2/balena/logs?${query}`)).status).toBe(status);
});

test('a device that is not known is not found, one without lines has none, and strangers see nothing', async () => {
  expect((await cloud.get('/device/v2/nobody/logs')).status).toBe(404);
  expect((await cloud.get('/device/v2/nobody/logs?stream=1')).status).toBe(404);
  await cloud.register('silent');
  expect(await messages('', 'silent')).toEqual([]);
  expect(await messages('count=all', 'silent')).toEqual([]);
  for (const headers of [{}, { authorization: `Bearer ${key}` }] as Record<string, string>[]) {
    expect((await fetch(`${cloud.url}/device/v2/balena/logs`, { headers })).status).toBe(401);
  }
});

/** Follows in the background. */
class Follower implements Disposable {
  text = '';
  response: IncomingMessage | undefined;
  readonly #request;

  constructor(query: string) {
    this.#request = httpGet(
      `${cloud.url}/device/v2/balena/logs?stream=1&${query}`,
      { headers: { authorization: `Bearer ${adminToken}` }, agent: false },
      (response) => {
        this.response = response;
        response.setEncoding('utf8').on('data', (text: string) => {
          this.text += text;
        });
      },
    );
    this.#request.on('error', () => undefined);
  }

  get logs(): BalenaLog[] {
    return this.text
      .split('\n')
      .slice(0, -1)
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as BalenaLog);
  }

  [Symbol.dispose](): void {
    this.#request.destroy();
  }
}

test('a stream shows the past that was asked for, then what arrives, with empty lines as heartbeat', async () => {
  using all = new Follower('count=all');
  using two = new Follower('count=2');
  using none = new Follower('');
  const followers = [all, two, none];
  await until(() => followers.every(({ text }) => text.endsWith('\n\n')), { what: 'heartbeats' });
  expect(all.response?.headers['content-type']).toBe('application/x-ndjson');
  await post([{ message: 'fresh', timestamp: startMs + 100 }]);
  await until(() => followers.every(({ logs }) => logs.some(({ message }) => message === 'fresh')), {
    what: 'the fresh line',
  });
  expect(followers.map(({ logs }) => logs.length)).toEqual([6, 3, 1]);
});

test('none is missed or shown twice where past and present meet', async () => {
  const count = 40;
  const sending = (async () => {
    for (let i = 0; i < count; i++) await post([{ message: `meets ${i}`, timestamp: startMs + 1000 + i }]);
  })();
  const followers = Array.from({ length: 6 }, () => new Follower('count=all'));
  try {
    await sending;
    const shown = (follower: Follower) =>
      follower.logs.map(({ message }) => message).filter((text) => text.startsWith('meets'));
    await until(() => followers.every((follower) => shown(follower).length >= count), {
      what: () => `all lines; there are ${followers.map((follower) => shown(follower).length)}`,
    });
    for (const follower of followers) {
      expect(shown(follower)).toEqual(Array.from({ length: count }, (_, i) => `meets ${i}`));
    }
  } finally {
    for (const follower of followers) follower[Symbol.dispose]();
  }
});

test('a slow reader is told how many lines it did not get', async () => {
  using slow = new Follower('');
  await until(() => slow.response, { what: 'the head' });
  slow.response?.pause();
  const padding = 'x'.repeat(10_000);
  for (let i = 0; i < 10; i++) {
    await post(
      Array.from({ length: 200 }, (_, j) => ({ message: `${i} ${j} ${padding}`, timestamp: startMs + 5000 })),
    );
  }
  slow.response?.resume();
  const told = await until(() => slow.logs.find(({ message }) => message.startsWith('Warning: Suppressed')), {
    what: 'the warning',
  });
  const got = slow.logs.filter(({ message }) => message.endsWith(padding)).length;
  expect(told).toMatchObject({
    message: `Warning: Suppressed ${2000 - got} message(s) due to slow reading`,
    isSystem: true,
    isStdErr: true,
  });
});
