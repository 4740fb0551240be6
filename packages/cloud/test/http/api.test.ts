import { encodeHeader } from '@millrace/wire';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { adminToken, joinKey, type Line, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { batch } from '../support/stream-client.ts';

let cloud: TestCloud;
let key: string;

beforeAll(async () => {
  cloud = await startTestCloud();
  key = await cloud.register('dev-1');
  const lines = [
    {
      message: 'Connection refused by db',
      timestamp: 1000,
      level: 'error',
      serviceName: 'web',
      isStdErr: true,
    },
    { message: 'connection opened', timestamp: 2000, serviceName: 'web' },
    { message: 'cache warm', timestamp: 3000, level: 'debug', serviceName: 'cache' },
    {
      message: "it's 100% \\ done_",
      timestamp: 4000,
      level: 'warn',
      serviceName: 'cache',
      fields: { ms: 5 },
    },
  ];
  const header = {
    batch: { journal: 'journal0api', first: 1, count: lines.length, levels: [1, 1, 1, 1], sealed: 0 },
  };
  await post('dev-1', `${[header, ...lines].map((line) => JSON.stringify(line)).join('\n')}\n`);
});
afterAll(() => cloud[Symbol.asyncDispose]());

async function post(uuid: string, body: string, deviceKey = key): Promise<void> {
  const response = await fetch(`${cloud.url}/device/v2/${uuid}/log-stream`, {
    method: 'POST',
    headers: { authorization: `Bearer ${deviceKey}` },
    body,
  });
  expect(response.status).toBe(201);
}

const seqs = async (query: string) => (await cloud.search(query)).map(({ seq }) => seq);

test('every filter finds what it says', async () => {
  expect(await seqs('')).toEqual([4, 3, 2, 1]);
  expect(await seqs('order=asc')).toEqual([1, 2, 3, 4]);
  expect(await seqs('order=asc&limit=2')).toEqual([1, 2]);
  expect(await seqs('device=dev-1&service=web')).toEqual([2, 1]);
  expect(await seqs('device=dev-2')).toEqual([]);
  expect(await seqs('level=error')).toEqual([1]);
  expect(await seqs('level=warn%2B')).toEqual([4, 1]);
  expect(await seqs('level=debug,info')).toEqual([3, 2]);
  expect(await seqs('stream=stderr')).toEqual([1]);
  expect(await seqs('stream=stdout')).toEqual([4, 3, 2]);
  expect(await seqs('text=connection')).toEqual([2, 1]);
  expect(await seqs('text=CONNECTION%20refused')).toEqual([1]);
  expect(await seqs('text=connection&text=opened')).toEqual([2]);
  expect(await seqs("text=it's")).toEqual([4]);
  expect(await seqs('text=100%25')).toEqual([4]);
  expect(await seqs('text=%5C')).toEqual([4]);
  expect(await seqs('text=done_')).toEqual([4]);
  expect(await seqs('since=2000&until=4000')).toEqual([3, 2]);
  expect(await seqs('since=1970-01-01T00:00:03Z')).toEqual([4, 3]);
  expect(await seqs('since=10m')).toEqual([]);
});

test('a line is shown with all that is known of it', async () => {
  const [line] = await cloud.search('text=done_');
  expect(line).toEqual({
    id: 'journal0api-4',
    device: 'dev-1',
    message: "it's 100% \\ done_",
    timestamp: 4000,
    level: 'warn',
    source: { type: 'container', name: 'cache' },
    serviceName: 'cache',
    isStdErr: false,
    isSystem: false,
    seq: 4,
    fields: { ms: 5 },
    receivedAt: expect.any(Number),
  });
});

test.each(['asc', 'desc'])('pages follow one another without a gap or a repeat (%s)', async (order) => {
  const all = await seqs(`order=${order}`);
  const paged: (number | undefined)[] = [];
  let cursor: string | undefined;
  do {
    const response = await cloud.get(
      `/api/v1/logs?order=${order}&limit=1${cursor ? `&cursor=${cursor}` : ''}`,
    );
    const page = (await response.json()) as { logs: Line[]; cursor?: string };
    paged.push(...page.logs.map(({ seq }) => seq));
    cursor = page.cursor;
  } while (cursor);
  expect(paged).toEqual(all);
});

test.each([
  ['limit=0', 'limit'],
  ['limit=10001', 'limit'],
  ['limit=-1', 'limit'],
  ['limit=1&limit=2', 'limit'],
  ['level=loud', 'level'],
  ['stream=both', 'stream'],
  ['since=soon', 'since'],
  ['until=2026-99-99', 'until'],
  ['order=sideways', 'order'],
  ['cursor=nonsense', 'cursor'],
  ['cursor=', 'cursor'],
  ['device=a&device=b', 'device'],
  ['service=a&service=b', 'service'],
  ['colour=red', 'colour'],
  ['__proto__=x', '__proto__'],
])('the query %s is refused by name', async (query, name) => {
  const response = await cloud.get(`/api/v1/logs?${query}`);
  expect(response.status).toBe(400);
  expect(response.headers.get('content-type')).toBe('application/problem+json');
  const problem = (await response.json()) as { code: string; detail: string; status: number };
  expect(problem).toMatchObject({ code: 'PARAMETER_INVALID', status: 400 });
  expect(problem.detail).toContain(name);
});

test('the API is for admins alone', async () => {
  for (const path of [
    '/api/v1/logs',
    '/api/v1/logs/context',
    '/api/v1/logs/facets',
    '/api/v1/logs/histogram',
    '/api/v1/logs/tail',
    '/api/v1/devices',
    '/api/v1/patterns',
    '/api/v1/export',
    '/device/v2/dev-1/logs',
    '/api/v1/openapi.json',
  ]) {
    for (const authorization of [
      undefined,
      'Bearer wrong',
      `Bearer ${key}`,
      `Bearer ${joinKey}`,
      `Basic ${adminToken}`,
    ]) {
      const response = await fetch(`${cloud.url}${path}`, {
        headers: authorization ? { authorization } : {},
      });
      expect(response.status, `${path} with ${authorization}`).toBe(401);
      expect(await response.json()).toMatchObject({ code: 'UNAUTHORIZED' });
    }
    // Not in the URL either, which ends up in histories and logs.
    expect((await fetch(`${cloud.url}${path}?token=${adminToken}`)).status).toBe(401);
  }
});

test('what is not there is said to be so', async () => {
  for (const [method, path] of [
    ['GET', '/'],
    ['GET', '/api/v1/nothing'],
    ['POST', '/api/v1/logs'],
    ['GET', '/device/v2/x/log-stream'],
    ['GET', '/%E0%A4%A'],
  ] as const) {
    const response = await fetch(`${cloud.url}${path}`, { method });
    expect(response.status).toBe(404);
    expect(response.headers.get('content-type')).toBe('application/problem+json');
    expect(await response.json()).toMatchObject({ code: 'NOT_FOUND' });
  }
});

test('the OpenAPI document tells of errors as they are sent', async () => {
  const { paths } = (await (await cloud.get('/api/v1/openapi.json')).json()) as {
    paths: Record<string, Record<string, { responses: Record<string, { content: object }> }>>;
  };
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { responses }]) => ({ name: `${method} ${path}`, responses })),
  );
  expect(operations.length).toBeGreaterThan(50);
  for (const { name, responses } of operations) {
    if (name === 'get /healthz') continue;
    for (const range of ['4XX', '5XX']) {
      expect(Object.keys(responses[range]?.content ?? {}), `${range} of ${name}`).toEqual([
        'application/problem+json',
      ]);
    }
  }
});

test('devices are listed with what is known of them', async () => {
  await cloud.register('silent');
  const { devices } = (await (await cloud.get('/api/v1/devices')).json()) as {
    devices: Record<string, unknown>[];
  };
  expect(devices).toEqual([
    {
      uuid: 'dev-1',
      name: null,
      fleet: null,
      tags: {},
      registered: true,
      // Its stream has ended.
      online: false,
      onlineChangedAt: expect.any(Number),
      apps: [],
      reportedAt: null,
      createdAt: expect.any(Number),
      firstSeen: expect.any(Number),
      lastSeen: expect.any(Number),
      lines: 4,
      bytes: expect.any(Number),
      clockSkewMs: null,
      missing: 0,
    },
    expect.objectContaining({
      uuid: 'silent',
      registered: true,
      lines: 0,
      bytes: 0,
      missing: 0,
      firstSeen: null,
      lastSeen: null,
    }),
  ]);
  expect((await cloud.get('/api/v1/devices?x=1')).status).toBe(400);
});

test('a gap is shown as long as its lines have not come', async () => {
  const deviceKey = await cloud.register('gaps');
  const gaps = async () =>
    ((await (await cloud.get('/api/v1/devices/gaps/gaps')).json()) as { gaps: unknown[] }).gaps;
  const send = (first: number, count: number) => post('gaps', batch('journal01', first, count), deviceKey);
  const startMs = Date.now();
  expect(await gaps()).toEqual([]);
  await send(1, 10);
  await send(21, 10);
  await send(36, 1);
  const first = { journal: 'journal01', from: 11, to: 20, lines: 10, since: expect.any(Number) };
  const second = { journal: 'journal01', from: 31, to: 35, lines: 5, since: expect.any(Number) };
  expect(await gaps()).toEqual([first, second]);
  const [{ since }] = (await gaps()) as [{ since: number }];
  expect(since).toBeGreaterThanOrEqual(startMs);
  expect(since).toBeLessThanOrEqual(Date.now());
  await send(11, 4);
  await send(18, 3);
  expect(await gaps()).toEqual([{ ...first, from: 15, to: 17, lines: 3 }, second]);
  await send(15, 3);
  await send(31, 5);
  expect(await gaps()).toEqual([]);
});

test('lines that are stored under another journal id are no gap', async () => {
  const deviceKey = await cloud.register('repeats');
  const ask = async () => {
    const { devices } = (await (await cloud.get('/api/v1/devices')).json()) as {
      devices: { uuid: string; lines: number; missing: number }[];
    };
    const gaps = (await (await cloud.get('/api/v1/devices/repeats/gaps')).json()) as { gaps: unknown[] };
    const { lines, missing } = devices.find(({ uuid }) => uuid === 'repeats') ?? {};
    return { lines, missing, ...gaps };
  };
  await post('repeats', batch('journal01', 1, 20), deviceKey);
  // What was seq 11 of the journal before is seq 2 of this one.
  const again = (first: number, from: number, count: number) => {
    const [, ...lines] = batch('journal02', from, count).split('\n');
    const header = { journal: 'journal02', first, count, levels: [0, count, 0, 0], sealed: 1 };
    const text = encodeHeader({ ...header, levels: [0, count, 0, 0], overlaps: [['journal01', 11]] });
    return post('repeats', `${text}${lines.join('\n')}`, deviceKey);
  };
  await again(1, 100, 1);
  await again(12, 21, 5);
  expect(await ask()).toMatchObject({ lines: 26, missing: 10, gaps: [{ from: 2, to: 11, lines: 10 }] });
  await again(2, 11, 10);
  expect(await ask()).toEqual({ lines: 26, missing: 0, gaps: [] });
});

test('nothing is missing of devices that do not number their lines, whoever else sends meanwhile', async () => {
  const keys = { plain1: await cloud.register('plain1'), plain2: await cloud.register('plain2') };
  for (const uuid of ['plain1', 'plain2', 'plain1', 'plain2'] as const) {
    await post(uuid, '{"message":"plain"}\n', keys[uuid]);
  }
  for (const uuid of Object.keys(keys)) {
    const device = await (await cloud.get(`/api/v1/devices/${uuid}`)).json();
    expect(device).toMatchObject({ lines: 2, missing: 0 });
    expect(await (await cloud.get(`/api/v1/devices/${uuid}/gaps`)).json()).toEqual({ gaps: [] });
  }
});

test('everyone may ask whether all is well', async () => {
  const response = await fetch(`${cloud.url}/healthz`);
  expect(response.status).toBe(200);
  expect(await response.json()).toEqual({
    status: 'ok',
    checks: { store: 'ok', records: 'ok', broker: 'ok' },
  });
});

test('answers are marked as nothing to be kept or guessed at', async () => {
  const response = await cloud.get('/api/v1/devices');
  expect(response.headers.get('x-content-type-options')).toBe('nosniff');
  expect(response.headers.get('cache-control')).toBe('no-store');
  expect(response.headers.get('access-control-allow-origin')).toBeNull();
});

const register = (body: unknown, token = joinKey) =>
  fetch(`${cloud.url}/device/register`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });

test('a device registers with the join key, and sends with its own', async () => {
  const own = 'a-key-of-my-own-making';
  const first = await register({ uuid: 'new', api_key: own, name: 'Hall', device_type: 'raspberrypi4-64' });
  expect(first.status).toBe(201);
  expect(await first.json()).toEqual({ uuid: 'new', api_key: own });
  const again = await register({ uuid: 'new', api_key: own });
  expect(again.status).toBe(200);
  expect(await again.json()).toEqual({ uuid: 'new', api_key: own });
  const other = await register({ uuid: 'new', api_key: 'another-key-altogether' });
  expect(other.status).toBe(409);
  expect(await other.json()).toMatchObject({ code: 'CONFLICT' });
  await post('new', batch('journal0new', 1, 1), own);
  const made = (await (await register({ uuid: 'keyless' })).json()) as { api_key: string };
  await post('keyless', batch('journal0new', 1, 1), made.api_key);
});

test.each([
  ['no JSON', '{', 'BODY_INVALID'],
  ['no object', '[]', 'BODY_INVALID'],
  ['nothing', '', 'BODY_INVALID'],
  ['no uuid', {}, 'BODY_INVALID'],
  ['a bad uuid', { uuid: 'a/b' }, 'BODY_INVALID'],
  ['a number for a uuid', { uuid: 5 }, 'BODY_INVALID'],
  ['a short key', { uuid: 'x', api_key: 'short' }, 'BODY_INVALID'],
  ['a long key', { uuid: 'x', api_key: 'x'.repeat(513) }, 'BODY_INVALID'],
  ['an endless body', { uuid: 'x', name: 'x'.repeat(100_000) }, 'BODY_TOO_LARGE'],
])('registering with %s is refused', async (_name, body, code) => {
  const response = await register(body);
  expect(response.status).toBe(code === 'BODY_TOO_LARGE' ? 413 : 400);
  expect(await response.json()).toMatchObject({ code });
});

test('registering takes the join key and no other', async () => {
  for (const token of ['wrong-join-key', adminToken, key]) {
    const response = await register({ uuid: 'intruder' }, token);
    expect(response.status).toBe(401);
  }
  const { devices } = (await (await cloud.get('/api/v1/devices')).json()) as { devices: { uuid: string }[] };
  expect(devices.map(({ uuid }) => uuid)).not.toContain('intruder');
});

test('a type without a body is no body, where none is needed', async () => {
  const ask = async (method: string, path: string) => {
    const headers = { authorization: `Bearer ${adminToken}`, 'content-type': 'application/json' };
    const response = await fetch(`${cloud.url}/api/v1${path}`, { method, headers });
    return { status: response.status, body: await response.json() };
  };
  expect(await ask('DELETE', '/devices/nobody/logs')).toEqual({ status: 200, body: { lines: 0, bytes: 0 } });
  expect(await ask('POST', '/policies')).toMatchObject({
    status: 400,
    body: { detail: 'the body is empty' },
  });
});

test('no secret is logged', () => {
  const all = cloud.logged.join('');
  for (const secret of [adminToken, joinKey, key, 'a-key-of-my-own-making', 'Bearer '])
    expect(all).not.toContain(secret);
});
