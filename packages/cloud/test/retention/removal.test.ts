import { encodeLine } from '@millrace/wire';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Ingest } from '../../src/ingest/index.ts';
import { dayMs, dayOf } from '../../src/retention/days.ts';
import { Sweeper } from '../../src/retention/sweeper.ts';
import { type LogEngine, LogStore, StoreError } from '../../src/store/index.ts';
import { retentionPlan } from '../../src/store/retention-plan.ts';
import { batch } from '../ingest/batches.ts';
import { append, places, type StorePlace, silent } from '../store/open-stores.ts';

const journal = 'journal01';
const today = Date.UTC(2026, 9, 20, 12);
const plan = retentionPlan({ debug: 3, info: 30, warn: 30, error: 90 }, new Map());

/** Lines `first` to `last`: of four, one is debug and one an error. */
function lines(first: number, last: number): string[] {
  const level = (seq: number) => (['debug', 'info', 'info', 'error'] as const)[seq % 4];
  return Array.from({ length: last - first + 1 }, (_, i) =>
    encodeLine({ message: `line ${first + i}`, timestamp: today, level: level(first + i) }),
  );
}

describe.each(places)('removing lines, $name', ({ make }) => {
  let place: StorePlace;
  let store: LogStore;

  beforeAll(async () => {
    place = await make();
    store = await place.open();
  });
  afterAll(async () => {
    await store?.close();
    await place?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    for (const table of ['logs', 'repeats', 'gone', 'usage_gone']) {
      await store.engine.command(`TRUNCATE TABLE millrace.${table}`);
    }
  });

  const sweepAt = async (now: number, options: { maxBytes?: number } = {}) => {
    await using sweeper = new Sweeper({ store, log: silent, now: () => now, ...options });
    await sweeper.sweep();
    return sweeper.stats;
  };
  const days = async () => [...new Set((await store.partitions()).map(({ day }) => day))];
  /** A cloud that has just started, and is sent a batch: how many of its lines were new. */
  const resent = async (bytes: Buffer) => {
    await using ingest = new Ingest({ store, log: silent });
    await ingest.acceptPayload('dev', bytes);
    return ingest.stats().lines;
  };

  test('what has expired is dropped, partition by partition, and nothing else', async () => {
    const arrived = today - 5 * dayMs;
    await append(store, lines(1, 100), { receivedMs: arrived, retention: plan });
    await append(store, lines(101, 200), { receivedMs: today, firstSeq: 101, retention: plan });
    const partition = (ms: number, retentionDays: number, count: number) =>
      expect.objectContaining({ day: dayOf(ms), retentionDays, lines: count });
    expect(await store.partitions()).toEqual([
      partition(arrived, 3, 25),
      partition(arrived, 30, 50),
      partition(arrived, 90, 25),
      partition(today, 3, 25),
      partition(today, 30, 50),
      partition(today, 90, 25),
    ]);
    // To the millisecond: the last of its lines may have come at the very end of the day.
    const end = Date.parse(`${dayOf(arrived)}T00:00:00Z`) + 4 * dayMs;
    expect((await sweepAt(end - 1)).dropped.expired.count).toBe(0);
    expect((await sweepAt(end)).dropped.expired).toEqual({ count: 1, lines: 25 });
    expect(await store.countLines()).toBe(175);
    expect((await sweepAt(today + 91 * dayMs)).dropped.expired.count).toBe(5);
    expect(await store.partitions()).toEqual([]);
  });

  test('lines that went are neither missing nor believed again (dedupe outlives retention)', async () => {
    const arrived = today - 31 * dayMs;
    // A device that has been away since, and skipped 41 to 60 for good.
    await append(store, lines(1, 40), { receivedMs: arrived, retention: plan });
    await append(store, lines(61, 100), { receivedMs: arrived, firstSeq: 61, retention: plan });
    const gap = { journal, from: 41, to: 60, lines: 20, since: arrived };
    expect(await store.gaps('dev', 10)).toEqual([gap]);
    await sweepAt(today);
    // Debug and info have gone; the errors, every fourth line, are left.
    expect(await store.countLines()).toBe(20);
    expect(await store.watermark('dev', journal)).toEqual({ max: 100, holes: [{ from: 41, to: 60 }] });
    expect(await store.gaps('dev', 10)).toEqual([gap]);
    expect(await store.deviceStats()).toMatchObject([{ lines: 20, missing: 20 }]);

    expect(await resent(batch(journal, 1, 40))).toBe(0);
    expect(await resent(batch(journal, 41, 110))).toBe(30);
    expect(await store.countLines()).toBe(50);
    expect(await store.gaps('dev', 10)).toEqual([]);
    expect(await store.deviceStats()).toMatchObject([{ lines: 50, missing: 0 }]);

    // When nothing is left, the journal is still known.
    await sweepAt(Date.now() + 91 * dayMs);
    expect(await store.countLines()).toBe(0);
    expect(await resent(batch(journal, 1, 111))).toBe(1);
    expect(await store.deviceStats()).toMatchObject([{ lines: 1, missing: 0 }]);
  });

  test('a gap behind which the lines went stays a gap', async () => {
    await append(store, lines(1, 3), { receivedMs: today - 40 * dayMs, retention: 90 });
    await append(store, lines(9, 12), { receivedMs: today - 40 * dayMs, firstSeq: 9, retention: 7 });
    await append(store, lines(13, 13), { receivedMs: today, firstSeq: 13, retention: 90 });
    await sweepAt(today);
    expect(await store.gaps('dev', 10)).toEqual([{ journal, from: 4, to: 8, lines: 5, since: today }]);
    expect(await store.deviceStats()).toMatchObject([{ lines: 4, missing: 5 }]);
    // What was missing below the first line that is left, nobody can say any more.
    await sweepAt(today + 60 * dayMs);
    expect(await store.deviceStats()).toMatchObject([{ lines: 1, missing: 0 }]);
    expect(await store.gaps('dev', 10)).toEqual([]);
    // What went below it makes up for nothing that is missing above.
    await append(store, lines(16, 16), { receivedMs: today, firstSeq: 16, retention: 90 });
    expect(await store.deviceStats()).toMatchObject([{ lines: 2, missing: 2 }]);
    await sweepAt(today + 91 * dayMs);
    await append(store, lines(200_001, 200_001), { receivedMs: today, firstSeq: 200_001, retention: 90 });
    await append(store, lines(200_004, 200_004), { receivedMs: today, firstSeq: 200_004, retention: 90 });
    expect(await store.deviceStats()).toMatchObject([{ lines: 2, missing: 2 }]);
  });

  test('repeated lines that went still count as received', async () => {
    await append(store, lines(1, 2), { receivedMs: Date.now() });
    const repeats = [{ seq: 3, key: 'ab', timestampMs: today }];
    await store.saveRepeats({ device: 'dev', journal, repeats, retentionDays: 3, token: 'repeats-1' });
    await sweepAt(Date.now() + 5 * dayMs);
    expect(await store.watermark('dev', journal)).toEqual({ max: 3, holes: [] });
    expect(await resent(batch(journal, 1, 4))).toBe(1);
  });

  test('a crash between the note and the drop hides no hole, and counts nothing twice', async () => {
    const arrived = today - 5 * dayMs;
    // As many lines as there are holes: a count of both places together would look complete.
    for (const seq of [1, 4]) {
      await append(store, lines(seq, seq), { receivedMs: arrived, firstSeq: seq, retention: 3 });
    }
    const before = await store.usage({ from: dayOf(arrived), to: dayOf(today) });
    const dying = new LogStore({ engine: withoutDrops(store.engine) });
    await using sweeper = new Sweeper({ store: dying, log: silent, now: () => today });
    await expect(sweeper.sweep()).rejects.toThrow(StoreError);

    const { max, holes } = await store.watermark('dev', journal);
    expect({ max, holes }).toEqual({ max: 4, holes: [{ from: 2, to: 3 }] });
    expect(await store.usage({ from: dayOf(arrived), to: dayOf(today) })).toEqual(before);
    await sweepAt(today);
    expect(await store.countLines()).toBe(0);
    expect(await store.watermark('dev', journal)).toEqual({ max, holes });
    expect(await store.usage({ from: dayOf(arrived), to: dayOf(today) })).toEqual(before);
  });

  test('usage per device and day outlives the lines', async () => {
    const message = (text: string) => [{ message: text, timestamp: today }];
    await append(store, message('0123456789'), { device: 'a', receivedMs: today - dayMs, retention: 1 });
    await append(store, message('four'), {
      device: 'a',
      receivedMs: today - dayMs,
      firstSeq: 2,
      retention: 30,
    });
    await append(store, message('Grüße'), { device: 'a', receivedMs: today, firstSeq: 3 });
    await append(store, message('other'), { device: 'b', receivedMs: today });
    const all = { from: dayOf(today - dayMs), to: dayOf(today) };
    const expected = [
      { device: 'a', day: dayOf(today - dayMs), lines: 2, bytes: 14 },
      { device: 'a', day: dayOf(today), lines: 1, bytes: 7 },
      { device: 'b', day: dayOf(today), lines: 1, bytes: 5 },
    ];
    expect(await store.usage(all)).toEqual(expected);
    await sweepAt(today + 2 * dayMs);
    expect(await store.countLines()).toBe(3);
    expect(await store.usage(all)).toEqual(expected);
    expect(await store.usage({ ...all, device: 'b' })).toEqual(expected.slice(2));
    expect(await store.usage({ ...all, limit: 1 })).toEqual(expected.slice(0, 1));
    expect(await store.usage({ ...all, after: { day: dayOf(today), device: 'a' } })).toEqual(
      expected.slice(2),
    );
    expect(await store.usage({ from: dayOf(today), to: dayOf(today) })).toEqual(expected.slice(1));
    expect(await store.removals(10)).toMatchObject([
      { day: dayOf(today - dayMs), retentionDays: 1, why: 'expired', lines: 1, bytes: 10 },
    ]);
  });

  test('deleted lines are gone, and do not come back when they are sent again', async () => {
    const at = (seq: number) => encodeLine({ message: `line ${seq}`, timestamp: today + seq });
    await append(store, [1, 2, 3, 4].map(at), { receivedMs: today });
    await append(store, [1, 2].map(at), { device: 'other', receivedMs: today });
    const usage = await store.usage({ from: dayOf(today), to: dayOf(today) });
    const deletion = { device: 'dev', beforeMs: today + 3, arrivedByMs: Date.now() };
    expect(await store.deleteLines(deletion)).toEqual({ lines: 2, bytes: 12 });
    const { logs } = await store.search({ device: 'dev', limit: 10, order: 'asc' });
    expect(logs.map(({ seq }) => seq)).toEqual([3, 4]);
    expect(await store.countLines('other')).toBe(2);
    expect(await resent(batch(journal, 1, 5))).toBe(1);
    expect(await store.usage({ from: dayOf(today), to: dayOf(today) })).toEqual(usage);
    expect(await store.deleteLines({ device: 'dev', arrivedByMs: Date.now() })).toMatchObject({ lines: 3 });
    expect(await store.deleteLines({ device: 'dev', arrivedByMs: Date.now() })).toEqual({
      lines: 0,
      bytes: 0,
    });
    expect(await resent(batch(journal, 1, 5))).toBe(0);
    expect(await store.deviceStats()).toMatchObject([{ device: 'other', lines: 2 }]);
  });

  test('over the cap the oldest day goes first, and of today only what must', async () => {
    const text = [{ message: Array.from({ length: 2000 }, () => Math.random().toString(36)).join(' ') }];
    for (const [index, back] of [2, 1, 0, 0, 0].entries()) {
      await append(store, text, { firstSeq: index + 1, receivedMs: today - back * dayMs, retention: 90 });
    }
    const whole = await store.diskBytes();
    expect(await sweepAt(today, { maxBytes: whole })).toMatchObject({ overCap: false, diskBytes: whole });
    expect((await days()).length).toBe(3);
    const stats = await sweepAt(today, { maxBytes: whole - 1000 });
    expect(stats.dropped['disk-cap']).toEqual({ count: 1, lines: 1 });
    expect(await days()).toEqual([dayOf(today - dayMs), dayOf(today)]);
    expect(await store.removals(1)).toMatchObject([{ day: dayOf(today - 2 * dayMs), why: 'disk-cap' }]);

    // Less than any line takes: the newest stays all the same.
    expect(await sweepAt(today, { maxBytes: 1000 })).toMatchObject({ overCap: true });
    const { logs } = await store.search({ limit: 10, order: 'asc' });
    expect(logs.at(-1)?.seq).toBe(5);
    expect(await days()).toEqual([dayOf(today)]);
    expect(await store.watermark('dev', journal)).toEqual({ max: 5, holes: [] });
    expect((await store.usage({ from: dayOf(today), to: dayOf(today) }))[0]?.lines).toBe(3);
  });

  test('a plan finds the days of each line by its level and service', async () => {
    const by = (days: number) => ({ debug: days, info: days, warn: days, error: days });
    const byService = retentionPlan(
      { debug: 1, info: 7, warn: 14, error: 90 },
      new Map([
        ['web', { ...by(30), debug: 3 }],
        ['web-2', by(365)],
      ]),
    );
    const line = (level: string, serviceName?: string) => ({
      message: `${level} ${serviceName}`,
      level,
      serviceName,
    });
    const given = [
      line('debug'),
      line('INFO', 'we'),
      line('warning', 'eb'),
      line('fatal', ''),
      line('debug', 'web'),
      line('error', 'web'),
      line('info', 'web-2'),
      line('info', '1e'),
      '{"message":"no level"}',
      '{"message":"stderr","isStdErr":true}',
      'no JSON',
    ];
    await append(store, given, { retention: byService });
    const rows = await store.engine.query<{ days: number }>(
      'SELECT retention_days AS days FROM millrace.logs ORDER BY seq',
    );
    expect(rows.map(({ days }) => days)).toEqual([1, 7, 14, 90, 3, 30, 365, 7, 7, 90, 7]);
  });
});

/** An engine whose process dies before it drops anything. */
function withoutDrops(engine: LogEngine): LogEngine {
  return new Proxy(engine, {
    get(target, name) {
      if (name === 'command') {
        return async (sql: string) => {
          if (sql.includes('DROP PARTITION')) throw new StoreError('killed');
          await target.command(sql);
        };
      }
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
