import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SeqRanges } from '../../src/store/seq-ranges.ts';

const range = fc
  .tuple(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 0, max: 12 }))
  .map(([from, length]) => ({ from, to: from + length }));

test('ranges do what a set of numbers does', () => {
  fc.assert(
    fc.property(
      fc.array(range, { maxLength: 25 }),
      range,
      fc.integer({ min: 0, max: 80 }),
      (added, asked, after) => {
        const ranges = new SeqRanges();
        const model = new Set<number>();
        for (const { from, to } of added) {
          ranges.add(from, to);
          for (let seq = from; seq <= to; seq++) model.add(seq);
        }
        const list = [...ranges];
        for (let i = 1; i < list.length; i++) {
          expect((list[i] as { from: number }).from).toBeGreaterThan((list[i - 1] as { to: number }).to + 1);
        }
        for (let seq = 1; seq <= 80; seq++) expect(ranges.has(seq)).toBe(model.has(seq));
        expect(ranges.max).toBe(Math.max(0, ...model));
        const missing = ranges
          .missing(asked.from, asked.to)
          .flatMap(({ from, to }) => Array.from({ length: to - from + 1 }, (_, i) => from + i));
        const expected: number[] = [];
        for (let seq = asked.from; seq <= asked.to; seq++) if (!model.has(seq)) expected.push(seq);
        expect(missing).toEqual(expected);
        let first = after + 1;
        while (model.has(first)) first++;
        expect(ranges.firstMissing(after)).toBe(first);
      },
    ),
    { numRuns: 1000 },
  );
});

test('closing the lowest gap makes one range of two', () => {
  const ranges = new SeqRanges([
    { from: 1, to: 2 },
    { from: 5, to: 6 },
    { from: 9, to: 9 },
  ]);
  expect(ranges.closeLowestGap()).toEqual({ from: 3, to: 4 });
  expect([...ranges]).toEqual([
    { from: 1, to: 6 },
    { from: 9, to: 9 },
  ]);
  expect(new SeqRanges([{ from: 1, to: 2 }]).closeLowestGap()).toBeUndefined();
});
