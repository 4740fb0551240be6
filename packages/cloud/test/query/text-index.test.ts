import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { parseQuery, querySql } from '../../src/query/index.ts';
import { type LogStore, openStore } from '../../src/store/index.ts';
import { silent } from '../store/open-stores.ts';

let dir: Awaited<ReturnType<typeof tempDir>>;
let store: LogStore;

beforeAll(async () => {
  dir = await tempDir();
  store = await openStore({ dataDir: join(dir.path, 'store'), log: silent });
  await store.engine.command(`INSERT INTO millrace.logs (device, service, ts, seq, journal, level, message, fields, received)
SELECT 'dev', 'web', fromUnixTimestamp64Milli(toInt64(number)), number, 'journal01', 'info',
  multiIf(number = 55555, 'Connection refused by needleword-42 after 10 ms', number % 2 = 0, concat('connection ', toString(number), ' by peer'), concat('refused request ', toString(number))),
  '{"ms":5}', now64(3)
FROM numbers(100000)`);
});
afterAll(async () => {
  await store?.close();
  await dir?.[Symbol.asyncDispose]();
});

/** Granules (8192 lines each) that the text index leaves to be read, by the engine's own account. */
async function granules(text: string): Promise<{ left: number; of: number } | undefined> {
  const rows = await store.engine.query<{ explain: string }>(
    `EXPLAIN indexes = 1 SELECT message FROM millrace.logs WHERE ${querySql(parseQuery(text))}`,
  );
  const plan = rows.map(({ explain }) => explain).join('\n');
  const match = /Name: words[\s\S]*?Granules: (\d+)\/(\d+)/.exec(plan);
  return match ? { left: Number(match[1]), of: Number(match[2]) } : undefined;
}

describe('the text index serves', () => {
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
    const read = await granules(text);
    expect(read?.of).toBeGreaterThanOrEqual(12);
    expect(read?.left).toBe(left);
    const [row] = await store.engine.query<{ n: number }>(
      `SELECT count() AS n FROM millrace.logs WHERE ${querySql(parseQuery(text))}`,
    );
    expect(row?.n).toBe(left);
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
