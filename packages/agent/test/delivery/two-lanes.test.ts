import { expect, onTestFinished, test, vi } from 'vitest';
import { AckReader } from '../../src/delivery/acks.ts';
import { Pace } from '../../src/delivery/pace.ts';
import { type Parcel, SendWindow } from '../../src/delivery/send-window.ts';

const roomy = { maxLines: 1e9, maxBytes: 1e9 };

function send(window: SendWindow, first: number, last: number): Parcel {
  const parcel = window.open('j', first);
  window.extend(parcel, last);
  window.send(parcel, { lines: last - first + 1, bytes: 1000 });
  return parcel;
}

test('two windows side by side never have more under way than the broker allows, and neither takes it all', () => {
  const window = new SendWindow({ ...roomy, maxParcels: 8, onAdvance: () => {} });
  const parcels = Array.from({ length: 8 }, (_, i) => send(window, i + 1, i + 1));
  {
    using beside = window.openBeside({ ...roomy, onAdvance: () => {} });
    expect(beside.window.full).toBe(true);
    for (const parcel of parcels.splice(0, 2)) window.arrived(parcel);
    expect([window.full, beside.window.full]).toEqual([true, false]);
    send(beside.window, 100, 100);
    send(beside.window, 101, 101);
    expect([window.full, beside.window.full]).toEqual([true, true]);
    window.arrived(parcels.pop() as Parcel);
    expect([window.full, beside.window.full]).toEqual([false, true]);
  }
  send(window, 9, 9);
  send(window, 10, 10);
  expect(window.full).toBe(false);
  send(window, 11, 11);
  expect(window.full).toBe(true);
});

test('stored ranges confirm what they hold, advance nothing over a gap, and show what was overtaken', () => {
  const advanced: number[] = [];
  const window = new SendWindow({
    ...{ ...roomy, maxParcels: 100 },
    onAdvance: (_journal, through) => advanced.push(through),
  });
  for (const first of [1, 11, 21]) send(window, first, first + 9);
  expect(window.overtakenMs).toBe(0);
  expect(window.ackRange('j', 21, 5000)).toBe(true);
  expect(advanced).toEqual([]);
  expect(window.overtakenMs).toBeGreaterThan(0);
  // A range that begins inside a parcel says nothing about its beginning.
  expect(window.ackRange('j', 5, 10)).toBe(false);
  expect(window.ackRange('j', 1, 14)).toBe(true);
  expect(advanced).toEqual([14]);
  expect(window.ackRange('j', 1, 20)).toBe(true);
  expect(advanced).toEqual([14, 30]);
  expect(window.overtakenMs).toBe(0);
});

test('acknowledgements with ranges are read, and what is no range is passed over', () => {
  const [ack] = new AckReader().push(
    '{"ack":{"journal":"j","through":0,"stored":[[1,5],[7],["8",9],[10,12,14],[20,21]]}}\n',
  );
  expect(ack).toEqual({
    ...{ journal: 'j', through: 0 },
    stored: [
      [1, 5],
      [20, 21],
    ],
  });
});

test('a backlog has on the wire about what a slow far end takes in a quarter of a second', () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const pace = new Pace();
  const fast = () => {
    const parcels = [];
    while (!pace.full) parcels.push(pace.sent(10_000));
    for (const parcel of parcels) pace.taken(parcel);
  };
  // All is taken at once: the bound grows far beyond its beginning.
  for (let i = 0; i < 5; i++) fast();
  expect(pace.maxBytes).toBeGreaterThan(1_000_000);
  // From now on 10 kB every 20 ms at most: half a MB a second.
  const waiting = [];
  for (let i = 0; i < 600; i++) {
    while (!pace.full) waiting.push(pace.sent(10_000));
    vi.advanceTimersByTime(20);
    const first = waiting.shift();
    if (first) pace.taken(first);
  }
  expect(pace.maxBytes).toBeGreaterThan(10_000);
  expect(pace.maxBytes).toBeLessThan(200_000);
});
