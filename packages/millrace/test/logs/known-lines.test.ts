import { expect, test } from 'vitest';
import { KnownLines } from '../../src/logs/known-lines.ts';
import { line } from './scripted-server.ts';

test('a flood of lines is remembered as a whole, whatever order it comes in and whosever it is', () => {
  const known = new KnownLines();
  const template = line(1);
  const devices = ['one', 'two'];
  const add = (device: string, journal: string, seq: number) =>
    known.add({ ...template, device, id: `${journal}-${seq}` });
  const count = 300_000;
  let news = 0;
  for (let seq = count; seq > 0; seq--)
    for (const device of devices) if (add(device, 'journal1', seq)) news++;
  expect(news).toBe(count * devices.length);
  for (let seq = 1; seq <= count; seq++)
    for (const device of devices) if (add(device, 'journal1', seq)) news++;
  expect(news).toBe(count * devices.length);
  expect([add('one', 'journal2', 1), add('three', 'journal1', 1), add('one', 'journal1', count + 1)]).toEqual(
    [true, true, true],
  );
});

test('lines without a number are told apart by what they are', () => {
  const known = new KnownLines();
  const one = { ...line(1), id: '' };
  expect([known.add(one), known.add(one), known.add({ ...one, message: 'another' })]).toEqual([
    true,
    false,
    true,
  ]);
  expect([known.add({ ...one, id: 'x-y' }), known.add({ ...one, id: 'x-y' })]).toEqual([true, false]);
});
