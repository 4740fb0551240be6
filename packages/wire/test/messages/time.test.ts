import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseTime } from '../../src/index.ts';

const now = Date.parse('2026-11-20T12:00:00Z');

test.each([
  ['1696195200000', 1_696_195_200_000],
  ['0', 0],
  ['2023-10-01T20:00:00Z', 1_696_190_400_000],
  ['2023-10-01T22:00:00+02:00', 1_696_190_400_000],
  ['2023-10-01', Date.UTC(2023, 9, 1)],
  ['500ms', now - 500],
  ['90s', now - 90_000],
  ['1.5h', now - 5_400_000],
  ['1w', now - 604_800_000],
])('%s is a moment', (text, ms) => {
  expect(parseTime(text, now)).toBe(ms);
});

test.each([
  '',
  ' ',
  '10x',
  '-5m',
  'now',
  '2023-13-01',
  '1e12',
  '5 m',
  '99999999999999999',
  'Infinity',
  '10:00',
])('"%s" is none', (text) => {
  expect(parseTime(text, now)).toBeUndefined();
});

test.each<[string, number | undefined]>([
  ['0', 0],
  ['1700000000000', 1_700_000_000_000],
  ['10m', now - 600_000],
  ['2h', now - 7_200_000],
  ['1d', now - 86_400_000],
  ['90s', now - 90_000],
  ['500ms', now - 500],
  ['2026-11-20', Date.parse('2026-11-20T00:00:00Z')],
  ['2026-11-20T08:00', Date.parse('2026-11-20T08:00:00Z')],
  ['2026-11-20T08:00:00', Date.parse('2026-11-20T08:00:00Z')],
  ['2026-11-20T08:00:00.125Z', Date.parse('2026-11-20T08:00:00.125Z')],
  ['2026-11-20T08:00:00+02:00', Date.parse('2026-11-20T06:00:00Z')],
  ['', undefined],
  ['soon', undefined],
  ['-5', undefined],
  ['1.5', undefined],
  ['10 m', undefined],
  ['10y', undefined],
  ['2026-13-01', undefined],
  ['2026-11-20T25:00Z', undefined],
  ['20 Nov 2026', undefined],
  ['9999999999999', undefined],
  ['12345678901234', undefined],
])('the time %j', (text, expected) => {
  expect(parseTime(text, now)).toBe(expected);
});

test('no text breaks the reading of times', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      const ms = parseTime(text, now);
      expect(ms === undefined || (Number.isSafeInteger(ms) && ms >= 0)).toBe(true);
    }),
  );
});
