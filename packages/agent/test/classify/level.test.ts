import fc from 'fast-check';
import { expect, test } from 'vitest';
import { levelOf, levelOfEscaped } from '../../src/classify/level.ts';
import { lines } from './lines.ts';

/** The contents of the string that Docker's `json-file` driver writes for a line: Go's escapes. */
function dockerString(text: string): string {
  const json = JSON.stringify(text).slice(1, -1);
  return json.replace(/[<>&]/g, (char) => `\\u00${char.charCodeAt(0).toString(16)}`);
}

/** Puts text between other bytes, which must not be looked at. */
function within(text: string): [Buffer, number, number] {
  const bytes = Buffer.from(`ERROR{"level":"error${text}","level":"error"}: ERROR`);
  const start = 'ERROR{"level":"error'.length;
  return [bytes, start, start + Buffer.byteLength(text)];
}

test('the table is long enough, and no line stands in it twice', () => {
  expect(lines.length).toBeGreaterThanOrEqual(120);
  expect(new Set(lines.map(([, line]) => line)).size).toBe(lines.length);
});

test.each(lines)('%s: %s', (level, line) => {
  expect(levelOf(...within(line)) ?? null).toBe(level);
});

test.each(lines)('inside a JSON string, %s: %s', (level, line) => {
  expect(levelOfEscaped(...within(dockerString(line))) ?? null).toBe(level);
  expect(levelOfEscaped(...within(`${dockerString(line)}\\n`)) ?? null).toBe(level);
});

const keys = fc.constantFrom('level', 'msg', 'log', 'severity', 'a "b"', 'c\\', 't', 's', 'é', '{', '\n');
const json = fc.dictionary(
  keys,
  fc.oneof(fc.jsonValue(), fc.constantFrom('warn', 'error', 30, 'x', '"', '\\"')),
);

/** What the byte scanner must find, by way of a parsed object. */
function expected(line: string): string | undefined {
  for (const [key, value] of Object.entries(JSON.parse(line) as object)) {
    const found =
      key === 'level' || key === 'severity'
        ? levelOf(...within(`level=${JSON.stringify(value)}`))
        : undefined;
    const isScalar = typeof value === 'string' || typeof value === 'number';
    if (found && isScalar && /^[a-z0-9]+$/i.test(String(value))) return found;
  }
  return undefined;
}

test('any JSON object gives what its own top level says, escaped or not', () => {
  fc.assert(
    fc.property(json, fc.constantFrom(undefined, 1, '\t'), (value, space) => {
      const { log, t, ...flat } = value;
      const line = JSON.stringify(flat, undefined, space);
      const found = levelOf(...within(line));
      expect(levelOfEscaped(...within(dockerString(line)))).toBe(found);
      const plain = Object.values(flat).every((entry) => typeof entry !== 'string' || /^[a-z]*$/.test(entry));
      if (plain) expect(found).toBe(expected(line));
    }),
    { numRuns: 500 },
  );
});

test('an object in an object is walked the same way, escaped or not', () => {
  const names = [
    ...['level', 'log', 'record', '_meta', 'name', 'levelStr', 'priority', 'PRIORITY', 'severityNumber'],
    ...['levelno', 't', 's', 'a "b"', '\n'],
  ];
  const scalar = fc.oneof(
    fc.constantFrom('warn', 'E', 'critical', '4', 20, 3, null, '{', '"}'),
    fc.jsonValue(),
  );
  const inner = fc.dictionary(fc.constantFrom(...names), scalar);
  const middle = fc.dictionary(fc.constantFrom(...names), fc.oneof(scalar, inner));
  const outer = fc.dictionary(fc.constantFrom(...names), fc.oneof(scalar, inner, middle));
  fc.assert(
    fc.property(outer, fc.constantFrom(undefined, 1), (value, space) => {
      const line = JSON.stringify(value, undefined, space);
      const found = levelOf(...within(line));
      expect(levelOfEscaped(...within(dockerString(line)))).toBe(found);
      // A level at the top that stands first wins over all.
      expect(levelOf(...within(`{"level":"warn",${line.slice(1)}`))).toBe('warn');
      // One that stands last is found behind whatever comes before and names none.
      const last = `${line.slice(0, -1)}${line === '{}' ? '' : ','}"level":"debug"}`;
      const isFirst = !/"(?:priority|s)"/i.test(line);
      if (isFirst) expect(levelOf(...within(last))).toBe(found ?? 'debug');
    }),
    { numRuns: 1000 },
  );
});

test('no bytes make it fail or read past the line', () => {
  const piece = fc.oneof(
    fc.constantFrom(
      '{',
      '"',
      '\\',
      '[',
      ']',
      '<',
      'ERROR',
      ':',
      ' ',
      '\u001b',
      'level=',
      '(',
      '1:M',
      '\\u00',
      '|',
    ),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), fc.uint8Array({ maxLength: 8 }), (pieces, rest) => {
      const bytes = Buffer.concat([Buffer.from(pieces.join('')), rest]);
      const shut = Buffer.concat([bytes, Buffer.from('ERROR: "level":"error" ]')]);
      expect(levelOf(shut, 0, bytes.length)).toBe(levelOf(bytes, 0, bytes.length));
      expect(levelOfEscaped(shut, 0, bytes.length)).toBe(levelOfEscaped(bytes, 0, bytes.length));
    }),
    { numRuns: 1000 },
  );
});

test('a line has the same level inside a JSON string as outside', () => {
  const piece = fc.constantFrom(
    ...[
      'ERROR',
      'warn',
      'info',
      'a',
      'app',
      'com.foo',
      'k=',
      'level=',
      '"',
      '"x y"',
      '{"',
      '}',
      '[',
      ']',
      '(',
      ')',
    ],
    ...[
      ' ',
      ' ',
      ' ',
      ':',
      '|',
      '-',
      '\t',
      '\\',
      '<6>',
      '12:00:00',
      '5',
      '\u001b[31m',
      '\u001b',
      '.',
      '=',
      'é',
    ],
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 9 }), (pieces) => {
      const line = pieces.join('');
      expect(levelOfEscaped(...within(dockerString(line)))).toBe(levelOf(...within(line)));
    }),
    { numRuns: 5000 },
  );
});
