import type { Patterns } from '@millrace/wire';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { parseQuery, unlimited } from '../../src/query/index.ts';
import type { LogStore } from '../../src/store/index.ts';
import type { Select } from '../../src/store/log-reader.ts';
import { readPatterns } from '../../src/store/patterns.ts';
import { append, places, type StorePlace } from './open-stores.ts';

const uuid = '3f2b8c1e-9d4a-4c6b-8a7e-0123456789ab';

describe.each(places)('patterns, $name', ({ make }) => {
  let place: StorePlace;
  let store: LogStore;

  beforeAll(async () => {
    place = await make();
    store = await place.open();
  });
  afterAll(async () => {
    await store.close();
    await place[Symbol.asyncDispose]();
  });

  test.each<[string, string, string]>([
    ['numbers', 'took 12 of 3.5 or 1,000 ms, 80% left', 'took <*> of <*> or <*> ms, <*>% left'],
    [
      'numbers with a unit or a name',
      '12ms 3.5s worker-7 eth0 v1.2.3 shard_12',
      '<*>ms <*>s worker-<*> eth<*> v<*> shard_<*>',
    ],
    ['times', '2026-11-20T14:00:00.123Z 2026-11-20 14:00:00,5+02:00 14:00:00', '<*> <*> <*>:<*>:<*>'],
    [
      'addresses',
      'from 10.0.0.1:5432 and 192.168.1.2 and fe80:0:0:0:1:2:3:4 and fe80::1',
      'from <*> and <*> and <*> and <*>',
    ],
    ['uuids', `order ${uuid} of ${uuid.toUpperCase()}`, 'order <*> of <*>'],
    ['hexadecimal numbers', 'at 0xDEADBEEF, commit 8f3a2b1c and f00dcafe1', 'at <*>, commit <*> and <*>'],
    ['other ids', 'request x7Kp2qLm of req_8f3a2b', 'request <*> of <*>'],
    ['words are left alone', 'deadbeef feedback added a cafe', 'deadbeef feedback added a cafe'],
    ['JSON by what it calls the message', '{"level":"info","id":7,"msg":"done in 5 s"}', 'done in <*> s'],
    ['JSON with another name', '{"message":"hello 1"}', 'hello <*>'],
    ['other JSON as text', '{"a":1}', '{"a":<*>}'],
    ['a stack trace by its first line', '\nError: no 5\n    at x (y.js:1)\n', 'Error: no <*>'],
    ['what could end a string', "it's \\1 \u0000 {x}", "it's \\<*> \u0000 {x}"],
  ])('%s', async (name, message, pattern) => {
    await append(store, [{ message, timestamp: 1000 }], { device: `mask ${name}`, journal: 'journal01' });
    const { patterns } = await store.reader(unlimited).patterns({ device: `mask ${name}`, limit: 10 });
    expect(patterns).toEqual([
      {
        pattern,
        count: 1,
        share: 1,
        levels: { debug: 0, info: 1, warn: 0, error: 0 },
        firstSeen: 1000,
        lastSeen: 1000,
        example: { id: 'journal01-1', device: `mask ${name}`, timestamp: 1000, message },
      },
    ]);
  });

  test('count lines by level and time, of the lines that were asked for', async () => {
    const lines = Array.from({ length: 40 }, (_, i) => ({
      message:
        i % 4 === 3
          ? `disk ${i} is full`
          : `user ${['jane', 'bob', 'eve'][i % 4]} logged in from 10.0.0.${i}`,
      timestamp: 1000 + i,
      level: i % 4 === 3 ? 'error' : i < 20 ? 'info' : 'debug',
    }));
    await append(store, lines, { device: 'counted', journal: 'journal02' });
    const reader = store.reader(unlimited);
    const all = await reader.patterns({ device: 'counted', limit: 10 });
    expect(all).toMatchObject({ total: 40, examined: 40, distinct: 2 });
    expect(all.patterns).toEqual([
      {
        pattern: 'user <*> logged in from <*>',
        count: 30,
        share: 0.75,
        levels: { debug: 15, info: 15, warn: 0, error: 0 },
        firstSeen: 1000,
        lastSeen: 1038,
        example: {
          id: 'journal02-39',
          device: 'counted',
          timestamp: 1038,
          message: 'user eve logged in from 10.0.0.38',
        },
      },
      expect.objectContaining({
        pattern: 'disk <*> is full',
        count: 10,
        share: 0.25,
        firstSeen: 1003,
        lastSeen: 1039,
      }),
    ]);
    expect((await reader.patterns({ device: 'counted', limit: 1 })).patterns).toEqual([all.patterns[0]]);
    const some = await reader.patterns({
      device: 'counted',
      limit: 10,
      query: parseQuery('full'),
      since: 1020,
    });
    expect(some).toMatchObject({
      total: 5,
      distinct: 1,
      patterns: [{ pattern: 'disk <*> is full', count: 5 }],
    });
    expect(await reader.patterns({ device: 'nobody', limit: 10 })).toEqual({
      patterns: [],
      distinct: 0,
      total: 0,
      examined: 0,
    });
  });

  test('of too many lines an even sample is examined, and said to be', async () => {
    const lines = Array.from({ length: 4000 }, (_, i) => ({
      message: i % 5 ? `ping ${i}` : `pong ${i} failed`,
      timestamp: i,
    }));
    await append(store, lines, { device: 'sampled', journal: 'journal03' });
    const limits = { examinedLines: 1000, frequentTexts: 10, rareTexts: 10 };
    const { total, examined, patterns } = await read({ device: 'sampled', limits });
    expect(total).toBe(4000);
    expect(examined).toBeGreaterThan(800);
    expect(examined).toBeLessThan(1200);
    expect(patterns.map(({ pattern }) => pattern)).toEqual(['ping <*>', 'pong <*> failed']);
    expect(patterns.reduce((sum, { count }) => sum + count, 0)).toBe(examined);
    expect(patterns[0]?.share).toBeCloseTo(0.8, 1);
  });

  test('of too many different texts some stand for all', async () => {
    const word = (i: number) =>
      String.fromCharCode(...[i % 26, Math.floor(i / 26) % 26, Math.floor(i / 676)].map((n) => 97 + n));
    const lines = Array.from({ length: 3000 }, (_, i) => ({
      message:
        i < 500
          ? 'all is well'
          : i % 2
            ? `the key of ${word(i)} was renewed`
            : `no user ${word(i)} is known here`,
      timestamp: i,
    }));
    await append(store, lines, { device: 'diverse', journal: 'journal04' });
    const limits = { examinedLines: 10_000, frequentTexts: 1, rareTexts: 400 };
    const { examined, patterns } = await read({ device: 'diverse', limits });
    expect(examined).toBe(3000);
    const counts = Object.fromEntries(patterns.map(({ pattern, count }) => [pattern, count]));
    expect(Object.keys(counts)).toHaveLength(3);
    expect(counts['all is well']).toBe(500);
    for (const pattern of ['the key of <*> was renewed', 'no user <*> is known here']) {
      expect(counts[pattern]).toBeGreaterThan(1000);
      expect(counts[pattern]).toBeLessThan(1500);
    }
  });

  test('a statement ends in the engine when nobody waits for it any more', async () => {
    const gone = new AbortController();
    const endless = 'SELECT count() AS n FROM numbers(1000000000000) WHERE cityHash64(number) = 1';
    const running = store.engine.query(endless, { max_execution_time: 60 }, gone.signal);
    const failed = expect(running).rejects.toMatchObject({ code: 'STORE_FAILED' });
    const isRunning = async () => {
      const [row] = await store.engine.query<{ n: number }>(
        "SELECT count() AS n FROM system.processes WHERE query LIKE '%numbers(1000000000000)%' AND query NOT LIKE '%system.processes%'",
      );
      return row?.n === 1;
    };
    await until(isRunning, { what: 'the statement to run' });
    gone.abort();
    await failed;
    await until(async () => !(await isRunning()), { what: 'the statement to end' });
    await expect(store.engine.query('SELECT 1', {}, gone.signal)).rejects.toMatchObject({
      code: 'STORE_FAILED',
    });
  });

  const read = ({
    device,
    limits,
  }: {
    device: string;
    limits: Parameters<typeof readPatterns>[3];
  }): Promise<Patterns> => {
    const select: Select = (sql) => store.engine.query(sql);
    return readPatterns(select, { device, limit: 10 }, unlimited, limits);
  };
});
