import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';

import { describe, expect, test } from 'vitest';
import { repository } from '../../../../tests/support/programs.ts';
import { anyCharacter } from '../../../../tests/support/text-arbitraries.ts';
import type { Target } from '../../src/query/ast.ts';
import { type DeviceGroup, parseQuery, type Query, QueryError } from '../../src/query/index.ts';
import { queryLimits } from '../../src/query/limits.ts';

/** A query in the shortest form that shows how it was understood. */
function shown(query: Query): string {
  switch (query.kind) {
    case 'everything':
      return '*';
    case 'and':
      return `(${query.parts.map(shown).join(' & ')})`;
    case 'or':
      return `(${query.parts.map(shown).join(' | ')})`;
    case 'not':
      return `!${shown(query.part)}`;
    case 'levels':
      return `levels{${query.levels.join(',')}}`;
    case 'stderr':
      return query.isStdErr ? 'stderr' : 'stdout';
    case 'devices':
      return `devices{${[...query.devices].join(',')}}`;
    case 'group':
    case 'match': {
      const { test: t } = query;
      const name = query.kind === 'group' ? `@${groupName(query.group)}=` : targetName(query.target);
      if (t.kind === 'text') return `${name}"${t.text}"`;
      if (t.kind === 'exists') return `${name}exists`;
      if (t.kind === 'regex') return `${name}/${t.source}/${t.ignoreCase ? 'i' : ''}`;
      if (t.kind === 'wildcard') {
        return `${name}<${t.pieces.map((piece) => (typeof piece === 'string' ? piece : 'any' in piece ? '*' : '?')).join('')}>`;
      }
      const { from, to } = t;
      return `${name}${from ? `${from.inclusive ? '[' : '('}${from.value}` : '('}..${to ? `${to.value}${to.inclusive ? ']' : ')'}` : ')'}`;
    }
  }
}

function groupName(group: DeviceGroup): string {
  return group.kind === 'fleet' ? 'fleet' : `tag.${group.key}`;
}

function targetName(target: Target): string {
  if (target.kind === 'message') return '';
  return target.kind === 'name' ? `${target.name}=` : `.${target.path}=`;
}

describe('a query is understood', () => {
  test.each([
    ['', '*'],
    ['  \t ', '*'],
    ['*', '*'],
    ['word', '"word"'],
    ['fleet:berlin', '@fleet="berlin"'],
    ['fleet:(a OR b*)', '(@fleet="a" | @fleet=<b*>)'],
    ['-fleet:*', '!@fleet=exists'],
    ['tag.site:/^x/ fields.tag.site:x', '(@tag.site=/^x/ & .tag.site="x")'],
    ['tag:x', '.tag="x"'],
    ['two words', '("two" & "words")'],
    ['two AND words', '("two" & "words")'],
    ['a OR b c', '("a" | ("b" & "c"))'],
    ['(a OR b) c', '(("a" | "b") & "c")'],
    ['a -b', '("a" & !"b")'],
    ['a NOT b', '("a" & !"b")'],
    ['a AND NOT b OR c', '(("a" & !"b") | "c")'],
    ['NOT NOT a', '!!"a"'],
    ['-(a b)', '!("a" & "b")'],
    ['and or not', '("and" & "or" & "not")'],
    ['ANDROID ORDER NOTE', '("ANDROID" & "ORDER" & "NOTE")'],
    ['"connection refused"', '"connection refused"'],
    ['"say \\"hi\\" \\n C:\\\\"', '"say "hi" \\n C:\\"'],
    ['"AND" "a*" "b:c"', '("AND" & "a*" & "b:c")'],
    ['conn*', '<conn*>'],
    ['a***b', '<a*b>'],
    ['?x', '<?x>'],
    ['a\\*b \\-x \\AND', '("a*b" & "-x" & "AND")'],
    ['back\\', '"back\\"'],
    ['/time ?out/', '/time ?out/'],
    ['/time/i', '/time/i'],
    ['/a\\/b/', '/a/b/'],
    ['service:web', 'service="web"'],
    ['service:"a b"', 'service="a b"'],
    ['device:4f* app:7 container:/^a/', '(device=<4f*> & app="7" & container=/^a/)'],
    ['service:(web OR db)', '(service="web" | service="db")'],
    ['service:(web -"db 1")', '(service="web" & !service="db 1")'],
    ['status:(>=500 AND <600)', '(.status=[500..) & .status=(..600))'],
    ['user:(\\>x)', '.user=">x"'],
    ['level:(>warn OR <info)', '(levels{error} | levels{debug})'],
    ['message:x message:*', '("x" & exists)'],
    ['http.status:500', '.http.status="500"'],
    ['fields.level:x fields.service:y', '(.level="x" & .service="y")'],
    ['user\\ name:x', '.user name="x"'],
    ['app.kubernetes.io/name:x', '.app.kubernetes.io/name="x"'],
    ['größe:>1', '.größe=(1..)'],
    ['latency:>500', '.latency=(500..)'],
    ['latency>500', '.latency=(500..)'],
    ['latency:<=-1.5e3', '.latency=(..-1500]'],
    ['status:[500 TO 599]', '.status=[500..599]'],
    ['status:{500 TO 599]', '.status=(500..599]'],
    ['status:[ * TO 599 }', '.status=(..599)'],
    ['status:["1" TO "2"]', '.status=[1..2]'],
    ['user:*', '.user=exists'],
    ['level:error', 'levels{error}'],
    ['level:WARNING', 'levels{warn}'],
    ['level>=warn', 'levels{warn,error}'],
    ['level:>=warn', 'levels{warn,error}'],
    ['level<info', 'levels{debug}'],
    ['level>error', 'levels{}'],
    ['level:warn+', 'levels{warn,error}'],
    ['level:debug,error', 'levels{debug,error}'],
    ['level:(debug OR error)', '(levels{debug} | levels{error})'],
    ['level:[info TO error}', 'levels{info,warn}'],
    ['level:*', 'levels{debug,info,warn,error}'],
    ['stream:stderr -stream:stdout', '(stderr & !stdout)'],
  ])('%s', (text, expected) => {
    expect(shown(parseQuery(text))).toBe(expected);
  });
});

test.each([
  '10.0.0.1:5432',
  '12:30:45',
  'http://x/y?z'.replace('?', '\\?'),
  'std::vector',
  'fe80::1',
  "it's",
  'a=b',
  '[error]',
  '{x}',
  '<html>',
  'x->y',
  'a>b',
  'main()',
  'f(x)',
  '/api/v1/users',
  '/var/log/',
  '100%',
  '--verbose',
  '-',
  'a-b',
  'foo"bar',
  '日本語',
  '👋',
  '!x',
  '#tag',
  '~',
])('what is pasted from a line is a word: %s', (text) => {
  const expected = text === '/var/log/' ? '"/var/log/"' : `"${text.replace('\\?', '?')}"`;
  expect(shown(parseQuery(text))).toBe(expected);
});

describe('an error says where, and what would be right', () => {
  test.each<[string, number, number, RegExp]>([
    ['a AND', 5, 0, /a word, a "phrase", a field or a parenthesis/],
    ['a AND OR b', 6, 2, /a word/],
    ['OR a', 0, 2, /a word/],
    ['a NOT', 5, 0, /a word/],
    ['(a b', 4, 0, /a closing \)/],
    ['a )', 2, 1, /the end of the query/],
    ['()', 1, 1, /a word/],
    ['x "never closed', 2, 13, /a closing "/],
    ['service:', 8, 0, /a value right behind service:/],
    ['service: web', 8, 0, /a value right behind service:/],
    ['latency:> 5', 9, 0, /a value right behind latency>/],
    ['a:(b:c)', 3, 2, /a value for a/],
    ['latency:>fast', 9, 4, /a number/],
    ['latency:(>fast)', 10, 4, /a number/],
    ['latency:(>)', 10, 0, /a number/],
    ['latency:>1e999', 9, 5, /a number/],
    ['latency:>5*', 9, 2, /a number/],
    ['latency:>[1 TO 2]', 9, 8, /a number/],
    ['status:[a TO 5]', 8, 1, /a number/],
    ['status:[1 TO b]', 13, 1, /a number/],
    ['status:[1, 5]', 10, 0, /TO, as in/],
    ['status:[1 TO 5', 14, 0, /a closing \] or \}/],
    ['status:[', 8, 0, /a range/],
    ['level:loud', 6, 4, /a level \(debug, info, warn, error\)/],
    ['level>=5', 7, 1, /a level/],
    ['level:err*', 6, 4, /a level/],
    ['level:[low TO error]', 7, 3, /a level/],
    ['stream:both', 7, 4, /stdout or stderr/],
    ['service:>5', 0, 9, /service has no order/],
    ['message:[1 TO 2]', 8, 8, /message has no order/],
    ['device>5', 0, 7, /device has no order/],
    ['x /(/', 2, 3, /RE2 \(missing closing \)\)/],
    ['/(?=x)/', 0, 7, /RE2/],
    ['/(a)\\1/', 0, 7, /RE2/],
    ['m:/((a{100}){100})/', 2, 17, /repetitions/],
    ['/(0123456789){200}/', 0, 19, /repetitions/],
    ['/(?:(?:(?:x{999}){999}){999}/', 0, 29, /repetitions|RE2/],
    ['a\u00a0AND', 5, 0, /a word/],
    ['👋 )', 3, 1, /the end/],
  ])('%s', (text, offset, length, expected) => {
    const error = refusal(text);
    expect(error?.span).toEqual({ offset, length });
    expect(error?.expected).toMatch(expected);
    expect(error?.toProblem()).toMatchObject({
      code: 'QUERY_INVALID',
      status: 400,
      offset,
      length,
      expected: error?.expected,
    });
    expect(error?.detail).toContain(`at character ${offset + 1}`);
  });
});

function refusal(text: string): QueryError | undefined {
  try {
    parseQuery(text);
  } catch (error) {
    if (error instanceof QueryError) return error;
    throw error;
  }
  return undefined;
}

test.each<[string, (n: number) => string, number]>([
  ['characters', (n) => 'x'.repeat(n), queryLimits.maxLength],
  [
    'parentheses and negations inside one another',
    (n) => `${'('.repeat(n)}x${')'.repeat(n)}`,
    queryLimits.maxDepth,
  ],
  ['parentheses and negations inside one another', (n) => `${'NOT '.repeat(n)}x`, queryLimits.maxDepth],
  ['terms', (n) => 'x '.repeat(n), queryLimits.maxTerms],
  ['regular expressions', (n) => '/x/ '.repeat(n), queryLimits.maxRegexes],
  ['characters in a regular expression', (n) => `/${'x'.repeat(n)}/`, queryLimits.maxRegexLength],
  ['wildcards in a word', (n) => 'x?'.repeat(n), queryLimits.maxWildcards],
  ['characters in the name of a field', (n) => `${'x'.repeat(n)}:1`, queryLimits.maxFieldLength],
  ['keys inside one another', (n) => `${Array(n).fill('a').join('.')}:1`, queryLimits.maxFieldDepth],
])('a limit: %s', (name, make, most) => {
  expect(refusal(make(most))).toBeUndefined();
  expect(refusal(make(most + 1))?.expected).toContain(`at most ${most} ${name}`);
});

test('a depth that was left does not count', () => {
  expect(refusal('(((a))) '.repeat(20))).toBeUndefined();
});

test('anything is either understood or refused at a place inside it', () => {
  const part = fc.oneof(
    fc.string({ unit: anyCharacter, maxLength: 5 }),
    fc.constantFrom(
      ...'()[]{}"/\\*?:<>=-+. \t\n',
      'AND',
      'OR',
      'NOT',
      'TO',
      'a:',
      'level',
      '>=',
      '/a/',
      '"b"',
      '1',
      '\ud800',
    ),
  );
  fc.assert(
    fc.property(
      fc.array(part, { maxLength: 20 }).map((parts) => parts.join('')),
      (text) => {
        const error = refusal(text);
        if (!error) return;
        const { offset, length } = error.span;
        expect(offset).toBeGreaterThanOrEqual(0);
        expect(length).toBeGreaterThanOrEqual(0);
        expect(offset + length).toBeLessThanOrEqual(text.length);
        expect(error.expected).not.toBe('');
      },
    ),
    { numRuns: 5000 },
  );
});

test('the documentation shows queries that can be read, and the limits that hold', async () => {
  const text = await readFile(join(repository, 'docs/search.md'), 'utf8');
  const table = text.slice(text.indexOf('## By example'), text.indexOf('## What is compared'));
  const examples = [...table.matchAll(/`([^`]+)`/g)].map((match) =>
    (match[1] as string).replaceAll('\\|', '|'),
  );
  expect(examples.length).toBeGreaterThan(30);
  for (const example of examples) {
    // Operators and brackets that the text names by themselves.
    if (/^(\/…\/i|[><=]+|[{}]|\w+:|TO|AND|OR|NOT)$/.test(example)) continue;
    expect(refusal(example), example).toBeUndefined();
  }
  const numbers = [...text.slice(text.indexOf('A query has at most')).matchAll(/\d+/g)].map(Number);
  expect(numbers.slice(0, 8)).toEqual([
    queryLimits.maxLength,
    queryLimits.maxTerms,
    queryLimits.maxDepth,
    queryLimits.maxRegexes,
    queryLimits.maxRegexLength,
    1000,
    queryLimits.maxWildcards,
    queryLimits.maxFieldDepth,
  ]);
});
