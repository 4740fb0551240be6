import { join } from 'node:path';
import type { MillraceError } from '@millrace/wire';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { copyNewStore } from '../../../../tests/support/cloud-template.ts';
import { anyCharacter } from '../../../../tests/support/text-arbitraries.ts';
import { memoryDir } from '../../../../tests/support/tmp.ts';
import { parseQuery, type Query, QueryError } from '../../src/query/index.ts';
import { type LogReader, type LogStore, openStore } from '../../src/store/index.ts';
import { append, silent } from '../store/open-stores.ts';

/** Whatever is asked, it is data: it is understood or refused, and never finds what the caller may not see. */

let dir: Awaited<ReturnType<typeof memoryDir>>;
let store: LogStore;
let reader: LogReader;
const lines = Array.from({ length: 20 }, (_, i) => ({
  message: `line ${i} OR 1=1 -- '; DROP TABLE millrace.logs`,
  timestamp: 1000 + i,
  serviceName: 'web',
  fields: { a: i, "k'": `v${i}`, user: 'root' },
}));

beforeAll(async () => {
  dir = await memoryDir();
  await copyNewStore(join(dir.path, 'store'));
  store = await openStore({ dataDir: join(dir.path, 'store'), log: silent });
  for (const device of ['mine', 'theirs'])
    await append(store, lines, { device, journal: `journal0${device}` });
  reader = store.reader({ devices: new Set(['mine']) });
});
afterAll(async () => {
  await store?.close();
  await dir?.[Symbol.asyncDispose]();
});

const garbage = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        ...'\'"`\\;()[]{}%_*?/|&$#@!=<>:,.+-~^\n\t\0\x1f',
        ...[
          "') OR 1=1 --",
          "' OR device = 'theirs",
          "\\' OR ''='",
          '; DROP TABLE millrace.logs',
          ') UNION ALL SELECT * FROM millrace.logs --',
        ],
        ...[
          "device IN ('theirs')",
          'theirs',
          '1=1',
          'NULL',
          "x'; SELECT 1",
          '/*',
          '*/',
          '--',
          '$x',
          '{p:String}',
          'FORMAT Null',
          "%' --",
        ],
        ...[
          ' AND ',
          ' OR ',
          ' NOT ',
          ' TO ',
          'device:',
          'message:',
          'service:',
          'a:',
          "k\\'",
          '0',
          '-1',
          '1e9',
          '\\x41',
          '\\u0000',
          '\ud800',
          'é',
          '👋',
        ],
        ...['(?i)', '\\d{2,3}', '[a-z]', '[^x', '(a|b)', 'a{9}', '\\pL', '\\Q', '\\C', '$^', '.*'],
      ),
      fc.string({ unit: anyCharacter, maxLength: 4 }),
    ),
    { minLength: 1, maxLength: 8 },
  )
  .map((parts) => parts.join(''));

const hostile = fc.oneof(
  garbage,
  ...['', 'a', "k\\'", 'message', 'device', 'service', 'fields.device'].flatMap((name) => {
    const field = name === '' ? '' : `${name}:`;
    return [
      garbage.map((text) => `${field}${text}`),
      garbage.map((text) => `${field}"${text.replace(/["\\]/g, '\\$&')}"`),
      garbage.map((text) => `${field}/${text.replaceAll('/', '\\/')}/`),
      garbage.map((text) => `NOT ${field}${text.replace(/\s/g, '')}*`),
    ];
  }),
  garbage.map((name) => `${name.replace(/[^\p{L}\p{N}]/gu, '\\$&')}:>5`),
  garbage.map((name) => `x${name.replace(/[^\p{L}\p{N}\s]/gu, '\\$&').replace(/\s/g, '')}x:*`),
);

function parsed(text: string): Query | undefined {
  try {
    return parseQuery(text);
  } catch (error) {
    if (error instanceof QueryError) return undefined;
    throw error;
  }
}

test('a hostile query is refused, or finds lines of the caller alone', async () => {
  let understood = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(hostile, { minLength: 8, maxLength: 8, size: 'max' }), async (texts) => {
      // Several in one statement, for speed: each is also alone in one if that fails.
      const queries = texts.map(parsed).filter((query) => query !== undefined);
      understood += queries.length;
      const query: Query = { kind: 'or', parts: [...queries, { kind: 'levels', levels: [] }] };
      for (const one of [query, { kind: 'not', part: query } as const]) {
        const { logs } = await reader.search({ query: one, limit: 100, order: 'asc' });
        expect(logs.filter(({ device }) => device !== 'mine')).toEqual([]);
      }
    }),
    { numRuns: 60 },
  );
  expect(understood).toBeGreaterThan(300);
  expect(await store.countLines()).toBe(2 * lines.length);
});

test('hostile names of fields, words and services are data, too', async () => {
  await fc.assert(
    fc.asyncProperty(garbage, async (text) => {
      try {
        const { facets } = await reader.facets({
          fields: [text, `fields.x${text}`],
          limit: 10,
          words: [text.trim()],
        });
        for (const { values } of facets) expect(JSON.stringify(values)).not.toContain('theirs');
        const histogram = await reader.histogram({ by: text, service: text, buckets: 10, series: 5 });
        expect(histogram.count).toBe(0);
        await reader.histogram({ by: `x.${text}`, buckets: 10, series: 5 });
        await reader.search({ device: text, words: [text], limit: 1, order: 'desc', cursor: undefined });
      } catch (error) {
        expect((error as MillraceError).code).toBe('PARAMETER_INVALID');
      }
    }),
    { numRuns: 25 },
  );
  expect(await store.countLines()).toBe(2 * lines.length);
});

test.each(['device:theirs', 'NOT device:mine', '* OR device:theirs', 'x OR NOT x', 'device:* OR -device:*'])(
  'a scope limits whatever is asked: %s',
  async (text) => {
    const query = parseQuery(text);
    const { logs } = await reader.search({ query, device: ['mine', 'theirs'], limit: 100, order: 'asc' });
    expect(logs.every(({ device }) => device === 'mine')).toBe(true);
    const histogram = await reader.histogram({ query, by: 'device', buckets: 10, series: 10 });
    expect((histogram.series ?? []).map(({ value }) => value)).not.toContain('theirs');
    const { facets } = await reader.facets({ query, fields: ['device'], limit: 10 });
    expect(facets[0]?.values.map(({ value }) => value)).not.toContain('theirs');
    const open = await store
      .reader({ devices: 'all' })
      .search({ query: parseQuery('x OR NOT x'), limit: 100, order: 'asc' });
    expect(open.logs).toHaveLength(2 * lines.length);
  },
);

test('the lines around a line of another are as if it were not there', async () => {
  const around = { before: 1, after: 1, within: 'device', journal: 'journal0theirs', seq: 5 } as const;
  for (const device of [undefined, 'theirs', 'mine']) {
    await expect(reader.context({ ...around, device })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  }
  const nobody = store.reader({ devices: new Set() });
  expect((await nobody.search({ limit: 10, order: 'asc' })).logs).toEqual([]);
  await expect(nobody.context({ ...around, journal: 'journal0mine' })).rejects.toMatchObject({
    code: 'NOT_FOUND',
  });
});
