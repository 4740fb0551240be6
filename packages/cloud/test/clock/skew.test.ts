import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ClockSkews } from '../../src/clock/skew.ts';

const start = Date.UTC(2026, 10, 20);

test('the skew is what batches agree on, whatever their delays', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -1_000_000_000, max: 1_000_000_000 }),
      fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 2, maxLength: 30 }),
      (behindMs, delays) => {
        const skews = new ClockSkews();
        expect(skews.of('d')).toBeNull();
        let nowMs = start;
        for (const delayMs of delays) {
          nowMs += 1_000;
          skews.note('d', nowMs - delayMs - behindMs, nowMs);
        }
        expect(skews.of('d')).toBe(behindMs + Math.min(...delays));
      },
    ),
  );
});

test('what was gathered in an outage says nothing about the clock', () => {
  const skews = new ClockSkews();
  const behindMs = 5_000;
  // A day of batches, one for each minute, fifty in a second; then fresh ones.
  for (let minute = 0; minute < 1440; minute++) {
    skews.note('d', start - (1440 - minute) * 60_000 - behindMs, start + minute * 20);
    expect(skews.of('d')).toBeNull();
  }
  for (let second = 30; second < 35; second++) {
    const nowMs = start + second * 1000;
    skews.note('d', nowMs - 40 - behindMs, nowMs);
  }
  expect(skews.of('d')).toBe(behindMs + 40);
});

test('a clock that was set is seen, at once when forward and within two windows when back', () => {
  const skews = new ClockSkews();
  let nowMs = start;
  const speak = (seconds: number, behindMs: number) => {
    for (let i = 0; i < seconds; i++) {
      nowMs += 1000;
      skews.note('d', nowMs - behindMs, nowMs);
    }
  };
  speak(3, 3_600_000);
  expect(skews.of('d')).toBe(3_600_000);
  speak(3, 20);
  expect(skews.of('d')).toBe(20);
  speak(602, 60_000);
  expect(skews.of('d')).toBe(60_000);
});

test('batches without a time and devices beyond the bound are left out', () => {
  const skews = new ClockSkews();
  for (const nowMs of [start, start + 2_000]) skews.note('none', 0, nowMs);
  expect(skews.of('none')).toBeNull();
  for (const nowMs of [start, start + 2_000]) skews.note('early', nowMs, nowMs);
  expect(skews.of('early')).toBe(0);
  for (let i = 0; i < 20_000; i++) skews.note(`d${i}`, start, start);
  expect(skews.of('early')).toBeNull();
});
