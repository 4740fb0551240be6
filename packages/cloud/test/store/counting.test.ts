import type { StoredLine } from '@millrace/wire';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseQuery, queryPredicate, unlimited } from '../../src/query/index.ts';
import { roundStep } from '../../src/store/histogram.ts';
import type { LogReader, LogStore } from '../../src/store/index.ts';
import { append, placesAndCluster, type StorePlace } from './open-stores.ts';

test('a round step is the shortest that needs no more buckets', () => {
  const minute = 60_000;
  const hour = 60 * minute;
  const day = 24 * hour;
  expect(roundStep(0, hour, 60)).toBe(minute);
  expect(roundStep(1, hour + 1, 60)).toBe(2 * minute);
  expect(roundStep(0, 1, 60)).toBe(1);
  expect(roundStep(0, 7 * day, 60)).toBe(3 * hour);
  expect(roundStep(0, day, 1)).toBe(day);
  fc.assert(
    fc.property(
      fc.nat(9_876_999_999_999),
      fc.integer({ min: 1, max: 9_000_000_000_000 }),
      fc.integer({ min: 2, max: 1000 }),
      (since, length, buckets) => {
        const step = roundStep(since, since + length, buckets);
        const needed = Math.ceil((since + length) / step) - Math.floor(since / step);
        expect(needed).toBeLessThanOrEqual(buckets);
        // Steps of a calendar are at most 3.5 times the one before; one bucket more is what two ends may need.
        if (step > 1) expect(needed * 3.5 + 3.5).toBeGreaterThanOrEqual(Math.min(buckets, length));
      },
    ),
  );
});

describe.each(placesAndCluster)('counting, $name', ({ make }) => {
  let place: StorePlace;
  let store: LogStore;
  let reader: LogReader;
  let lines: StoredLine[];

  beforeAll(async () => {
    place = await make();
    store = await place.open();
    reader = store.reader(unlimited);
    const texts = fc.sample(
      fc.record({
        message: fc.constantFrom(
          '{"code":1}',
          '{"code":2}',
          '{"code":"two"}',
          'code=1 x=y',
          'code=true x=y',
          'text',
        ),
        timestamp: fc.integer({ min: 1_000_000, max: 1_060_000 }),
        level: fc.constantFrom('debug', 'info', 'warn', 'error'),
      }),
      { numRuns: 300, seed: 5 },
    );
    for (const device of ['a', 'b']) await append(store, texts, { device, journal: `journal0${device}` });
    lines = (await reader.search({ limit: 1000, order: 'asc' })).logs;
    expect(lines).toHaveLength(600);
  });
  afterAll(async () => {
    await store?.close();
    await place?.[Symbol.asyncDispose]();
  });

  const shown = (line: StoredLine, by: string): string | null => {
    if (by === 'level') return line.level;
    if (by === 'device') return line.device;
    const value = line.fields?.[by];
    return value === undefined ? null : String(value);
  };
  const counted = (values: (string | null)[]) => {
    const counts = new Map<string | null, number>();
    for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
    return counts;
  };

  test('a histogram counts every line once, where it belongs', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('level', 'device', 'code', 'x', 'absent'),
        fc.constantFrom('*', 'level>=warn', 'code:1', '-device:a', 'nothing'),
        fc.option(fc.integer({ min: 999_000, max: 1_061_000 }), { nil: undefined }),
        fc.option(fc.integer({ min: 999_000, max: 1_061_000 }), { nil: undefined }),
        fc.integer({ min: 2, max: 40 }),
        fc.integer({ min: 1, max: 3 }),
        async (by, text, since, until, buckets, series) => {
          const query = parseQuery(text);
          const result = await reader.histogram({ query, by, since, until, buckets, series });
          const matches = queryPredicate(query);
          const expected = lines.filter(
            (line) =>
              matches(line) && line.timestamp >= (since ?? 0) && line.timestamp < (until ?? Number.MAX_VALUE),
          );
          const bucketOf = ({ timestamp }: StoredLine) =>
            Math.floor((timestamp - result.since) / result.stepMs);
          const counts = (of: StoredLine[]) => {
            const into = new Array<number>(result.counts.length).fill(0);
            for (const line of of) into[bucketOf(line)] = (into[bucketOf(line)] ?? 0) + 1;
            return { count: of.length, counts: into };
          };
          expect(result.counts.length).toBeLessThanOrEqual(buckets);
          expect(result).toMatchObject(counts(expected));
          const own = (result.series ?? []).map(({ value }) => value);
          const most = [...counted(expected.map((line) => shown(line, by)))]
            .map(([, n]) => n)
            .sort((a, b) => b - a);
          expect((result.series ?? []).map(({ count }) => count)).toEqual(most.slice(0, series));
          for (const { value, ...rest } of result.series ?? []) {
            expect(rest).toEqual(counts(expected.filter((line) => shown(line, by) === value)));
          }
          const others = expected.filter((line) => !own.includes(shown(line, by)));
          expect(result.other ?? counts([])).toEqual(counts(others));
        },
      ),
      { numRuns: 25 },
    );
  });

  test('facets count every line once', async () => {
    const { facets } = await reader.facets({ fields: ['level', 'code', 'x'], limit: 2, device: 'a' });
    const own = lines.filter(({ device }) => device === 'a');
    for (const { field, values, distinct, otherLines, withoutLines } of facets) {
      const counts = counted(own.map((line) => shown(line, field)));
      expect(withoutLines).toBe(counts.get(null) ?? 0);
      counts.delete(null);
      expect(distinct).toBe(counts.size);
      const most = [...counts].sort(([a, n], [b, m]) => m - n || (String(a) < String(b) ? -1 : 1));
      expect(values).toEqual(most.slice(0, 2).map(([value, count]) => ({ value, count })));
      expect(otherLines).toBe(most.slice(2).reduce((sum, [, n]) => sum + n, 0));
    }
  });
});
