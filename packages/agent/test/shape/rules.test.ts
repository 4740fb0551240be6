import { rename, rm, writeFile } from 'node:fs/promises';
import pino from 'pino';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { shapingOf } from '../../src/shape/container-shaping.ts';
import { parseShaping, ShapingFile } from '../../src/shape/file.ts';
import { readLabels } from '../../src/shape/labels.ts';
import { compilePattern } from '../../src/shape/patterns.ts';

const container = (name: string, labels: Record<string, string> = {}) => ({
  id: name.repeat(12),
  name,
  labels,
});
const rulesOf = (text: string, name: string, labels: Record<string, string> = {}) =>
  shapingOf(container(name, labels), { rules: parseShaping(text, 'f') }).rules;

test('the example of the documentation; JSON is read as well', () => {
  const yaml = `
rules:
  - redact: [email, card]              # everywhere
  - service: web-*
    minLevel: info
    drop: ['GET /health', '(?i)heartbeat']
    rateLimit: 100/s
  - container: db
    collapseRepeats: true
    redact: [{ pattern: 'pin=\\d+', with: 'pin=***' }]
`;
  expect(rulesOf(yaml, 'web-1')).toMatchObject({
    minLevel: 'info',
    redact: ['email', 'card'],
    rateLimit: { lines: 100, periodMs: 1000 },
  });
  expect(rulesOf(yaml, 'db')).toMatchObject({
    collapseRepeats: true,
    redact: ['email', 'card', { with: 'pin=***' }],
  });
  expect(rulesOf(yaml, 'web')).toMatchObject({ minLevel: undefined, drop: [] });
  expect(rulesOf('{"rules":[{"service":"w*b","minLevel":"warn"}]}', 'web')).toMatchObject({
    minLevel: 'warn',
  });
});

test('containers that no rule is meant for have no rules at all', () => {
  const yaml = 'rules: [{service: web, minLevel: warn}, {app: shop, drop: [x]}]';
  expect(rulesOf(yaml, 'db')).toBeUndefined();
  expect(rulesOf(yaml, 'db', { 'com.docker.compose.project': 'shop' })?.drop).toHaveLength(1);
  expect(rulesOf('rules: []', 'db')).toBeUndefined();
  expect(rulesOf('\ufeffrules:\r\n  - app: 12\r\n    drop: [x]\r\n', 'db')).toBeUndefined();
  expect(
    rulesOf('rules: [{app: 12, drop: [x]}]', 'db', { 'io.balena.app-id': '12', 'millrace.app-id': '12' })
      ?.drop,
  ).toHaveLength(1);
  expect(rulesOf('rules: [{minLevel: debug}]', 'db')).toBeUndefined();
  for (const [pattern, name, applies] of [
    ['*', 'x', true],
    ['a*b*c', 'aXbYc', true],
    ['a*b*c', 'ac', false],
    ['a*a', 'a', false],
    ['web', 'web-1', false],
  ] as const) {
    expect(rulesOf(`rules: [{container: "${pattern}", minLevel: warn}]`, name) !== undefined).toBe(applies);
  }
});

test('labels come after the file, and cannot take a redaction back', () => {
  const labels = {
    'millrace.min-level': 'debug',
    'millrace.redact': 'ip, bearer',
    'millrace.rate-limit': '5/m',
    'millrace.drop': 'ping',
    'millrace.redact-pattern': 'x=\\d',
  };
  const rules = rulesOf('rules: [{redact: [email], minLevel: warn, rateLimit: 9/s}]', 'web', labels);
  expect(rules).toMatchObject({ minLevel: 'debug', rateLimit: { text: '5/m' } });
  expect(rules?.redact).toMatchObject(['email', 'ip', 'bearer', { with: '[redacted]' }]);
});

test('a wrong label is named and left out; where it was to redact, all is redacted', () => {
  const logged: string[] = [];
  const log = pino({ level: 'error' }, { write: (line) => void logged.push(line) });
  const labels = {
    'millrace.drop': '(x',
    'millrace.redact': 'emails',
    'millrace.multiline': '[',
    'millrace.min-level': 'warn',
  };
  const { rules, multiline } = shapingOf(container('web', labels), undefined, log);
  expect(rules).toMatchObject({
    minLevel: 'warn',
    drop: [],
    redact: ['email', 'ip', 'card', 'bearer', 'url-keys'],
  });
  expect(multiline).toBe('traces');
  expect(JSON.parse(logged[0] as string).wrong).toEqual([
    expect.stringMatching(/^millrace\.drop="\(x": .*missing closing \)/),
    'millrace.redact="emails": must be some of email, ip, card, bearer, url-keys; until it is right, all that has a name is redacted',
    expect.stringMatching(/^millrace\.multiline="\[": .*missing closing \]/),
  ]);
  expect(shapingOf(container('web', { 'millrace.multiline': 'off' }), undefined).multiline).toBe('off');
});

test('a label that there is not is named, and one that was about redacting redacts all', () => {
  const wrongOf = (labels: Record<string, string>) => {
    const wrong: string[] = [];
    const log = { error: (context: { wrong: string[] }) => wrong.push(...context.wrong) };
    const { rules, multiline } = shapingOf(container('web', labels), undefined, log as never);
    return { wrong, redact: rules?.redact.length, repeats: rules?.collapseRepeats, multiline };
  };
  expect(wrongOf({ 'millrace.redakt': 'email', 'millrace.service-id': '1' })).toMatchObject({
    wrong: ['millrace.redakt: there is no such label; until it is right, all that has a name is redacted'],
    redact: 5,
  });
  expect(wrongOf({ 'Millrace.Redact': 'email' })).toMatchObject({ redact: 5 });
  expect(wrongOf({ 'Millrace.drop': 'x', 'com.example.drop': 'x' }).wrong).toEqual([
    'Millrace.drop: there is no such label',
  ]);
  // What an empty variable leaves of a label.
  expect(wrongOf({ 'millrace.redact': ' ' })).toMatchObject({ redact: 5, wrong: [expect.any(String)] });
  expect(wrongOf({ 'millrace.redact-pattern': '' })).toMatchObject({ redact: 5 });
  expect(wrongOf({ 'millrace.redact': ',' })).toMatchObject({ redact: 5, wrong: [expect.any(String)] });
  expect(wrongOf({ 'millrace.redact': 'email,' })).toMatchObject({ redact: 1, wrong: [] });
  expect(wrongOf({ 'millrace.drop': '', 'millrace.min-level': '' })).toMatchObject({
    redact: undefined,
    wrong: [],
  });
  // As a pattern it would join all lines without the word.
  expect(wrongOf({ 'millrace.multiline': 'no' })).toMatchObject({
    wrong: ['millrace.multiline="no": must be on, off or a pattern such as ^\\d{4}-'],
    multiline: 'traces',
  });
  expect(wrongOf({ 'millrace.collapse-repeats': 'yes', 'millrace.logs': 'none' }).wrong).toEqual([
    'millrace.collapse-repeats="yes": must be true or false',
    'millrace.logs="none": must be on or off',
  ]);
  expect(wrongOf({ 'millrace.collapse-repeats': 'On', 'millrace.multiline': 'OFF' })).toEqual({
    ...{ wrong: [], redact: 0, repeats: true, multiline: 'off' },
  });
});

test.each([
  ['rules:\n  - minLevel: loud', 2, /rules\.0\.minLevel: must be one of debug/],
  [
    'rules:\n  - service: web\n    drop:\n      - fine\n      - "(a"',
    5,
    /rules\.0\.drop\.1: .*missing closing \)/,
  ],
  ['rules:\n  - drop: ["(?=x)"]', 2, /Perl syntax/],
  ['rules:\n  - service: web\n    ratelimit: 5/s', 3, /ratelimit/],
  ['rules:\n  - drop: [x, ""]', 2, /must not be empty/],
  [
    'rules:\n  - drop: [x]\n  - keep: ["\\\\p{L}{1000}"]',
    3,
    /rules\.1\.keep\.0: a pattern of 1002 steps .* 1000 are/,
  ],
  ['rules:\n  - redact:\n      - pattern: "(a{1,30}){30}x"', 3, /rules\.0\.redact\.0\.pattern: a pattern of/],
  ['rules:\n  - rateLimit: fast', 2, /must be a number of lines/],
  ['rules:\n  - redact: [emails]', 2, /email, ip/],
  ['rules:\n  - service: "web', 2, /quote/],
  ['{"rules": [\n{"minLevel": 7}]}', 2, /must be one of/],
  ['rules: 5', 1, /rules: must be a list, such as/],
  ['rules:', 1, /without rules it is \[\]/],
  ['', 1, /there is nothing in it; without rules it is "rules: \[\]"/],
  ['# rules:\n#   - redact: [email]\n', 1, /there is nothing in it/],
  ['- minLevel: warn', 1, /must begin with "rules:"/],
  ['rules:\n  -', 2, /rules\.0: must hold what the rule does/],
  ['rules:\n  - drop: GET /health', 2, /rules\.0\.drop: must be a list, such as/],
  ['rules:\n  - drop: [404]', 2, /rules\.0\.drop\.0: must be a text: put it into quotes/],
  ['rules:\n  - rateLimit: 100', 2, /must be a number of lines/],
  ['rules:\n  - minLevel: warn\n    minLevel: info', 3, /keys must be unique/],
  ['rules:\n  - drop: ["pin=\\d+"]', 2, /put patterns into single ones/],
  ['rules:\n  - service: *-worker\n    minLevel: warn', 2, /text that begins with \* needs quotes/],
  ['rules:\n  - service: *\n    minLevel: warn', 2, /text that begins with \* needs quotes/],
  ['rules: []\n---\nrules: []', 2, /another document begins here/],
  [
    `a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [${'*a,'.repeat(10)}]\nrules: [${'*b,'.repeat(100)}]`,
    1,
    /Excessive alias count/,
  ],
])('a wrong file is refused with line and reason: %s', (text, line, reason) => {
  expect(() => parseShaping(text, '/etc/s.yaml')).toThrow(reason);
  expect(() => parseShaping(text, '/etc/s.yaml')).toThrow(`SHAPING_FILE="/etc/s.yaml": line ${line}: `);
});

test('what people write in patterns has few steps, what multiplies has many', () => {
  for (const pattern of [
    '(?i)password[^a-z0-9]{0,20}\\S{1,100}',
    '[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}',
    '^(?:GET|POST|PUT) /(?:health|metrics|ready)(?:/.*)? HTTP/1\\.[01]" 2\\d\\d',
    '[\\w.+-]{1,64}@[\\w.-]{1,64}',
    `^(?:${Array.from({ length: 40 }, (_, i) => `name-${i}`).join('|')})$`,
  ]) {
    expect(compilePattern(pattern).source).toBe(pattern);
  }
  for (const pattern of ['.{1000}'.repeat(140), '(?:[a-z]{10} ){100}', '(?:a?){600}']) {
    expect(() => compilePattern(pattern)).toThrow(/steps/);
  }
  const { wrong, multiline } = readLabels({ 'millrace.multiline': '^.{0,600}:' });
  expect(wrong).toEqual([expect.stringMatching(/^millrace\.multiline=.*steps/)]);
  expect(multiline).toBe('traces');
});

test('a change takes effect; a wrong one is refused, and the rules before stay in force', async () => {
  await using dir = await tempDir('millrace-shaping-');
  const path = `${dir.path}/shaping.yaml`;
  const logged: string[] = [];
  let changes = 0;
  await writeFile(path, 'rules: [{minLevel: warn}]');
  using file = new ShapingFile({
    path,
    log: pino({ level: 'error' }, { write: (line) => void logged.push(JSON.parse(line).error) }),
    changed: () => changes++,
  });
  expect(file.rules).toEqual([{ minLevel: 'warn' }]);
  await writeFile(path, 'rules: [{minLevel: error}]');
  await until(() => changes === 1);
  expect(file.rules).toEqual([{ minLevel: 'error' }]);
  await writeFile(path, 'rules:\n  - minLevel: loud');
  await until(() => logged.length === 1);
  expect(logged[0]).toContain('line 2: rules.0.minLevel');
  await rm(path);
  await until(() => logged.length === 2);
  // As a program leaves it that was about to write it.
  await writeFile(path, '\n');
  await until(() => logged.length === 3);
  expect(logged[2]).toContain('line 1: there is nothing in it');
  expect(file.rules).toEqual([{ minLevel: 'error' }]);
  // As editors do it.
  await writeFile(`${path}.new`, 'rules: []');
  await rename(`${path}.new`, path);
  await until(() => changes === 2);
  expect(file.rules).toEqual([]);
  expect(() => new ShapingFile({ path: `${dir.path}/none`, changed: () => {} })).toThrow(/cannot be read/);
});
