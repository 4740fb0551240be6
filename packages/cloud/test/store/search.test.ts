import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { anyCharacter } from '../../../../tests/support/text-arbitraries.ts';
import { unlimited } from '../../src/query/index.ts';
import { Density } from '../../src/store/density.ts';
import type { LogStore, SearchQuery } from '../../src/store/index.ts';
import { type LogRow, lineOf, searchSql, wholePage } from '../../src/store/search.ts';
import { readInSlices, type Slice } from '../../src/store/slices.ts';
import { containsPattern, string } from '../../src/store/sql.ts';
import { append, placesAndCluster, type StorePlace } from './open-stores.ts';

const base = Date.UTC(2026, 0, 1);

describe.each(placesAndCluster)('search, $name', ({ make }) => {
  let place: StorePlace;
  let store: LogStore;

  beforeAll(async () => {
    place = await make();
    store = await place.open();
    // Two devices, two journals, and only three different times: nearly every order is decided by what follows.
    for (const [device, journal] of [
      ['dev-a', 'journala1'],
      ['dev-b', 'journalb1'],
      ['dev-b', 'journalb2'],
    ] as const) {
      const lines = Array.from({ length: 40 }, (_, i) => ({
        message: `${device} ${journal} line ${i + 1}`,
        timestamp: base + Math.floor(i / 15),
        serviceName: i % 2 ? 'web' : 'db',
        ...(i % 4 === 3 && { isStdErr: true }),
        ...(i % 8 === 0 && { level: 'debug' }),
      }));
      await append(store, lines, { device, journal });
    }
    await append(
      store,
      [
        'Connection REFUSED by 10.0.0.1:5432',
        '100% sure_thing \\ "quoted" it\'s',
        'Straße ÄÖÜ 日本語 👋',
        'cafe\u0301',
        'tab\there\u0000nul',
      ].map((message, i) => ({ message, timestamp: base + 1000 + i })),
      { device: 'words' },
    );
  });
  afterAll(async () => {
    await store?.close();
    await place?.[Symbol.asyncDispose]();
  });

  const all = async (query: Omit<SearchQuery, 'limit'>, limit: number) => {
    const out: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await store.search({ ...query, limit, cursor });
      expect(page.logs.length).toBeLessThanOrEqual(limit);
      out.push(...page.logs.map((line) => `${line.device} ${line.id}`));
      cursor = page.cursor;
    } while (cursor);
    return out;
  };

  test.each(['asc', 'desc'] as const)(
    'pages of any size add up, %s, with equal timestamps',
    async (order) => {
      const whole = await all({ order }, 10_000);
      expect(whole).toHaveLength(125);
      expect(new Set(whole).size).toBe(125);
      for (const limit of [1, 7, 50, 125]) expect(await all({ order }, limit)).toEqual(whole);
      if (order === 'desc') expect(whole).toEqual((await all({ order: 'asc' }, 10_000)).reverse());
    },
  );

  test('pages that are read in slices of time are the same, both ways', async () => {
    const density = new Density([{ firstMs: base, lastMs: base + 1004, lines: 1005 }]);
    const asked: Slice[] = [];
    let pages = 0;
    for (const order of ['asc', 'desc'] as const) {
      for (const query of [{}, { words: ['line 3'] }, { since: base + 1 }, { until: base + 1002 }]) {
        let cursor: string | undefined;
        for (let page = 0; page < 2; page++) {
          const search = { order, limit: 13, ...query, cursor };
          const expected = await store.search(search);
          const rows = await readInSlices<LogRow>(
            { ...wholePage(search), order },
            density,
            (slice) => {
              asked.push(slice);
              return store.engine.query(searchSql(search, unlimited, slice));
            },
            { leastLines: 1, linesPerRow: 0, isIndexed: true },
          );
          expect(rows.slice(0, 13).map(lineOf)).toEqual(expected.logs);
          expect(rows.length > 13).toBe(expected.cursor !== undefined);
          cursor = expected.cursor;
          pages++;
          if (cursor === undefined) break;
        }
      }
    }
    expect(asked.length).toBeGreaterThan(pages * 1.3);
  });

  test('a device is read back in seq order for equal timestamps (order)', async () => {
    const { logs } = await store.search({ device: 'dev-a', limit: 100, order: 'asc' });
    expect(logs.map((line) => line.seq)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
  });

  test('lines that come in while paging disturb no page', async () => {
    const first = await store.search({ device: 'dev-a', limit: 10, order: 'desc' });
    await append(store, [{ message: 'late', timestamp: base + 60_000 }], {
      device: 'dev-a',
      journal: 'journalz9',
    });
    const second = await store.search({ device: 'dev-a', limit: 10, order: 'desc', cursor: first.cursor });
    expect([...first.logs, ...second.logs].map((line) => line.seq)).toEqual(
      Array.from({ length: 20 }, (_, i) => 40 - i),
    );
    // And back the way that led here, past where it began.
    const back = await store.search({ device: 'dev-a', limit: 100, order: 'asc', cursor: second.back });
    expect(back.logs.map((line) => line.seq)).toEqual([...Array.from({ length: 10 }, (_, i) => 31 + i), 1]);
    const newest = await store.search({ device: 'dev-a', limit: 1, order: 'desc' });
    const later = { device: 'dev-a', limit: 1, order: 'asc' as const, cursor: newest.back };
    expect(await store.search(later)).toEqual({ logs: [] });
  });

  test.each<[string, Partial<SearchQuery>, number]>([
    ['device', { device: 'dev-a' }, 40],
    ['several devices', { device: ['dev-a', 'dev-b', 'nobody'] }, 120],
    ['no device at all', { device: [] }, 0],
    ['service', { service: 'web', device: 'dev-a' }, 20],
    ['levels', { levels: ['debug'], device: 'dev-a' }, 5],
    ['two levels', { levels: ['debug', 'error'], device: 'dev-a' }, 15],
    ['no level', { levels: [] }, 0],
    ['stdout', { stream: 'stdout', device: 'dev-a' }, 30],
    ['stderr', { stream: 'stderr', device: 'dev-a' }, 10],
    ['since is inclusive', { since: base + 2, device: 'dev-a' }, 10],
    ['until is exclusive', { until: base + 2, device: 'dev-a' }, 30],
    ['times beyond all bounds', { since: -1e300, until: Number.MAX_VALUE, device: 'dev-b' }, 80],
    [
      'all at once',
      {
        service: 'web',
        levels: ['error'],
        stream: 'stderr',
        since: base,
        until: base + 1,
        words: ['LINE'],
        device: 'dev-a',
      },
      3,
    ],
  ])('%s', async (_, query, count) => {
    const { logs } = await store.search({
      limit: 1000,
      order: 'asc',
      ...query,
      until: query.until ?? base + 1000,
    });
    expect(logs).toHaveLength(count);
  });

  test.each<[string[], number]>([
    [['refused'], 1],
    [['REFUSED', 'connection'], 1],
    [['refused', 'nothing'], 0],
    [['efus'], 1],
    [['by 10.0.0.1:54'], 1],
    [['n refused b'], 1],
    [['0.0.1'], 1],
    [['%'], 1],
    [['_'], 1],
    [['sure_thing'], 1],
    [['sure%thing'], 0],
    [['\\'], 1],
    [['"quoted" it\'s'], 1],
    [['straße ÄÖÜ 日本'], 1],
    [['日本語'], 1],
    [['👋'], 1],
    [['tab\there\u0000n'], 1],
    [[''], 5],
    [["'; DROP TABLE millrace.logs; --"], 0],
  ])('words %j', async (words, count) => {
    const { logs } = await store.search({ device: 'words', limit: 10, order: 'asc', words });
    expect(logs).toHaveLength(count);
  });

  test.each<[string, Partial<SearchQuery>]>([
    ['limit', { limit: 0 }],
    ['limit', { limit: 10_001 }],
    ['limit', { limit: 1.5 }],
    ['cursor', { cursor: 'nonsense' }],
    ['cursor', { cursor: Buffer.from('["desc",1,"a","b",1]').toString('base64url') }],
    ['cursor', { cursor: Buffer.from('["asc","1) OR (1=1","a","b",1]').toString('base64url') }],
    ['words', { words: ['x'.repeat(1001)] }],
    ['words', { words: Array(33).fill('x') }],
    ['level', { levels: ["error') OR (1=1" as 'error'] }],
  ])('a wrong %s is named', async (name, query) => {
    await expect(store.search({ limit: 10, order: 'asc', ...query })).rejects.toMatchObject({
      code: 'PARAMETER_INVALID',
      detail: expect.stringContaining(name),
    });
  });

  test('any text survives as a literal, and as a pattern matches itself alone', async () => {
    const texts = fc.sample(fc.string({ unit: anyCharacter, maxLength: 30 }), { numRuns: 300, seed: 7 });
    const nasty = [
      "'",
      '\\',
      "\\'",
      "\\\\'",
      '\0',
      '{a:String}',
      '%',
      '_',
      '\\%',
      "'; --",
      '\u0085',
      '\ud800',
      '?',
    ];
    const values = [...texts, ...nasty];
    const checks = values.map((value) => {
      const hex = Buffer.from(value.toWellFormed()).toString('hex').toUpperCase();
      return `hex(${string(value)}) = '${hex}' AND ${string(`x${value}y`)} LIKE ${containsPattern(value)}`;
    });
    const [row] = await store.engine.query<{ ok: number[] }>(`SELECT [${checks.join(',\n')}] AS ok`);
    expect(values.filter((_, i) => !row?.ok[i])).toEqual([]);
    const [no] = await store.engine.query<{ wrong: number }>(
      `SELECT 'axb' LIKE ${containsPattern('a%b')} OR 'axb' LIKE ${containsPattern('a_b')} AS wrong`,
    );
    expect(no?.wrong).toBeFalsy();
  });
});
