import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeLine, limits, normaliseMessage, parseLevel, parseLevelFilter } from '../../src/index.ts';
import { hostileText, problemsOf } from './arbitraries.ts';

const now = 1_700_000_000_000;

const keys = [
  ...[
    'message',
    'msg',
    'log',
    'text',
    'timestamp',
    'time',
    'ts',
    'level',
    'source',
    'serviceId',
    'serviceName',
  ],
  ...[
    'service',
    'containerId',
    'isStdErr',
    'isSystem',
    'stream',
    'appId',
    'seq',
    'id',
    'fields',
    '__proto__',
  ],
];
const strangers = fc.oneof(
  fc.jsonValue(),
  hostileText,
  fc.dictionary(fc.constantFrom(...keys), fc.oneof(fc.jsonValue(), hostileText), { noNullPrototype: true }),
);

test('any JSON becomes a valid message, and one that can be encoded again', () => {
  fc.assert(
    fc.property(strangers, (value) => {
      const message = normaliseMessage(value, now);
      expect(problemsOf(message)).toEqual([]);
      expect(Buffer.byteLength(message.message)).toBeLessThanOrEqual(limits.maxMessageBytes);
      expect(JSON.parse(encodeLine(message)).message).toBe(message.message);
    }),
    { numRuns: 2000 },
  );
});

test('a value nested beyond what JSON.stringify can walk harms nobody', () => {
  const deep = JSON.parse('['.repeat(200_000) + ']'.repeat(200_000));
  for (const value of [deep, { message: deep }, { message: 'kept', fields: { deep } }, { other: deep }]) {
    const message = normaliseMessage(value, now);
    expect(problemsOf(message)).toEqual([]);
    expect(() => JSON.stringify(message)).not.toThrow();
  }
  expect(normaliseMessage({ message: 'kept', fields: { deep } }, now).message).toBe('kept');
});

describe('what others write is understood', () => {
  test('the lines of a balena device', () => {
    expect(
      normaliseMessage({ message: 'up', timestamp: 1696195200000, serviceId: 5, isStdErr: true }, now),
    ).toMatchObject({
      message: 'up',
      timestamp: 1696195200000,
      level: 'error',
      serviceId: 5,
      isStdErr: true,
      isSystem: false,
    });
    expect(normaliseMessage({ message: 'up', timestamp: 1, isSystem: true }, now).source).toEqual({
      type: 'system',
      name: 'system',
    });
  });

  test.each([
    ['seconds', 1_696_195_200],
    ['milliseconds', 1_696_195_200_000],
    ['microseconds', 1_696_195_200_000_000],
    ['nanoseconds', 1_696_195_200_000_000_000],
    ['an ISO string', '2023-10-01T20:00:00+00:00'],
    ['a number as text', '1696195200000'],
    ['seconds as text', '1696195200'],
  ])('a time in %s', (_, timestamp) => {
    const expected =
      typeof timestamp === 'string' && timestamp.includes('T') ? Date.parse(timestamp) : 1_696_195_200_000;
    expect(normaliseMessage({ message: 'm', timestamp }, now).timestamp).toBe(expected);
  });

  test.each([undefined, null, 0, -5, Number.NaN, 'yesterday', '', {}, [], true, 1e30, '1e400'])(
    'an impossible time (%j) becomes the time of arrival',
    (timestamp) => {
      expect(normaliseMessage({ message: 'm', timestamp }, now).timestamp).toBe(now);
    },
  );

  test.each([
    [{ msg: 'a' }, 'a'],
    [{ log: 'b' }, 'b'],
    [{ text: 'c' }, 'c'],
    [{ message: { a: 1 } }, '{"a":1}'],
    [{ other: 1 }, '{"other":1}'],
    ['plain', 'plain'],
    [42, '42'],
    [null, 'null'],
    [[1, 2], '[1,2]'],
  ])('the text of %j', (value, text) => {
    expect(normaliseMessage(value, now).message).toBe(text);
  });

  test.each([
    ['WARNING', 'warn'],
    ['fatal', 'error'],
    [' Trace ', 'debug'],
    ['notice', 'info'],
  ])('the level %s', (theirs, ours) => {
    expect(parseLevel(theirs)).toBe(ours);
    expect(normaliseMessage({ message: 'm', level: theirs }, now).level).toBe(ours);
  });
});

test.each([
  [{ level: 50 }, 'error'],
  [{ level: '40' }, 'warn'],
  [{ severity: 'error' }, 'error'],
  [{ severity: 7 }, 'debug'],
  [{ lvl: 'crit' }, 'error'],
  [{ level: 'loud', severity: 'WARNING' }, 'warn'],
  [{ level: 9001, isStdErr: true }, 'error'],
  [{ level: -1 }, 'info'],
  [{ level: 2.5e3 }, 'info'],
  [{ level: Number.NaN }, 'info'],
] as const)('the level of %j', (line, level) => {
  expect(normaliseMessage({ message: 'm', ...line }, now).level).toBe(level);
});

test('level filters', () => {
  expect(parseLevelFilter('warn+')).toEqual(['warn', 'error']);
  expect(parseLevelFilter('error,debug')).toEqual(['debug', 'error']);
  expect(parseLevelFilter('Warning')).toEqual(['warn']);
  for (const wrong of ['', 'loud', 'warn,', 'warn++', '+', 'constructor'])
    expect(parseLevelFilter(wrong)).toBeUndefined();
});
