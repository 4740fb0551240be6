import { join } from 'node:path';
import type { StoredLine } from '@millrace/wire';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { copyNewStore } from '../../../../tests/support/cloud-template.ts';
import { memoryDir } from '../../../../tests/support/tmp.ts';
import { areStorable, rewriteLine } from '../../src/ingest/strange-lines.ts';
import { AdmittedLines } from '../../src/ingest/tail.ts';
import { parseQuery, type Query, QueryError, queryPredicate, querySql } from '../../src/query/index.ts';
import { type LogStore, openStore } from '../../src/store/index.ts';
import { encodeRows } from '../../src/store/row-format.ts';
import { silent } from '../store/open-stores.ts';

/**
 * A search and a live tail are asked the same and must answer the same: every query is run by ClickHouse over stored
 * lines and by the predicate over the same lines as the tail gets them.
 */

let dir: Awaited<ReturnType<typeof memoryDir>>;
let store: LogStore;
const lines: StoredLine[] = [];

const words = [
  'time',
  'TIMEOUT',
  'Out',
  'db',
  'x',
  '10.0.0.1',
  '/api/v1',
  'a_b',
  'é',
  'É',
  'ſ',
  '日本',
  '👋',
  '',
  '100%',
  '\\',
  '"',
  "'",
];
const gaps = [' ', ' ', '-', '_', '.', '', '\n', '\t', '\u00a0', '\u0000'];
const message = fc
  .array(fc.tuple(fc.constantFrom(...words), fc.constantFrom(...gaps)), { maxLength: 6 })
  .map((parts) => parts.flat().join(''));

const fieldStrings = [
  '',
  'abc',
  'ABC',
  'a b',
  '500',
  '-1',
  '007',
  '0.5',
  '1e3',
  'true',
  'null',
  'é',
  ' 5',
  'inf',
  '{"b":1}',
  'a*c',
  'Kelvin',
];
const numbers = [
  0,
  -0,
  1,
  -1,
  500,
  0.5,
  0.1,
  1e21,
  1e-7,
  1e300,
  5e-324,
  2 ** 53,
  2 ** 53 + 2,
  -(2 ** 53),
  2 ** 63,
  2 ** 64,
  123456789.125,
];
const value = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom<unknown>(...numbers) },
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  { weight: 3, arbitrary: fc.constantFrom<unknown>(...fieldStrings) },
  fc.constantFrom<unknown>(true, false, null, [], [1], ['abc'], {}, { b: 1 }, { b: { c: 'abc' } }, [
    { b: 1 },
  ]),
);
const keys = ['a', 'b', 'a.b', 'a.b.c', 'http.status', '__proto__', 'level', 'é', 'with space'];
const fields = fc.dictionary(fc.constantFrom(...keys), value, { maxKeys: 4 });

/** As programs log: JSON, logfmt, and what is nearly one of them. */
const pair = fc
  .tuple(
    fc.constantFrom('a', 'b', 'a.b', 'http.status', 'level', '__proto__', 'x/y@z'),
    fc.constantFrom(
      '1',
      '500',
      '-1',
      '0.5',
      '007',
      'true',
      'abc',
      '',
      '"a b"',
      '"a \\"b\\" \\n"',
      '"\\q"',
      '"x a=1"',
      '1234567890123456',
      '1e3',
      'é',
      'a=b',
      '"',
      'a"b',
      '"\n\\t"',
    ),
  )
  .map((parts) => parts.join('='));
const structured = fc.oneof(
  fields.map((object) => JSON.stringify(object)),
  fields.map((object) => ` \t${JSON.stringify(object, undefined, 1)}\n`),
  fc
    .tuple(
      fc.array(pair, { minLength: 1, maxLength: 4 }),
      fc.constantFrom('', ' ', '\t', 'text '),
      fc.constantFrom('', ' ', '\r\n', '\u00a0', ' x'),
    )
    .map(([pairs, before, after]) => `${before}${pairs.join(' ')}${after}`),
  fc.array(pair, { minLength: 2, maxLength: 3 }).map((pairs) => pairs.join('  ')),
  fc.constantFrom(
    '{"a":1',
    '{"\\u0061":"\\u0061bc","b":"a\\u0020b"}',
    '{"a":5e2,"b":5.00E+2}',
    '{"a":499.99999999999999999,"b":500.0}',
    'a="\\a\\b\\qc" b="50\\0"',
    '{"a":500}}',
    '[{"a":1}]',
    '{}',
    '\n{"a":1}',
    '{"a":123456789012345678901234567890,"b":500}',
    '{"b":[98765432109876543210,-98765432109876543210],"a":"abc"}',
    `{"a":500,"b":"${'x'.repeat(32_768)}"}`,
    `{"a":500,"b":"${'👋'.repeat(16_375)}"}`,
    `{"a":500,"b":"${'👋'.repeat(16_376)}"}`,
  ),
);

const line = fc.record(
  {
    message: fc.oneof(message, structured),
    timestamp: fc.nat(1_000_000),
    level: fc.constantFrom('debug', 'info', 'warn', 'error'),
    isStdErr: fc.boolean(),
    serviceName: fc.constantFrom('web', 'WEB', 'db', "it's", 'é%_'),
    appId: fc.constantFrom<unknown>('1001', 7, '007', 'shop'),
    containerId: fc.constantFrom('4f1b2c', '4F1B', 'a\\b'),
    // As devices send them, and as the ingest writes what the store's own parser should not see.
    fields: fc.oneof(
      fields,
      fields.map((object) => JSON.stringify(object)),
      fc.constantFrom<unknown>('text', [1], '[1]', ' {"a":1}', '{"a":1', 5),
    ),
  },
  { requiredKeys: ['message', 'timestamp'] },
);

/** What the ingest makes of a line, and so the only thing that ever is in the store. */
function asIngested(one: unknown): string {
  const text = JSON.stringify(one);
  return areStorable(Buffer.from(`${text}\n`)) ? text : rewriteLine(Buffer.from(text), 5_000_000).text;
}

beforeAll(async () => {
  dir = await memoryDir();
  await copyNewStore(join(dir.path, 'store'));
  store = await openStore({ dataDir: join(dir.path, 'store'), log: silent });
  const all = fc.sample(line, { numRuns: 600, seed: 11 });
  for (const [i, device] of ['dev-a', 'DEV-B', "it's"].entries()) {
    const of = all.filter((_, at) => at % 3 === i);
    const run = {
      device,
      journal: 'journal01',
      firstSeq: 1,
      count: of.length,
      lines: Buffer.from(of.map((one) => `${asIngested(one)}\n`).join('')),
    };
    const rows = encodeRows(run, { receivedMs: 5_000_000, retention: 30_000 });
    await store.append(rows, { rows: of.length, token: device });
    lines.push(...new AdmittedLines({ ...run, rows, retention: 30_000, refusals: 0 }, 5_000_000).messages());
  }
});
afterAll(async () => {
  await store?.close();
  await dir?.[Symbol.asyncDispose]();
});

/** Which lines ClickHouse finds for each of several queries, in one statement. */
async function found(queries: Query[]): Promise<string[][]> {
  const rows = await store.engine.query<{
    device: string;
    seq: number;
    matches: (boolean | number | null)[];
  }>(
    `SELECT device, seq, [${queries.map((query) => `toUInt8(${querySql(query)})`).join(',\n')}] AS matches FROM millrace.logs`,
  );
  expect(rows).toHaveLength(lines.length);
  return queries.map((_, i) =>
    rows
      .filter(({ matches }) => matches[i])
      .map(({ device, seq }) => `${device} ${seq}`)
      .sort(),
  );
}

const literal = fc.constantFrom(
  ...words,
  ...fieldStrings,
  'web',
  'W',
  'out',
  '4f1b',
  '1001',
  '7',
  'dev-a',
  'c',
);
const bare = fc
  .array(fc.oneof({ weight: 3, arbitrary: literal }, fc.constantFrom('*', '?')), {
    minLength: 1,
    maxLength: 4,
  })
  .map((parts) =>
    parts
      .map((part) =>
        /^[*?]$/.test(part)
          ? part
          : part.replace(/[^\p{L}\p{N}.]/gu, (char) => (/\s/.test(char) ? '' : `\\${char}`)),
      )
      .join(''),
  )
  .filter((text) => text !== '' && !/^(AND|OR|NOT)$/.test(text));
const quoted = fc
  .array(literal, { maxLength: 3 })
  .map((parts) => `"${parts.join(' ').replace(/[\\"]/g, '\\$&')}"`);
const regexes = [
  'time',
  '^time',
  'out$',
  'a.b',
  '.',
  '[[:alpha:]]+',
  '\\d{1,3}\\.',
  '(?i)TIMEOUT',
  'k',
  's',
  '\\bdb\\b',
  '\\w+\\s\\w+',
  'x|é',
  '\\pL\\PL',
  '[^a-z]$',
  '(out|db)\\S',
  '\\x{1F44B}',
  'time ?out',
  'tim+e',
  'ti{1}me',
  'ab{0}c',
  '10\\.0',
  'a(b|c)?',
];
const regex = fc
  .tuple(fc.constantFrom(...regexes), fc.constantFrom('', 'i'))
  .map(([source, flag]) => `/${source}/${flag}`);
const number = fc
  .oneof(fc.constantFrom(...numbers), fc.integer({ min: -2, max: 600 }))
  .map((n) => (Object.is(n, -0) ? '0' : String(n).replace('e+', 'e')));
const field = fc.constantFrom(
  'a',
  'b',
  'a.b',
  'a.b.c',
  'http.status',
  '__proto__',
  'fields.level',
  'é',
  'with\\ space',
  'absent',
);
const plain = fc.oneof(bare, quoted, regex);
const range = fc
  .tuple(
    fc.constantFrom('[', '{'),
    fc.oneof(number, fc.constant('*')),
    fc.oneof(number, fc.constant('*')),
    fc.constantFrom(']', '}'),
  )
  .map(([open, from, to, close]) => `${open}${from} TO ${to}${close}`);
const comparison = fc.constantFrom('>', '>=', '<', '<=');
const term = fc.oneof(
  { weight: 3, arbitrary: plain },
  fc
    .tuple(fc.constantFrom('message', 'device', 'service', 'app', 'container'), plain)
    .map(([name, text]) => `${name}:${text}`),
  {
    weight: 3,
    arbitrary: fc
      .tuple(field, fc.oneof(plain, number, range, fc.constant('*')))
      .map(([name, text]) => `${name}:${text}`),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(field, comparison, number).map(([name, sign, n]) => `${name}:${sign}${n}`),
  },
  fc
    .tuple(comparison, fc.constantFrom('debug', 'info', 'warn', 'error'))
    .map(([sign, level]) => `level${sign}${level}`),
  fc.constantFrom(
    'level:error',
    'level:warn,debug',
    'level:warn+',
    'level:[info TO warn}',
    'level:*',
    'stream:stderr',
    'stream:stdout',
    '*',
  ),
);
const { query } = fc.letrec<{ query: string; not: string; group: string }>((tie) => ({
  query: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    term,
    fc
      .tuple(tie('query'), fc.constantFrom(' ', ' AND ', ' OR ', '  '), tie('query'))
      .map((parts) => parts.join('')),
    tie('not'),
    tie('group'),
  ),
  not: fc
    .tuple(
      fc.constantFrom('-', 'NOT '),
      fc.oneof(
        term.filter((text) => !text.startsWith('-')),
        tie('group'),
      ),
    )
    .map((parts) => parts.join('')),
  group: tie('query').map((text) => `(${text})`),
}));

test('a search and a live tail agree on every line', async () => {
  let compared = 0;
  let some = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(query, { minLength: 20, maxLength: 20, size: 'max' }), async (texts) => {
      const queries: { text: string; query: Query }[] = [];
      for (const text of texts) {
        try {
          queries.push({ text, query: parseQuery(text) });
        } catch (error) {
          // Too many terms, or a wildcard that is an operator's: what is refused is refused for both.
          if (!(error instanceof QueryError)) throw error;
        }
      }
      const stored = await found(queries.map((one) => one.query));
      for (const [i, { text, query: ast }] of queries.entries()) {
        const differ = lines.filter((one) => {
          const name = `${one.device} ${one.seq}`;
          return queryPredicate(ast)(one) !== stored[i]?.includes(name);
        });
        expect(differ, text).toEqual([]);
        compared++;
        if (stored[i]?.length && stored[i].length < lines.length) some++;
      }
    }),
    { numRuns: 12, endOnFailure: true },
  );
  // A property that compares nothing with nothing would hold, too.
  expect(compared).toBeGreaterThan(150);
  expect(some).toBeGreaterThan(50);
});
