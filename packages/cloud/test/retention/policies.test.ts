import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { PolicyRecord } from '../../src/records/policies.ts';
import { PolicyBook } from '../../src/retention/policy-book.ts';
import { longestDays, retentionPlan } from '../../src/store/retention-plan.ts';
import { adminToken, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { StreamClient } from '../support/stream-client.ts';

type Terms = Partial<Omit<PolicyRecord, 'id'>>;

const none = {
  fleet: null,
  device: null,
  service: null,
  level: null,
  retentionDays: null,
  dailyQuotaBytes: null,
};

async function bookOf(all: Terms[], fleets: Record<string, string> = {}): Promise<PolicyBook> {
  const list = all.map((terms, i) => ({ ...none, changedAtMs: 0, ...terms, id: `${i}` }));
  const records = {
    policies: { list: async () => list },
    devices: { fleetOfEach: async () => new Map(Object.entries(fleets)) },
  };
  return PolicyBook.open({ records, log: pino({ level: 'silent' }), defaultDays: 30 });
}

describe('which policy counts', () => {
  test('without any, or where none tells lines apart, all lines of a device are kept equally long', async () => {
    await using book = await bookOf([
      { device: 'a', retentionDays: 7 },
      { service: 'web', retentionDays: 30 },
    ]);
    expect([book.retention('a'), book.retention('b')]).toEqual([7, 30]);
    expect(book.quotaBytes('a')).toBeUndefined();
  });

  test('device before fleet before neither, then service, then level', async () => {
    await using book = await bookOf(
      [
        { level: 'debug', retentionDays: 3 },
        { service: 'web', retentionDays: 7 },
        { service: 'web', level: 'error', retentionDays: 365 },
        { fleet: 'shops', level: 'error', retentionDays: 90 },
        { device: 'c', retentionDays: 14 },
      ],
      { b: 'shops', c: 'shops', d: 'kiosks' },
    );
    const general = { debug: 3, info: 30, warn: 30, error: 30 };
    const web = { debug: 7, info: 7, warn: 7, error: 365 };
    expect(book.retention('a')).toBe(retentionPlan(general, new Map([['web', web]])));
    expect(book.retention('d')).toBe(book.retention('a'));
    expect(book.retention('b')).toBe(
      retentionPlan({ ...general, error: 90 }, new Map([['web', { ...web, error: 90 }]])),
    );
    expect(book.retention('c')).toBe(14);
    expect(longestDays(book.retention('a'))).toBe(365);
    expect(longestDays(7)).toBe(7);
  });

  test('retention and quota are each taken from the most specific policy that sets it', async () => {
    await using book = await bookOf(
      [
        { dailyQuotaBytes: 100 },
        { fleet: 'shops', dailyQuotaBytes: 200, retentionDays: 7 },
        { device: 'b', retentionDays: 90 },
        { device: 'c', dailyQuotaBytes: 0 },
      ],
      { b: 'shops', c: 'shops' },
    );
    expect([book.quotaBytes('a'), book.quotaBytes('b'), book.quotaBytes('c')]).toEqual([100, 200, 0]);
    expect([book.retention('a'), book.retention('b'), book.retention('c')]).toEqual([30, 90, 7]);
  });
});

describe('policies, usage and deletion over HTTP', () => {
  let cloud: TestCloud;
  beforeAll(async () => {
    cloud = await startTestCloud({ env: { RETENTION_DAYS: '14' } });
  });
  afterAll(() => cloud?.[Symbol.asyncDispose]());

  const call = async (method: string, path: string, body?: object) => {
    const response = await fetch(`${cloud.url}/api/v1${path}`, {
      method,
      headers: {
        authorization: `Bearer ${adminToken}`,
        ...(body && { 'content-type': 'application/json' }),
      },
      body: body && JSON.stringify(body),
    });
    const text = await response.text();
    return { status: response.status, body: text === '' ? undefined : JSON.parse(text) };
  };
  const send = async (uuid: string, lines: object[]) => {
    const key = await cloud.register(uuid);
    using client = new StreamClient({ url: cloud.url, uuid, key });
    client.send(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    client.end();
    expect((await client.answer()).status).toBe(201);
  };
  const partitions = async () =>
    (await call('GET', '/store')).body.partitions.map(
      ({ retentionDays, lines }: { retentionDays: number; lines: number }) => [retentionDays, lines],
    );

  test('a policy holds for what arrives after it, until it is removed', async () => {
    await send('first', [{ message: 'before', level: 'debug' }]);
    const made = await call('POST', '/policies', { level: 'debug', retentionDays: 3 });
    expect(made).toMatchObject({ status: 201, body: { ...none, level: 'debug', retentionDays: 3 } });
    await send('second', [{ message: 'a', level: 'debug' }, { message: 'b' }]);
    expect(await partitions()).toEqual([
      [3, 1],
      [14, 2],
    ]);

    const { id } = made.body;
    const changed = await call('PUT', `/policies/${id}`, { device: 'third', retentionDays: 90 });
    expect(changed).toMatchObject({
      status: 200,
      body: { id, level: null, device: 'third', retentionDays: 90 },
    });
    await send('third', [{ message: 'c', level: 'debug' }]);
    expect((await call('GET', '/policies')).body.policies).toEqual([changed.body]);
    expect(await call('DELETE', `/policies/${id}`)).toEqual({ status: 204, body: undefined });
    expect((await call('DELETE', `/policies/${id}`)).status).toBe(404);
    expect((await call('PUT', `/policies/${id}`, { retentionDays: 7 })).status).toBe(404);
    await send('fourth', [{ message: 'd', level: 'debug' }]);
    expect(await partitions()).toEqual([
      [3, 1],
      [14, 3],
      [90, 1],
    ]);
    expect((await call('GET', '/policies')).body.policies).toEqual([]);
  });

  test('what is wrong about a policy is named', async () => {
    const wrong: [object, string][] = [
      [{ retentionDays: 31 }, 'must be one of 1, 3, 7, 14, 30, 90, 365'],
      [{ level: 'debug' }, 'must set retentionDays, dailyQuotaBytes or both'],
      [{ level: 'debug', dailyQuotaBytes: 5 }, 'cannot go with service or level'],
      [{ level: 'loud', retentionDays: 3 }, 'level: must be one of debug, info, warn, error'],
      [{ fleet: 'nowhere', retentionDays: 3 }, 'there is no fleet \\"nowhere\\"'],
      [{ fleet: 'a', device: 'b', retentionDays: 3 }, 'cannot go with device'],
      [{ service: 'a\u001eb', retentionDays: 3 }, 'must have no control characters'],
      [{ dailyQuotaBytes: -1 }, 'must be a whole number of bytes'],
      [{ dailyQuotaBytes: 1.5 }, 'must be a whole number of bytes'],
      [{ retentiondays: 3 }, 'no such parameter'],
    ];
    for (const [body, said] of wrong) {
      const answer = await call('POST', '/policies', body);
      expect([answer.status, answer.body.code]).toEqual([400, 'BODY_INVALID']);
      expect(JSON.stringify(answer.body)).toContain(said);
    }
    const policy = { service: 'web', level: 'error', retentionDays: 7 };
    const { id } = (await call('POST', '/policies', policy)).body;
    expect(await call('POST', '/policies', policy)).toMatchObject({
      status: 409,
      body: { code: 'CONFLICT' },
    });
    // Replacing it is no conflict with itself.
    expect((await call('PUT', `/policies/${id}`, { ...policy, retentionDays: 30 })).status).toBe(200);
    const ids = [id];
    for (let i = 1; i < 20; i++) {
      ids.push((await call('POST', '/policies', { service: `s${i}`, retentionDays: 7 })).body.id);
    }
    expect(await call('POST', '/policies', { service: 'one too many', retentionDays: 7 })).toMatchObject({
      status: 409,
      body: { detail: 'policies name 20 services for these devices, which is the most' },
    });
    for (const one of ids) await call('DELETE', `/policies/${one}`);
    expect((await fetch(`${cloud.url}/api/v1/policies`)).status).toBe(401);
  });

  test('usage is shown per device and day, page by page', async () => {
    await send('talker', [{ message: '12345' }, { message: '678' }]);
    const today = new Date().toISOString().slice(0, 10);
    expect((await call('GET', '/devices/talker/usage')).body).toEqual({
      device: 'talker',
      days: [{ day: today, lines: 2, bytes: 8 }],
      quota: null,
    });
    expect((await call('GET', '/usage?device=talker')).body).toEqual({
      usage: [{ device: 'talker', day: today, lines: 2, bytes: 8 }],
    });
    const all: { device: string }[] = [];
    let cursor: string | undefined;
    do {
      const page = (
        await call('GET', `/usage?limit=2${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`)
      ).body;
      expect(page.usage.length).toBeLessThanOrEqual(2);
      all.push(...page.usage);
      cursor = page.cursor;
    } while (cursor !== undefined);
    expect(all.map(({ device }) => device)).toEqual(['first', 'fourth', 'second', 'talker', 'third']);
    expect((await call('GET', '/usage?to=2020-01-31')).body).toEqual({ usage: [] });
    for (const query of [
      'from=2026-02-30',
      'from=yesterday',
      'cursor=x',
      'from=2026-01-02&to=2026-01-01',
      'day=1',
    ]) {
      expect(await call('GET', `/usage?${query}`)).toMatchObject({
        status: 400,
        body: { code: 'PARAMETER_INVALID' },
      });
    }
  });

  test("a device's lines are deleted, the others stay, and it is on record", async () => {
    await send('deleted', [
      { message: 'old', timestamp: 1_700_000_000_000 },
      { message: 'new', timestamp: 1_750_000_000_000 },
    ]);
    const path = '/devices/deleted/logs';
    expect((await call('DELETE', `${path}?before=2024-01-01`)).body).toEqual({ lines: 1, bytes: 3 });
    expect((await cloud.allLines('deleted')).map(({ message }) => message)).toEqual(['new']);
    expect((await call('DELETE', path)).body).toEqual({ lines: 1, bytes: 3 });
    expect((await call('DELETE', path)).body).toEqual({ lines: 0, bytes: 0 });
    expect(await cloud.allLines('deleted')).toEqual([]);
    expect((await cloud.allLines('talker')).length).toBe(2);
    expect((await call('GET', '/devices/deleted/usage')).body.days).toMatchObject([{ lines: 2, bytes: 6 }]);
    expect((await call('GET', '/store')).body.removals).toMatchObject([
      { why: 'deleted', lines: 1, retentionDays: 14 },
      { why: 'deleted', lines: 1, retentionDays: 14 },
    ]);
    expect((await call('DELETE', `${path}?before=soon`)).status).toBe(400);
    expect((await fetch(`${cloud.url}/api/v1${path}`, { method: 'DELETE' })).status).toBe(401);
  });
});
