import type { StoredLine } from '@millrace/wire';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseQuery, queryPredicate, type Scope, unlimited } from '../../src/query/index.ts';
import { hourMs, isCountedField } from '../../src/store/hour-counts.ts';
import type { LogStore } from '../../src/store/index.ts';
import { countsMigration } from '../../src/store/migrations/0005-counts.ts';
import { append, places, type StorePlace } from './open-stores.ts';

/** Lines over two days, of two devices and two services. */
const first = 1_700_000_000_000;
const length = 48 * hourMs;

describe.each(places)('counts by hour, $name', ({ make }) => {
  let place: StorePlace;
  let store: LogStore;
  let lines: StoredLine[];

  beforeAll(async () => {
    place = await make();
    store = await place.open();
    const texts = fc.sample(
      fc.record({
        message: fc.constantFrom('one', 'two'),
        timestamp: fc.oneof(
          fc.integer({ min: first, max: first + length }),
          // Right on the hour, and right before it.
          fc
            .integer({ min: 0, max: 96 })
            .map((n) => Math.ceil(first / hourMs) * hourMs + (n >> 1) * hourMs - (n & 1)),
        ),
        level: fc.constantFrom('debug', 'info', 'warn', 'error'),
        serviceName: fc.constantFrom('web', 'db', ''),
        appId: fc.constantFrom('7', undefined),
      }),
      { numRuns: 200, seed: 7 },
    );
    // A part from before there was the projection, and parts with it: a store that has just been upgraded.
    await store.engine.command('ALTER TABLE millrace.logs DROP PROJECTION counts');
    await append(store, texts.slice(0, 100), { device: 'a', journal: 'journal0a' });
    await store.engine.command(countsMigration.statements[0] as string);
    await append(store, texts.slice(100), { device: 'a', journal: 'journal0a', firstSeq: 101 });
    await append(store, texts, { device: 'b', journal: 'journal0b' });
    // Past what a DateTime of 32 bits can hold.
    await append(store, [{ message: 'late', timestamp: 9_000_000_000_000 }], { device: 'b', firstSeq: 201 });
    lines = (await store.reader(unlimited).search({ limit: 1000, order: 'asc' })).logs;
    expect(lines).toHaveLength(401);
  });
  afterAll(async () => {
    await store?.close();
    await place?.[Symbol.asyncDispose]();
  });

  const value = (line: StoredLine, by: string): string | null => {
    if (by === 'level') return line.level;
    if (by === 'device') return line.device;
    return (
      (by === 'service' ? line.serviceName : by === 'app' ? line.appId?.toString() : line.message) ?? null
    );
  };
  const countsOf = (values: (string | null)[]) => {
    const counts = new Map<string | null, number>();
    for (const each of values) counts.set(each, (counts.get(each) ?? 0) + 1);
    return counts;
  };
  const time = (fromMs: number, toMs: number) =>
    fc.option(fc.integer({ min: fromMs, max: toMs }), { nil: undefined });
  const question = fc.record({
    since: time(first - hourMs, first + length / 2),
    // Seldom before the beginning, or within one hour of it.
    until: time(first + length / 2 - hourMs, first + length + hourMs),
    by: fc.constantFrom('level', 'device', 'service', 'app', 'message'),
    service: fc.constantFrom(undefined, undefined, 'web'),
    levels: fc.constantFrom(undefined, ['error', 'warn', 'info'] as const),
    text: fc.constantFrom('', 'device:a', '-service:w*', 'level:warn+ OR app:7', 'one'),
    scope: fc.constantFrom<Scope>(unlimited, { devices: new Set(['b']) }),
  });
  type Question = typeof question extends fc.Arbitrary<infer T> ? T : never;
  const asked = ({ since, until, service, levels, text, scope }: Question): StoredLine[] => {
    const matches = queryPredicate(parseQuery(text));
    return lines.filter(
      (line) =>
        matches(line) &&
        (since === undefined || line.timestamp >= since) &&
        (until === undefined || line.timestamp < until) &&
        (service === undefined || line.serviceName === service) &&
        (levels === undefined || levels.some((level) => level === line.level)) &&
        (scope.devices === 'all' || scope.devices.has(line.device)),
    );
  };
  const conditions = ({ since, until, service, levels, text }: Question) => ({
    ...{ since, until, service, levels },
    query: parseQuery(text),
  });

  test('a histogram over hours counts as one over lines does', async () => {
    await fc.assert(
      fc.asyncProperty(question, fc.constantFrom(hourMs, 3 * hourMs, hourMs / 2), async (about, stepMs) => {
        // The one line of the far future needs a bucket of its own, far away.
        const until = about.until ?? first + length + 2 * hourMs;
        const bounded = { ...about, until };
        const histogram = await store.reader(bounded.scope).histogram({
          ...conditions(bounded),
          ...{ by: bounded.by, buckets: 1000, series: 10, stepMs },
        });
        const meant = asked(bounded);
        expect(histogram.count).toBe(meant.length);
        for (const [bucket, count] of histogram.counts.entries()) {
          const from = histogram.since + bucket * stepMs;
          const inside = meant.filter(({ timestamp }) => timestamp >= from && timestamp < from + stepMs);
          expect(count).toBe(inside.length);
          const byValue = countsOf(inside.map((line) => value(line, bounded.by)));
          for (const series of histogram.series ?? []) {
            expect(series.counts[bucket]).toBe(byValue.get(series.value) ?? 0);
          }
        }
      }),
      { numRuns: 25 },
    );
  });

  test('so do facets, and the range of time', async () => {
    await fc.assert(
      fc.asyncProperty(question, async (about) => {
        const reader = store.reader(about.scope);
        const meant = asked(about);
        const { facets } = await reader.facets({ ...conditions(about), fields: [about.by], limit: 10 });
        const counts = countsOf(meant.map((line) => value(line, about.by)));
        const [facet] = facets;
        expect(facet?.withoutLines).toBe(counts.get(null) ?? 0);
        expect(new Map(facet?.values.map((each) => [each.value, each.count]))).toEqual(
          new Map([...counts].filter(([each]) => each !== null)),
        );
        const { since, until, count } = await reader.histogram({
          ...conditions(about),
          buckets: 1000,
          series: 1,
        });
        expect(count).toBe(meant.length);
        for (const { timestamp } of meant) {
          expect(timestamp).toBeGreaterThanOrEqual(since);
          expect(timestamp).toBeLessThan(until);
        }
      }),
      { numRuns: 25 },
    );
  });

  test('whole hours are read from the projection, and nothing else is', async () => {
    const reads: string[] = [];
    const reader = store.reader(unlimited);
    const { query } = store.engine;
    store.engine.query = async (sql, settings) => {
      const plan = await query.call(store.engine, `EXPLAIN ${sql}`, settings);
      reads.push(plan.map((row) => (row as { explain: string }).explain).join('\n'));
      return query.call(store.engine, sql, settings) as never;
    };
    try {
      const day = {
        since: Math.ceil(first / hourMs) * hourMs,
        until: Math.ceil(first / hourMs) * hourMs + 24 * hourMs,
      };
      const all = { buckets: 1000, series: 10 };
      await reader.histogram({ ...day, ...all, by: 'level', stepMs: hourMs });
      await reader.facets({ fields: ['service'], limit: 5 });
      await reader.histogram({
        ...day,
        ...all,
        by: 'service',
        stepMs: hourMs,
        query: parseQuery('level:error'),
      });
      expect(reads.every((plan) => plan.includes('(counts)'))).toBe(true);
      reads.length = 0;
      await reader.histogram({ ...day, ...all, by: 'level', stepMs: hourMs, query: parseQuery('one') });
      await reader.histogram({ ...day, ...all, by: 'level', stepMs: hourMs, stream: 'stderr' });
      expect(reads.some((plan) => plan.includes('(counts)'))).toBe(false);
    } finally {
      store.engine.query = query;
    }
  });
});

test('only what the projection has is counted by it', () => {
  expect(['device', 'service', 'app', 'level'].every(isCountedField)).toBe(true);
  expect(isCountedField('container')).toBe(false);
});
