import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { copyNewStore } from '../../../../tests/support/cloud-template.ts';
import { memoryDir } from '../../../../tests/support/tmp.ts';
import { parseQuery, querySql } from '../../src/query/index.ts';
import type { EngineSettings } from '../../src/store/engine.ts';
import { type LogStore, openStore } from '../../src/store/index.ts';
import { string } from '../../src/store/sql.ts';
import { indexSettings, textIndexes } from '../../src/store/text-index.ts';
import { silent } from '../store/open-stores.ts';

let dir: Awaited<ReturnType<typeof memoryDir>>;
let store: LogStore;

beforeAll(async () => {
  dir = await memoryDir();
  await copyNewStore(join(dir.path, 'store'));
  store = await openStore({ dataDir: join(dir.path, 'store'), log: silent });
  await store.engine.command(`INSERT INTO millrace.logs (device, service, ts, seq, journal, level, message, fields, received)
SELECT 'dev', 'web', fromUnixTimestamp64Milli(toInt64(number)), number, 'journal01', 'info',
  multiIf(number = 55555, 'Connection refused by needleword-42 after 10 ms', number % 2 = 0, concat('connection ', toString(number), ' by peer'), concat('refused request ', toString(number))),
  '{"ms":5}', now64(3)
FROM numbers(100000)`);
  // Lines whose fields are in their messages, but for one.
  await store.engine.command('CREATE TABLE millrace.structured AS millrace.logs');
  await store.engine.command(`INSERT INTO millrace.structured (device, ts, seq, message, fields)
SELECT 'dev', fromUnixTimestamp64Milli(toInt64(number)), number,
  multiIf(number = 20000, '{"request":"ABCDEF01","status":200,"wait_ms":1.5e3}', number = 40000, '{"deep":{"request":"abcdef02"}}',
    number = 60000, 'status=200 trace="one two"', number = 80000, '{"request":"a\\\\"b","status":500}',
    number % 2 = 0, concat('{"status":200,"n":', toString(number), '}'), concat('status=200 n=', toString(number))),
  if(number = 99999, '{"shape":"round"}', '')
FROM numbers(100000)`);
});
afterAll(async () => {
  await store?.close();
  await dir?.[Symbol.asyncDispose]();
});

/** Blocks of 4096 lines, of 8 granules each, that the indexes leave to be read, by the engine's own account. */
async function blocks(
  text: string,
  table = 'millrace.logs',
): Promise<{ left: number; of: number } | undefined> {
  const { read } = await indexSettings(store.engine);
  const rows = await store.engine.query<{ explain: string }>(
    `EXPLAIN indexes = 1 SELECT message FROM ${table} WHERE ${querySql(parseQuery(text))}`,
    read,
  );
  const plan = rows.map(({ explain }) => explain).join('\n');
  const of = /PrimaryKey[\s\S]*?Granules: \d+\/(\d+)/.exec(plan)?.[1];
  const left = [...plan.matchAll(/Granules: (\d+)\/\d+/g)].at(-1)?.[1];
  return of && left ? { left: Math.ceil(Number(left) / 8), of: Math.ceil(Number(of) / 8) } : undefined;
}

describe('the indexes serve', () => {
  test.each([
    ['a word', 'needleword', 1],
    ['a part of a word', 'eedlewor', 1],
    ['a word that is nowhere', 'absentword', 0],
    ['a phrase', '"refused by needleword"', 1],
    ['a phrase of two words', '"by needleword"', 1],
    ['the beginning of a word', 'needlew*', 1],
    ['the end of a word', '*eedleword', 1],
    ['a wildcard in the middle', 'need*word', 1],
    ['a regular expression', '/needle\\w+-\\d+/', 1],
    ['a regular expression, in any case', '/NEEDLEWORD-\\d+/i', 1],
    ['words that must all occur', 'connection needleword', 1],
    ['one word of two', 'needleword OR absentword', 1],
    ['a word without another', 'needleword -peer', 1],
    ['a word beside a condition of its own', 'needleword ms:5 level:info', 1],
  ])('%s: %s', async (_name, text, left) => {
    const read = await blocks(text);
    expect(read?.of).toBeGreaterThanOrEqual(6);
    expect(read?.left).toBe(left);
    const [row] = await store.engine.query<{ n: number }>(
      `SELECT count() AS n FROM millrace.logs WHERE ${querySql(parseQuery(text))}`,
    );
    expect(row?.n).toBe(left);
  });
});

describe('the indexes serve conditions on fields', () => {
  test.each([
    ['a value that is text', 'request:abcdef01', 1, 1],
    ['in a path', 'deep.request:abcdef02', 1, 1],
    ['in logfmt', 'trace:"one two"', 1, 1],
    ['with a wildcard', 'request:*cdef01', 2, 1],
    ['an expression', 'request:/^ab.def01/i', 2, 1],
    ['a key that is nowhere', 'absent:>5', 0, 0],
    ['a key, for a number', 'wait_ms:>=1500', 1, 1],
    ['one that has escapes', 'request:"a\\"b"', 1, 1],
    ['fields that were given', 'shape:round', 1, 1],
  ])('%s: %s', async (_name, text, left, found) => {
    const read = await blocks(text, 'millrace.structured');
    expect(read?.of).toBeGreaterThanOrEqual(6);
    // And the block with escapes, and the one with fields of its own.
    expect(read?.left).toBeLessThanOrEqual(left + 2);
    const [row] = await store.engine.query<{ n: number }>(
      `SELECT count() AS n FROM millrace.structured WHERE ${querySql(parseQuery(text))}`,
    );
    expect(row?.n).toBe(found);
  });
});

describe('the engine reads', () => {
  const planOf = async (kind: string, condition: string, settings: EngineSettings) => {
    const rows = await store.engine.query<{ explain: string }>(
      `EXPLAIN ${kind} SELECT device, message FROM millrace.logs WHERE ${condition} ORDER BY ts DESC, seq DESC LIMIT 100`,
      settings,
    );
    return rows.map(({ explain }) => explain).join('\n');
  };
  const conditionOf = (text: string) => querySql(parseQuery(text));

  test('nothing for a word that is nowhere', async () => {
    const { read, find } = await indexSettings(store.engine);
    const selectedParts = async () => {
      const [event] = await store.engine.query<{ value: number }>(
        `SELECT value FROM system.events WHERE event = 'SelectedParts'`,
      );
      return event?.value ?? 0;
    };
    const partsFor = async (settings: EngineSettings) => {
      const before = await selectedParts();
      await store.engine.query(
        `SELECT message FROM millrace.logs WHERE ${conditionOf('absentword')} LIMIT 1`,
        {
          ...settings,
          use_query_condition_cache: 0,
        },
      );
      return (await selectedParts()) - before;
    };
    // By its own lights the engine sets out to read each part, and asks its index then.
    expect(await partsFor(read)).toBe(1);
    expect(await partsFor({ ...read, ...find })).toBe(0);
  });

  test('what is asked for before the times', async () => {
    const { read, find } = await indexSettings(store.engine);
    const frequent = conditionOf('connection');
    expect(await planOf('actions = 1', frequent, read)).toContain('__topKFilter');
    expect(await planOf('actions = 1', frequent, { ...read, ...find })).not.toContain('__topKFilter');
  });

  test('times by their own index, where lines are of anywhere', async () => {
    const { read, anywhere } = await indexSettings(store.engine);
    const newest = 'ts >= fromUnixTimestamp64Milli(99000)';
    const byKey = /PrimaryKey[│\s]+Keys:[│\s]+ts/;
    expect(await planOf('indexes = 1', newest, read)).toMatch(byKey);
    const plan = await planOf('indexes = 1', newest, { ...read, ...anywhere });
    expect(plan).not.toMatch(byKey);
    expect(plan).toMatch(/Name: times[\s\S]*Condition: \(ts in/);
  });
});

test('where it cannot serve, the answer is the same', async () => {
  for (const [text, count] of [
    ['-needleword', 99_999],
    ['ms:>=5', 100_000],
    ['/^C.+42/', 1],
  ] as const) {
    const [row] = await store.engine.query<{ n: number }>(
      `SELECT count() AS n FROM millrace.logs WHERE ${querySql(parseQuery(text))}`,
    );
    expect(row?.n, text).toBe(count);
  }
});

test('with the indexes a search finds what it finds without', async () => {
  const pieces = [
    'time',
    'OUT',
    'é',
    '👋',
    '%',
    '_',
    '\\',
    "'",
    ' ',
    '.',
    '-',
    '4711',
    'a',
    'ß',
    '\n',
    '\u0001',
    '/',
    'naïve',
  ];
  const piece = fc.constantFrom(...pieces);
  const messages = fc.sample(
    fc.array(piece, { maxLength: 8 }).map((some) => some.join('')),
    { numRuns: 300, seed: 3 },
  );
  // A block of the index for each line: nothing that one line holds can hide what is missing of another.
  const { words, grams } = textIndexes(1);
  await store.engine.command(`CREATE TABLE millrace.single (message String, INDEX words ${words},
INDEX grams ${grams.replace(/GRANULARITY \d+/, 'GRANULARITY 1')})
ENGINE = MergeTree ORDER BY tuple() SETTINGS index_granularity = 1`);
  await store.engine.command(
    `INSERT INTO millrace.single SELECT arrayJoin([${messages.map(string).join(', ')}])`,
  );
  const { read } = await indexSettings(store.engine);
  const text = fc.oneof(
    fc
      .array(piece, { minLength: 1, maxLength: 4 })
      .map((some) => `"${some.join('').replace(/[\\"]/g, '\\$&')}"`),
    fc
      .array(fc.constantFrom('time', 'out', '*', '?', '47', 'naï', 'me'), { minLength: 2, maxLength: 4 })
      .map((some) => some.join('')),
    fc.constantFrom(
      '/tim.?e/',
      '/time(out|4711)/i',
      '/TIME.*OUT/i',
      '/^time/',
      '/out$/',
      '/\\d{4}/',
      '/(é|👋)time/',
      '/na.ve/',
    ),
  );
  let found = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(text, { minLength: 1, maxLength: 2 }),
      fc.constantFrom(' ', ' OR ', ' -'),
      async (some, join) => {
        const condition = querySql(parseQuery(some.join(join)));
        const sql = `SELECT groupArray(message) AS messages FROM (SELECT message FROM millrace.single WHERE ${condition} ORDER BY message)`;
        const [withIndexes] = await store.engine.query<{ messages: string[] }>(sql, read);
        const [without] = await store.engine.query<{ messages: string[] }>(sql, { use_skip_indexes: 0 });
        expect(withIndexes).toEqual(without);
        found += without?.messages.length ?? 0;
      },
    ),
    { numRuns: 80 },
  );
  expect(found).toBeGreaterThan(500);
});
