import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseQuery, unlimited } from '../../src/query/index.ts';
import { type DayOfLines, Density } from '../../src/store/density.ts';
import type { LogEngine } from '../../src/store/index.ts';
import { LogReader } from '../../src/store/log-reader.ts';
import { RareSearches } from '../../src/store/rare-searches.ts';
import {
  findingSlices,
  newestSlices,
  readInSlices,
  type Slice,
  type SlicedPage,
} from '../../src/store/slices.ts';

const time = fc.integer({ min: 0, max: 150 });
/** Any at all: it may be of a moment ago, and devices give their lines whatever times they believe in. */
const days = fc.array(
  fc.record({ at: time, lengthMs: fc.nat(150), lines: fc.integer({ min: 1, max: 300 }) }),
  { maxLength: 4 },
);
const densityOf = (some: { at: number; lengthMs: number; lines: number }[]) =>
  new Density(
    some.map(({ at, lengthMs, lines }): DayOfLines => ({ firstMs: at, lastMs: at + lengthMs, lines })),
  );

test('whatever the density says, slices find what one statement finds, in its order', async () => {
  let sliced = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(time, { maxLength: 60 }),
      days,
      fc.record(
        {
          since: time,
          until: time,
          order: fc.constantFrom<'asc' | 'desc'>('asc', 'desc'),
          limit: fc.integer({ min: 1, max: 70 }),
        },
        { requiredKeys: ['order', 'limit'] },
      ),
      fc.integer({ min: 1, max: 20 }),
      fc.boolean(),
      async (times, some, page: SlicedPage, leastLines, isIndexed) => {
        const sorted = times.toSorted((a, b) => (page.order === 'asc' ? a - b : b - a));
        const find = ({
          since = Number.NEGATIVE_INFINITY,
          until = Number.POSITIVE_INFINITY,
          limit,
        }: Partial<Slice>) => sorted.filter((ts) => ts >= since && ts < until).slice(0, limit);
        let statements = 0;
        const read = async (slice: Slice) => {
          statements++;
          return find(slice);
        };
        const found = await readInSlices(page, densityOf(some), read, {
          leastLines,
          linesPerRow: 0,
          isIndexed,
        });
        expect(found).toEqual(find(page));
        // Each is at least twice the one before, and there are 1200 lines at most.
        expect(statements).toBeLessThan(14);
        if (statements > 1) sliced++;
      },
    ),
    { numRuns: 2000 },
  );
  expect(sliced).toBeGreaterThan(100);
});

describe('of a day with a million lines', () => {
  const dayMs = 86_400_000;
  const density = new Density([{ firstMs: 0, lastMs: dayMs - 1, lines: 1_000_000 }]);
  /** The slices that are read when every so manieth line is meant. */
  const slices = async (every: number, page: Partial<SlicedPage> = {}, slicing = findingSlices) => {
    const read: { lines: number; lengthMs: number }[] = [];
    const rows = await readInSlices<number>(
      { order: 'desc', limit: 101, ...page },
      density,
      async ({ since = 0, until = dayMs, limit, lines }) => {
        const lengthMs = Math.min(until, dayMs) - Math.max(since, 0);
        read.push({ lines, lengthMs });
        return Array.from(
          { length: Math.min(limit, Math.floor((lengthMs / dayMs) * (1_000_000 / every))) },
          () => 0,
        );
      },
      slicing,
    );
    return { read, found: rows.length };
  };

  test.each(['asc', 'desc'] as const)(
    'a word of every fifth line is found in the first, %s',
    async (order) => {
      const { read, found } = await slices(5, { order });
      expect(found).toBe(101);
      expect(read).toHaveLength(1);
      expect(read[0]?.lengthMs).toBeLessThan(dayMs / 12);
    },
  );

  test('a rarer one in as many as its rate says', async () => {
    const { read, found } = await slices(3000);
    expect(found).toBe(101);
    expect(read).toHaveLength(2);
    expect(read[1]?.lengthMs).toBeLessThan(dayMs * 0.9);
  });

  test('one that is not among the newest in all the rest at once', async () => {
    const { read } = await slices(10_000_000);
    expect(read).toHaveLength(2);
    expect(read[1]?.lines).toBe(Number.POSITIVE_INFINITY);
  });

  test('where no index finds what is rare, in as many more as may be', async () => {
    const { read } = await slices(10_000_000, {}, newestSlices);
    expect(read.length).toBeGreaterThan(2);
    expect(read[1]?.lines).toBe(64 * (read[0]?.lines as number));
  });

  test('the newest of all are found among about as many', async () => {
    const { read, found } = await slices(1, {}, newestSlices);
    expect(found).toBe(101);
    expect(read).toHaveLength(1);
    expect(read[0]?.lengthMs).toBeLessThan(dayMs / 1000);
  });

  test('a short time is read at once', async () => {
    expect((await slices(5, { since: dayMs - 3_600_000 })).read).toHaveLength(1);
  });
});

test('a search whose newest lines had nothing is read at once the next time, until there are enough', async () => {
  let statements = 0;
  let stored = 0;
  const row = { device: 'a', journal: 'j', timestampMs: 1, seq: 1, message: 'seldom', fields: '', app: '' };
  const reader = new LogReader({
    engine: {
      query: async () => {
        statements++;
        return Array.from({ length: stored }, () => row);
      },
    } as unknown as LogEngine,
    scope: unlimited,
    maxSeconds: 30,
    settings: { read: {}, find: {}, small: {}, anywhere: {} },
    density: async () => new Density([{ firstMs: 0, lastMs: 86_400_000, lines: 10_000_000 }]),
    rare: new RareSearches(),
  });
  const statementsOf = async (words: string[], limit = 2) => {
    const before = statements;
    await reader.search({ words, limit, order: 'desc' });
    return statements - before;
  };
  expect(await statementsOf(['seldom'])).toBe(2);
  expect(await statementsOf(['seldom'], 5)).toBe(1);
  expect(await statementsOf(['another'])).toBe(2);
  stored = 3;
  expect(await statementsOf(['seldom'])).toBe(1);
  stored = 0;
  expect(await statementsOf(['seldom'])).toBe(2);
});

test('each kind of reading has the settings of the engine that are meant for it', async () => {
  const statements: string[] = [];
  const kinds = ['read', 'find', 'small', 'anywhere'] as const;
  const reader = new LogReader({
    engine: {
      query: async (_sql: string, settings: object) => {
        statements.push(kinds.filter((kind) => kind in settings).join(' '));
        return [];
      },
    } as unknown as LogEngine,
    scope: unlimited,
    maxSeconds: 30,
    settings: { read: { read: 1 }, find: { find: 1 }, small: { small: 1 }, anywhere: { anywhere: 1 } },
    density: async () => new Density([{ firstMs: 0, lastMs: 86_400_000, lines: 10_000_000 }]),
    rare: new RareSearches(),
  });
  const of = async (run: () => Promise<unknown>) => {
    await run();
    return statements.splice(0);
  };
  const page = { limit: 2, order: 'desc' } as const;
  const words = ['seldom'];
  expect(await of(() => reader.search({ ...page, words }))).toEqual([
    'read find small anywhere',
    'read find anywhere',
  ]);
  expect(await of(() => reader.search({ ...page, words }))).toEqual(['read find anywhere']);
  expect((await of(() => reader.search({ ...page, words, device: 'a' })))[0]).toBe('read find small');
  expect((await of(() => reader.search(page)))[0]).toBe('read small anywhere');
  expect(await of(() => reader.search({ ...page, device: 'a' }))).toEqual(['read']);
  expect(await of(() => reader.facets({ fields: ['service'], limit: 1 }))).toEqual(['read anywhere']);
  const named = parseQuery('level:error (x OR service:web)');
  expect(await of(() => reader.facets({ fields: ['service'], limit: 1, query: named }))).toEqual(['read']);
});
