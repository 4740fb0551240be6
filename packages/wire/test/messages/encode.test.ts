import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  completeMessage,
  encodeLine,
  limits,
  lineId,
  parseLineId,
  truncateUtf8,
  utf8Length,
} from '../../src/index.ts';
import { asJson, hostileText, logInputs, wellFormed } from './arbitraries.ts';

test('a line comes back as it was, but for what UTF-8 cannot carry', () => {
  fc.assert(
    fc.property(logInputs, (input) => {
      const text = encodeLine(input);
      const decoded = completeMessage(JSON.parse(text), 'journal0', 7);
      expect(decoded).toEqual(asJson(completeMessage(wellFormed(input), 'journal0', 7)));
    }),
    { numRuns: 500 },
  );
});

test('an encoded line is one line of bounded, well-formed UTF-8 whatever goes in', () => {
  const bulky = fc
    .tuple(hostileText, fc.integer({ min: 0, max: 20_000 }))
    .map(([t, n]) => t.repeat(n).slice(0, 150_000));
  fc.assert(
    fc.property(logInputs, bulky, bulky, (input, message, serviceName) => {
      const text = encodeLine({
        ...input,
        message,
        serviceName,
        source: { type: 'system', name: serviceName },
      });
      expect(text).not.toContain('\n');
      expect(Buffer.byteLength(text)).toBeLessThanOrEqual(limits.maxEncodedLineBytes);
      // An escaped lone surrogate is valid JSON to JavaScript and an error to other parsers.
      const inside: unknown = JSON.parse(text);
      expect(wellFormed(inside)).toEqual(inside);
    }),
    { numRuns: 100 },
  );
});

test.each([
  ['letters', 'x'],
  ['NUL, which takes six bytes of JSON', '\0'],
  ['emoji', '😀'],
  ['lone surrogates', '\ud800'],
  ['quotes', '"'],
])('a message of 5 MB of %s is cut, marked and small', (_, unit) => {
  const message = unit.repeat(5_000_000 / unit.length);
  const text = encodeLine({ message, timestamp: 1 });
  expect(Buffer.byteLength(text)).toBeLessThanOrEqual(limits.maxEncodedLineBytes);
  const decoded = JSON.parse(text).message as string;
  expect(Buffer.byteLength(decoded)).toBeLessThanOrEqual(limits.maxMessageBytes);
  expect(decoded).toMatch(/… \[truncated \d+ bytes\]$/);
  expect(decoded.startsWith(unit.toWellFormed().repeat(1000))).toBe(true);
});

test('fields that cannot be encoded, or are too large, are dropped and the line is kept', () => {
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  let deep: unknown = 1;
  for (let i = 0; i < 100_000; i++) deep = [deep];
  for (const fields of [cycle, { big: 1n }, { deep }, { long: 'x'.repeat(200_000) }]) {
    expect(JSON.parse(encodeLine({ message: 'kept', timestamp: 5, fields }))).toEqual({
      message: 'kept',
      timestamp: 5,
    });
  }
});

test.each([Number.NaN, Number.POSITIVE_INFINITY, -1, 1e300])('a time of %d becomes now', (timestamp) => {
  const before = Date.now();
  expect(JSON.parse(encodeLine({ message: 'm', timestamp })).timestamp).toBeGreaterThanOrEqual(before);
});

test('a fraction of a millisecond is cut off', () => {
  expect(JSON.parse(encodeLine({ message: 'm', timestamp: 1696195200000.75 })).timestamp).toBe(1696195200000);
});

test('utf8Length counts what TextEncoder writes', () => {
  fc.assert(fc.property(hostileText, (text) => utf8Length(text) === new TextEncoder().encode(text).length));
});

test('truncateUtf8 never exceeds its limit, never cuts a character, and accounts for every byte', () => {
  fc.assert(
    fc.property(
      hostileText,
      fc.integer({ min: 1, max: 50 }),
      fc.integer({ min: 0, max: 400 }),
      (unit, n, max) => {
        const text = unit.repeat(n).toWellFormed();
        const cut = truncateUtf8(text, max);
        expect(Buffer.byteLength(cut)).toBeLessThanOrEqual(max);
        expect(cut.isWellFormed()).toBe(true);
        if (Buffer.byteLength(text) <= max) expect(cut).toBe(text);
        const mark = /^(.*)… \[truncated (\d+) bytes\]$/s.exec(cut);
        if (cut !== text && mark) {
          expect(text.startsWith(mark[1] as string)).toBe(true);
          expect(Buffer.byteLength(mark[1] as string) + Number(mark[2])).toBe(Buffer.byteLength(text));
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('truncateUtf8 adds what was missing before, and then marks a text that fits as well', () => {
  expect(truncateUtf8('abc', 100, 5)).toBe('abc… [truncated 5 bytes]');
  const cut = truncateUtf8('x'.repeat(200), 100, 1_000_000);
  const mark = /^(x+)… \[truncated (\d+) bytes\]$/.exec(cut);
  expect((mark?.[1]?.length ?? 0) + Number(mark?.[2])).toBe(1_000_200);
  expect(Buffer.byteLength(cut)).toBeLessThanOrEqual(100);
});

test('a line id is taken apart into what made it, and nothing else is taken for one', () => {
  fc.assert(
    fc.property(
      fc.stringMatching(/^[0-9a-z]{8,40}$/),
      fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      (journal, seq) => {
        expect(parseLineId(lineId(journal, seq))).toEqual({ journal, seq });
      },
    ),
  );
  for (const id of [
    '',
    'log-1',
    'abcdefgh-0',
    'abcdefgh-01',
    'ABCDEFGH-1',
    'abcdefgh-9999999999999999',
    'abcdefgh-1 ',
    7,
    null,
  ]) {
    expect(parseLineId(id)).toBeUndefined();
  }
});
