import mqtt from 'mqtt';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { adminToken, joinKey, type Line, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { batch, StreamClient } from '../support/stream-client.ts';
import { followTail } from '../support/tail-follower.ts';

let cloud: TestCloud;
const keys = new Map<string, string>();

interface Answer {
  status: number;
  body: Record<string, unknown>;
}

async function ask(
  method: string,
  path: string,
  { token = adminToken, body }: { token?: string; body?: unknown } = {},
): Promise<Answer> {
  const response = await fetch(`${cloud.url}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body !== undefined && { 'content-type': 'application/json' }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, body: text === '' ? {} : JSON.parse(text) };
}

const get = async <T>(path: string, token?: string) => {
  const { status, body } = await ask('GET', `/api/v1${path}`, { token });
  expect(status, JSON.stringify(body)).toBe(200);
  return body as T;
};
const make = async (path: string, body: unknown, token?: string) => {
  const answer = await ask('POST', `/api/v1${path}`, { body, token });
  expect(answer.status, JSON.stringify(answer.body)).toBe(201);
  return answer.body;
};
const makeToken = async (body: Record<string, unknown>) => (await make('/tokens', body)).token as string;
const devices = async (query = '', token?: string) =>
  (await get<{ devices: { uuid: string }[] }>(`/devices${query}`, token)).devices.map(({ uuid }) => uuid);
const seen = async (query: string, token?: string) => {
  const { logs } = await get<{ logs: Line[] }>(`/logs?order=asc&${query}`, token);
  return [...new Set(logs.map(({ device }) => device))].sort();
};

beforeAll(async () => {
  cloud = await startTestCloud({ tuning: { tailRecheckMs: 50 } });
  await make('/fleets', { name: 'berlin', description: 'The office' });
  await make('/fleets', { name: 'paris' });
  const berlin = await makeToken({ name: 'join berlin', role: 'join', fleets: ['berlin'] });
  const register = async (uuid: string, token: string) => {
    const { status, body } = await ask('POST', '/device/register', { token, body: { uuid } });
    expect(status).toBe(201);
    const key = body.api_key as string;
    keys.set(uuid, key);
    using stream = new StreamClient({ url: cloud.url, uuid, key });
    stream.send(batch(`journal0${uuid}`, 1, 3));
    stream.end();
    expect((await stream.answer()).status).toBe(201);
  };
  await register('b1', berlin);
  await register('b2', berlin);
  await register('p1', joinKey);
  await register('alone', joinKey);
  expect((await ask('PATCH', '/api/v1/devices/p1', { body: { fleet: 'paris' } })).status).toBe(200);
  for (const [uuid, site] of [
    ['b1', 'roof'],
    ['p1', 'roof'],
    ['b2', 'hall'],
  ]) {
    await ask('PATCH', `/api/v1/devices/${uuid}`, { body: { tags: { site } } });
  }
});
afterAll(() => cloud[Symbol.asyncDispose]());

test('a join key of a fleet puts devices into it, opens nothing else, and can be revoked', async () => {
  expect(await get('/devices/b1')).toMatchObject({ fleet: 'berlin', tags: { site: 'roof' }, lines: 3 });
  expect(await get('/fleets/berlin')).toMatchObject({ devices: 2, description: 'The office' });
  const key = await makeToken({ name: 'short-lived', role: 'join', fleets: ['paris'] });
  expect((await ask('GET', '/api/v1/devices', { token: key })).status).toBe(401);
  expect((await ask('DELETE', '/api/v1/tokens/short-lived')).status).toBe(204);
  expect((await ask('POST', '/device/register', { token: key, body: { uuid: 'late' } })).status).toBe(401);
  expect((await ask('DELETE', '/api/v1/tokens/short-lived')).status).toBe(404);
});

test('devices are listed a page at a time, by fleet, tag and whether they are online', async () => {
  expect(await devices()).toEqual(['alone', 'b1', 'b2', 'p1']);
  expect(await devices('?fleet=berlin')).toEqual(['b1', 'b2']);
  expect(await devices('?tag=site%3Droof')).toEqual(['b1', 'p1']);
  expect(await devices('?tag=site%3Droof&fleet=paris')).toEqual(['p1']);
  expect(await devices('?tag=site%3Droof&tag=site%3Dhall')).toEqual([]);
  using stream = new StreamClient({ url: cloud.url, uuid: 'b2', key: keys.get('b2'), acks: true });
  expect(await stream.status()).toBe(200);
  expect(await devices('?online=true')).toEqual(['b2']);
  expect(await devices('?online=false')).toEqual(['alone', 'b1', 'p1']);
  const paged: string[] = [];
  let cursor: string | undefined;
  do {
    const next = cursor === undefined ? '' : `&cursor=${cursor}`;
    const page = await get<{ devices: { uuid: string }[]; cursor?: string }>(`/devices?limit=1${next}`);
    paged.push(...page.devices.map(({ uuid }) => uuid));
    cursor = page.cursor;
  } while (cursor !== undefined);
  expect(paged).toEqual(await devices());
});

test('a search finds lines by the fleet and the tags of their devices', async () => {
  const found = (query: string) => seen(`query=${encodeURIComponent(query)}`);
  expect(await found('fleet:berlin')).toEqual(['b1', 'b2']);
  expect(await found('fleet:(paris OR b*) -tag.site:hall')).toEqual(['b1', 'p1']);
  expect(await found('tag.site:/^ro/ "line 2"')).toEqual(['b1', 'p1']);
  expect(await found('-fleet:*')).toEqual(['alone']);
  expect(await found('fleet:nowhere OR device:alone')).toEqual(['alone']);
  expect(await found('tag.other:*')).toEqual([]);
  const { count } = await get<{ count: number }>('/logs/histogram?query=fleet:berlin');
  expect(count).toBe(6);
  expect((await ask('GET', '/api/v1/logs?query=fleet:%3E3')).body).toMatchObject({ code: 'QUERY_INVALID' });
});

test('a limited reader sees its devices and nothing else, wherever it looks', async () => {
  const token = await makeToken({
    name: 'of berlin',
    role: 'reader',
    fleets: ['berlin'],
    devices: ['alone'],
  });
  const own = ['alone', 'b1', 'b2'];
  expect(await seen('', token)).toEqual(own);
  expect(await seen('device=p1', token)).toEqual([]);
  expect(await seen(`query=${encodeURIComponent('fleet:paris OR device:p1 OR x OR -x')}`, token)).toEqual(
    own,
  );
  expect(await get('/logs/histogram', token)).toMatchObject({ count: 9 });
  const { facets } = await get<{ facets: { values: { value: string }[] }[] }>(
    '/logs/facets?fields=device',
    token,
  );
  expect(facets[0]?.values.map(({ value }) => value).sort()).toEqual(own);
  expect((await ask('GET', '/api/v1/logs/context?id=journal0p1-2', { token })).status).toBe(404);
  const exported = await fetch(`${cloud.url}/api/v1/export?format=ndjson`, {
    headers: { authorization: `Bearer ${token}` },
  });
  const lines = (await exported.text())
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
  expect([...new Set(lines.map(({ device }) => device))].sort()).toEqual(own);
  const { patterns } = await get<{ patterns: { count: number }[] }>('/patterns?since=1', token);
  expect(patterns.reduce((sum, { count }) => sum + count, 0)).toBe(9);
  expect((await ask('GET', '/api/v1/logs/context?id=journal0b1-2', { token })).status).toBe(200);
  expect(await devices('', token)).toEqual(own);
  expect(await devices('?fleet=paris', token)).toEqual([]);
  expect(await devices('?tag=site%3Droof', token)).toEqual(['b1']);
  for (const path of ['/devices/p1', '/devices/p1/gaps', '/devices/nobody', '/fleets/paris']) {
    expect((await ask('GET', `/api/v1${path}`, { token })).status, path).toBe(404);
  }
  expect((await get<{ fleets: { name: string }[] }>('/fleets', token)).fleets).toMatchObject([
    { name: 'berlin' },
  ]);
  for (const [method, path] of [
    ['GET', '/tokens'],
    ['POST', '/tokens'],
    ['GET', '/audit'],
    ['PATCH', '/devices/b1'],
    ['DELETE', '/devices/b1'],
    ['POST', '/devices/b1/key'],
    ['POST', '/fleets'],
    ['DELETE', '/fleets/berlin'],
  ] as const) {
    const { status, body } = await ask(method, `/api/v1${path}`, {
      token,
      body: method === 'GET' ? undefined : {},
    });
    expect([status, body.code], `${method} ${path}`).toEqual([403, 'FORBIDDEN']);
  }
});

let sent = 0;
async function send(uuid: string, message: string): Promise<void> {
  using stream = new StreamClient({ url: cloud.url, uuid, key: keys.get(uuid), gzip: false });
  stream.send(`{"message":"${message}","timestamp":${1_700_000_100_000 + sent++}}\n`);
  stream.end();
  expect((await stream.answer()).status).toBe(201);
}

test('a tail shows what its token may see, follows changes of fleets, and ends when it is revoked', async () => {
  const token = await makeToken({ name: 'tail of paris', role: 'reader', fleets: ['paris'] });
  const limited = await followTail(cloud.url, '', token);
  const byFleet = await followTail(cloud.url, 'query=fleet:paris', adminToken);
  await send('b1', 'from berlin');
  await send('p1', 'from paris');
  await until(() => limited.messages.length > 0 && byFleet.messages.length > 0, { what: 'the line' });
  expect(limited.messages).toEqual(['from paris']);
  expect(byFleet.messages).toEqual(['from paris']);
  await ask('PATCH', '/api/v1/devices/b1', { body: { fleet: 'paris' } });
  await until(
    async () => {
      await send('b1', 'moved');
      return limited.messages.includes('moved') && byFleet.messages.includes('moved');
    },
    { what: 'the tails to notice' },
  );
  await ask('PATCH', '/api/v1/devices/b1', { body: { fleet: 'berlin' } });
  await ask('DELETE', `/api/v1/tokens/${encodeURIComponent('tail of paris')}`);
  await until(() => limited.ended, { what: 'the tail to end' });
  expect(byFleet.ended).toBe(false);
  byFleet.stop();
});

test('a token opens nothing after its time', async () => {
  const token = await makeToken({ name: 'brief', role: 'reader', expiresAt: Date.now() + 1500 });
  expect((await ask('GET', '/api/v1/logs', { token })).status).toBe(200);
  await until(async () => (await ask('GET', '/api/v1/logs', { token })).status === 401, {
    what: 'it to expire',
  });
});

test('tokens are listed without what they are', async () => {
  const all = JSON.stringify(await get('/tokens'));
  expect(all).toContain('join berlin');
  expect(all).not.toMatch(/hash/i);
  const { tokens } = await get<{ tokens: { name: string; role: string; createdBy: string | null }[] }>(
    '/tokens',
  );
  expect(tokens.find(({ name }) => name === 'join berlin')).toMatchObject({
    role: 'join',
    createdBy: 'admin',
    fleets: ['berlin'],
    devices: null,
    expiresAt: null,
  });
});

test('a device whose key is changed is cut off, and sends with the new one', async () => {
  const key = keys.get('alone') as string;
  using stream = new StreamClient({ url: cloud.url, uuid: 'alone', key, acks: true });
  const client = await mqtt.connectAsync(cloud.mqttUrl, {
    ...{ username: 'alone', password: key, reconnectPeriod: 0 },
  });
  client.on('error', () => undefined);
  const other = await mqtt.connectAsync(cloud.mqttUrl, {
    ...{ username: 'b1', password: keys.get('b1'), reconnectPeriod: 0 },
  });
  stream.send(batch('journal0rotate', 1, 2));
  await stream.acked(2);
  const { status, body } = await ask('POST', '/api/v1/devices/alone/key');
  expect(status).toBe(200);
  await until(() => stream.response?.readableEnded && !client.connected, { what: 'both to end' });
  expect(other.connected).toBe(true);
  await other.endAsync(true);
  using refused = new StreamClient({ url: cloud.url, uuid: 'alone', key });
  expect(await refused.status()).toBe(401);
  using again = new StreamClient({ url: cloud.url, uuid: 'alone', key: body.api_key as string, acks: true });
  again.send(batch('journal0rotate', 3, 1));
  await again.acked(3);
  keys.set('alone', body.api_key as string);
});

test('a device that is removed is a stranger, whose lines stay', async () => {
  const { body } = await ask('POST', '/device/register', { token: joinKey, body: { uuid: 'leaving' } });
  keys.set('leaving', body.api_key as string);
  await send('leaving', 'a last line');
  await ask('PATCH', '/api/v1/devices/leaving', { body: { name: 'Old', tags: { a: 'b' } } });
  expect((await ask('DELETE', '/api/v1/devices/leaving')).status).toBe(204);
  expect((await ask('DELETE', '/api/v1/devices/leaving')).status).toBe(404);
  expect(await get('/devices/leaving')).toMatchObject({ registered: false, name: null, tags: {}, lines: 1 });
  using refused = new StreamClient({ url: cloud.url, uuid: 'leaving', key: keys.get('leaving') });
  expect(await refused.status()).toBe(401);
  // Known by its lines alone, it can have a name again.
  expect((await ask('PATCH', '/api/v1/devices/leaving', { body: { name: 'Older' } })).body).toMatchObject({
    name: 'Older',
    registered: false,
  });
});

test('searches are saved, found again, and changed by whoever saved them', async () => {
  const reader = await makeToken({ name: 'reader', role: 'reader' });
  const limited = await makeToken({ name: 'limited', role: 'reader', fleets: ['paris'] });
  const { id } = await make('/searches', { name: 'Errors', query: 'level:error "a b"', since: '1h' }, reader);
  expect(await get(`/searches/${id}`)).toMatchObject({
    ...{ name: 'Errors', query: 'level:error "a b"', since: '1h', until: null, createdBy: 'reader' },
  });
  const names = async (token: string) =>
    (await get<{ searches: { name: string }[] }>('/searches', token)).searches.map(({ name }) => name);
  expect(await names(adminToken)).toEqual(['Errors']);
  expect(await names(limited)).toEqual([]);
  expect((await ask('GET', `/api/v1/searches/${id}`, { token: limited })).status).toBe(404);
  const twice = await ask('POST', '/api/v1/searches', { body: { name: 'Errors', query: '' } });
  expect([twice.status, twice.body.code]).toEqual([409, 'CONFLICT']);
  const wrong = await ask('POST', '/api/v1/searches', { body: { name: 'x', query: 'a AND' } });
  expect(wrong.body).toMatchObject({ status: 400, code: 'QUERY_INVALID', offset: 5 });
  await make('/searches', { name: "the admin's", query: 'x' });
  const [{ id: other }] = (
    await get<{ searches: [{ id: string }, { id: string }] }>('/searches')
  ).searches.slice(-1) as [{ id: string }];
  const change = { body: { query: 'level:warn+' }, token: reader };
  expect((await ask('PATCH', `/api/v1/searches/${other}`, change)).status).toBe(403);
  expect((await ask('PATCH', `/api/v1/searches/${id}`, change)).body).toMatchObject({ query: 'level:warn+' });
  expect((await ask('PATCH', `/api/v1/searches/${id}`, { body: { query: '(' } })).status).toBe(400);
  expect((await ask('DELETE', `/api/v1/searches/${id}`)).status).toBe(204);
  expect((await ask('DELETE', `/api/v1/searches/${id}`)).status).toBe(404);
});

test('the audit says who did what, a page at a time, and never a secret', async () => {
  const { entries } = await get<{ entries: { actor: string; action: string; subject: string }[] }>(
    '/audit?subject=b1&limit=1000',
  );
  expect(entries.map(({ actor, action }) => `${actor}: ${action}`)).toEqual([
    'admin: device.change',
    'admin: device.change',
    'admin: device.change',
    'join berlin: device.register',
  ]);
  const all: { id: number }[] = [];
  let cursor: string | undefined;
  do {
    const next = cursor === undefined ? '' : `&cursor=${cursor}`;
    const page = await get<{ entries: { id: number }[]; cursor?: string }>(`/audit?limit=7${next}`);
    all.push(...page.entries);
    cursor = page.cursor;
  } while (cursor !== undefined);
  const whole = await get<{ entries: { id: number }[] }>('/audit?limit=1000');
  expect(all).toEqual(whole.entries);
  const text = JSON.stringify(all) + cloud.logged.join('');
  for (const secret of [adminToken, joinKey, ...keys.values()]) expect(text).not.toContain(secret);
});

test.each<[string, string, unknown, string]>([
  ['POST', '/fleets', { name: 'a b' }, 'name'],
  ['POST', '/fleets', { name: 'x', colour: 'red' }, 'colour'],
  ['POST', '/fleets', { name: 'x', description: 'a\u0000b' }, 'description'],
  ['POST', '/tokens', { name: 'x', role: 'king' }, 'role'],
  ['POST', '/tokens', { name: 'x', role: 'admin', fleets: ['berlin'] }, 'fleets'],
  ['POST', '/tokens', { name: 'x', role: 'join', devices: ['b1'] }, 'devices'],
  ['POST', '/tokens', { name: 'x', role: 'join', fleets: ['berlin', 'paris'] }, 'fleets'],
  ['POST', '/tokens', { name: 'x', role: 'reader', fleets: ['nowhere'] }, 'nowhere'],
  ['POST', '/tokens', { name: 'x', role: 'reader', expiresAt: 5 }, 'expiresAt'],
  ['POST', '/tokens', { name: '  ', role: 'reader' }, 'name'],
  ['PATCH', '/devices/b1', {}, 'change'],
  ['PATCH', '/devices/b1', { fleet: 'nowhere' }, 'nowhere'],
  ['PATCH', '/devices/b1', { tags: { 'a b': 'x' } }, 'tags'],
  ['PATCH', '/devices/b1', { tags: { a: 'x'.repeat(257) } }, 'tags'],
  [
    'PATCH',
    '/devices/b1',
    { tags: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`t${i}`, ''])) },
    'tags',
  ],
  ['POST', '/searches', { name: 'x', query: 'a', since: 'soon' }, 'since'],
])('%s %s with %j is refused by name', async (method, path, body, named) => {
  const { status, body: problem } = await ask(method, `/api/v1${path}`, { body });
  expect([status, problem.code]).toEqual([400, 'BODY_INVALID']);
  expect(problem.detail).toContain(named);
});

test.each([
  '/devices?cursor=%00',
  '/devices?cursor=a',
  '/tokens?limit=0',
  '/audit?cursor=eA',
  '/devices?tag=x',
  '/devices?online=1',
])('GET %s is refused', async (path) => {
  const { status, body } = await ask('GET', `/api/v1${path}`);
  expect([status, body.code]).toEqual([400, 'PARAMETER_INVALID']);
});

test('what is not there is said to be so', async () => {
  for (const [method, path, body] of [
    ['PATCH', '/devices/nobody', { name: 'x' }],
    ['POST', '/devices/nobody/key', undefined],
    ['PATCH', '/fleets/nowhere', { description: null }],
    ['DELETE', '/fleets/nowhere', undefined],
    ['GET', '/searches/none', undefined],
  ] as const) {
    const answer = await ask(method, `/api/v1${path}`, { body });
    expect([answer.status, answer.body.code], path).toEqual([404, 'NOT_FOUND']);
  }
  expect((await ask('POST', '/api/v1/fleets', { body: { name: 'paris' } })).status).toBe(409);
});
