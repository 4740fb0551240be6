import { gzipSync } from 'node:zlib';
import mqtt from 'mqtt';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import type { QuotaRefusal } from '../../src/records/refusals.ts';
import { dayMs, startOfDay } from '../../src/retention/days.ts';
import { QuotaBook, type QuotaBookOptions } from '../../src/retention/quota-book.ts';
import type { DayUsage } from '../../src/store/index.ts';
import { silent } from '../store/open-stores.ts';
import { adminToken, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { batch, StreamClient } from '../support/stream-client.ts';

describe('a quota book', () => {
  const noon = startOfDay('2026-11-20') + dayMs / 2;
  const usage = (bytes: number): DayUsage[] => [{ device: 'dev', day: '2026-11-20', lines: 1, bytes }];

  /** A book over a store with so many bytes of the device. */
  function openBook(options: Partial<QuotaBookOptions> & { stored?: number } = {}) {
    const state = { stored: options.stored ?? 0, reads: 0, now: noon, told: [] as string[], failing: false };
    const book = new QuotaBook({
      quotaBytes: () => 1000,
      store: {
        usage: async () => {
          state.reads++;
          if (state.failing) throw new Error('no answer');
          return usage(state.stored);
        },
      },
      refusals: { note: async () => true, forgetBefore: async () => undefined },
      settled: async () => undefined,
      tell: (device, message) => state.told.push(`${device}: ${message}`),
      log: silent,
      now: () => state.now,
      refreshMs: 1_000_000,
      ...options,
    });
    return { book, state };
  }

  test('asks the store first, and not again before the quota could be reached', async () => {
    const { book, state } = openBook({ stored: 400 });
    await using _book = book;
    await book.admit('dev', 100);
    for (let i = 0; i < 5; i++) expect(book.admit('dev', 100)).toBeUndefined();
    expect(state.reads).toBe(1);
    // 600 came, of which only 500 count: there is room for more.
    state.stored = 900;
    await book.admit('dev', 100);
    expect(state.reads).toBe(2);
    state.stored = 1000;
    await expect(book.admit('dev', 100)).rejects.toMatchObject({ code: 'QUOTA_EXCEEDED', status: 429 });
    expect(() => book.admit('dev', 1)).toThrow('more is refused until 2026-11-21T00:00:00.000Z');
    expect(book.refusal('dev')).toMatchObject({ code: 'QUOTA_EXCEEDED' });
    expect(state.reads).toBe(3);
  });

  test('what another process admitted counts once it is looked at again', async () => {
    const { book, state } = openBook({ refreshMs: 1 });
    await using _book = book;
    await book.admit('dev', 10);
    state.stored = 1000;
    await until(() => book.refusal('dev'), { what: 'the refusal' });
  });

  test('the next day, or a higher quota, opens again', async () => {
    let quota = 1000;
    const { book, state } = openBook({ stored: 1000, quotaBytes: () => quota });
    await using _book = book;
    await expect(book.admit('dev', 1)).rejects.toThrow('QUOTA_EXCEEDED');
    quota = 2000;
    expect(book.admit('dev', 1)).toBeUndefined();
    quota = 1000;
    state.now = startOfDay('2026-11-21') - 1;
    expect(() => book.admit('dev', 1)).toThrow('QUOTA_EXCEEDED');
    state.now++;
    state.stored = 0;
    await book.admit('dev', 1);
    expect(book.refusal('dev')).toBeUndefined();
  });

  test('a store that does not answer refuses nobody, and devices without a quota cost nothing', async () => {
    const { book, state } = openBook({ quotaBytes: (device) => (device === 'dev' ? 1000 : undefined) });
    await using _book = book;
    expect(book.admit('other', 1_000_000)).toBeUndefined();
    expect(state.reads).toBe(0);
    state.failing = true;
    await book.admit('dev', 5000);
    await book.admit('dev', 5000);
    expect(book.refusal('dev')).toBeUndefined();
  });

  test('one line a day says so, also when the record has to be tried again', async () => {
    const noted: QuotaRefusal[] = [];
    let failures = 1;
    const { book, state } = openBook({
      refreshMs: 1,
      refusals: {
        note: async (refusal) => {
          if (failures-- > 0) throw new Error('no answer');
          noted.push(refusal);
          return noted.length === 1;
        },
        forgetBefore: async () => undefined,
      },
    });
    book.refused('dev', 100);
    book.refused('dev', 50);
    await until(() => state.told.length > 0, { what: 'the line' });
    book.refused('dev', 7);
    await book[Symbol.asyncDispose]();
    expect(state.told).toEqual([expect.stringContaining('dev: over the quota of 1000 bytes for 2026-11-20')]);
    const sum = (field: 'dropped' | 'droppedBytes') => noted.reduce((all, one) => all + one[field], 0);
    expect([sum('dropped'), sum('droppedBytes')]).toEqual([3, 157]);
    expect(noted.every(({ day, sinceMs }) => day === '2026-11-20' && sinceMs === noon)).toBe(true);
    expect(book.stats).toEqual({ refusals: 3, dropped: 3, droppedBytes: 157 });
  });
});

describe('quotas of devices', () => {
  let cloud: TestCloud;
  beforeAll(async () => {
    cloud = await startTestCloud({ env: { QUOTA_BYTES_PER_DAY: '100000' }, tuning: { quotaRetryS: 1 } });
  });
  afterAll(() => cloud?.[Symbol.asyncDispose]());

  const setQuota = async (device: string, dailyQuotaBytes: number) => {
    const { policies } = (await (await cloud.get('/api/v1/policies')).json()) as {
      policies: { id: string; device: string }[];
    };
    const id = policies.find((policy) => policy.device === device)?.id;
    const response = await fetch(`${cloud.url}/api/v1/policies${id ? `/${id}` : ''}`, {
      method: id ? 'PUT' : 'POST',
      headers: { authorization: `Bearer ${adminToken}`, 'content-type': 'application/json' },
      body: JSON.stringify({ device, dailyQuotaBytes }),
    });
    expect(response.ok).toBe(true);
  };
  const quotaOf = async (device: string) =>
    ((await (await cloud.get(`/api/v1/devices/${device}/usage`)).json()) as { quota: Record<string, number> })
      .quota;
  const warnings = async (device: string) =>
    (await cloud.allLines(device)).filter(({ message }) => message.startsWith('over the quota'));

  test('a stream is told, what came before is acknowledged, and nothing is lost when it comes again', async () => {
    const key = await cloud.register('streams');
    await setQuota('streams', 20_000);
    const options = { url: cloud.url, uuid: 'streams', key, acks: true };
    using client = new StreamClient(options);
    let sent = 0;
    // Some 1000 bytes of messages each.
    for (; sent < 10_000 && !client.body.includes('QUOTA_EXCEEDED'); sent += 100) {
      client.send(batch('journal01', sent + 1, 100));
      await until(() => client.body.includes('QUOTA_EXCEEDED') || (client.acks.at(-1)?.through ?? 0) > sent);
    }
    expect(sent).toBeGreaterThan(1000);
    const through = client.acks.at(-1)?.through ?? 0;
    expect(through).toBe(sent - 100);

    // Those that open later learn it before they send.
    using second = new StreamClient(options);
    expect(await second.status()).toBe(429);
    expect(second.response?.headers['retry-after']).toBe('1');
    using balena = new StreamClient({ ...options, acks: false });
    expect(await balena.status()).toBe(429);
    expect(balena.response?.headers['retry-after']).toBeUndefined();
    await until(async () => (await warnings('streams')).length > 0, { what: 'the line about it' });

    await cloud.restart();
    using after = new StreamClient({ ...options, url: cloud.url });
    after.send(batch('journal01', through + 1, 100));
    await until(() => after.body.includes('QUOTA_EXCEEDED'), { what: 'the refusal after the restart' });
    expect(await warnings('streams')).toHaveLength(1);
    const { dailyBytes, usedBytes = 0, dropped, refusedSince = 0 } = await quotaOf('streams');
    expect([dailyBytes, dropped]).toEqual([20_000, 0]);
    // By no more than one message that was admitted below it, and the line that says so.
    expect(usedBytes).toBeGreaterThanOrEqual(20_000);
    expect(usedBytes).toBeLessThan(22_000);
    expect(refusedSince).toBeGreaterThan(Date.now() - 600_000);

    await setQuota('streams', 1_000_000);
    using raised = new StreamClient({ ...options, url: cloud.url });
    raised.send(batch('journal01', 1, sent));
    await raised.acked(sent);
    const seqs = (await cloud.allLines('streams'))
      .filter(({ id }) => id.startsWith('journal01-'))
      .map(({ seq }) => seq);
    expect(seqs).toEqual(Array.from({ length: sent }, (_, i) => i + 1));
  });

  test('over MQTT a batch is not acknowledged, and lines that nobody keeps are counted', async () => {
    const key = await cloud.register('talks');
    await setQuota('talks', 0);
    const client = await mqtt.connectAsync(cloud.mqttUrl, {
      ...{ username: 'talks', password: key, reconnectPeriod: 0 },
    });
    const answers: string[] = [];
    client.on('message', (_topic, payload) => answers.push(payload.toString()));
    await client.subscribeAsync('device/talks/logs/ack');
    // The broker answers: it would send the same message again for ever.
    await client.publishAsync('device/talks/logs', gzipSync(batch('journal01', 1, 5)), { qos: 1 });
    await until(() => answers.length > 0, { what: 'the problem' });
    expect(JSON.parse(answers[0] as string)).toMatchObject({ error: { code: 'QUOTA_EXCEEDED' } });
    await client.publishAsync('device/talks/logs', '{"message":"nobody keeps this"}', { qos: 1 });
    await client.publishAsync('device/talks/logs', 'nor that', { qos: 1 });
    await client.endAsync(true);
    const lines = await cloud.lines('talks', 1);
    expect(lines).toMatchObject([
      {
        level: 'warn',
        source: { type: 'manager', name: 'cloud' },
        message: expect.stringContaining('0 bytes'),
      },
    ]);
    const metrics = await (await cloud.get('/metrics')).text();
    expect(metrics).toContain('millrace_cloud_quota_dropped_total 2');
    expect(metrics).toContain('millrace_cloud_removed_lines_total{why="expired"} 0');
    await cloud.restart();
    expect(await quotaOf('talks')).toMatchObject({ dailyBytes: 0, dropped: 2 });
    expect((await quotaOf('talks')).droppedBytes).toBeGreaterThan(30);
  });
});
