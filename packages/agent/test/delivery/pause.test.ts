import { getEventListeners } from 'node:events';
import { expect, onTestFinished, test, vi } from 'vitest';
import { serveFreshLanes } from '../../src/delivery/fresh-lanes.ts';
import { pause } from '../../src/delivery/pause.ts';
import type { Feed, FreshLane } from '../../src/logging/types.ts';

function fakeTime(): void {
  vi.useFakeTimers();
  onTestFinished(() => {
    vi.useRealTimers();
  });
}

test('a pause ends at its time or with its signal, and leaves neither timer nor listener behind', async () => {
  fakeTime();
  const stop = new AbortController();
  const ended: string[] = [];
  const long = pause(10_000, stop.signal).then(() => ended.push('long'));
  const short = pause(1_000, stop.signal).then(() => ended.push('short'));
  await vi.advanceTimersByTimeAsync(1_000);
  expect(ended).toEqual(['short']);
  expect(getEventListeners(stop.signal, 'abort')).toHaveLength(1);
  stop.abort();
  await Promise.all([long, short]);
  expect(ended).toEqual(['short', 'long']);
  expect(vi.getTimerCount()).toBe(0);
  await pause(10_000, stop.signal);
});

test('a feed that keeps up is asked for a fresh lane often at first, and then each second', async () => {
  fakeTime();
  const stop = new AbortController();
  let asked = 0;
  let isBehind = false;
  const lane = { joined: AbortSignal.abort(), [Symbol.dispose]: () => {} };
  const feed = {
    fresh: () => {
      asked++;
      return isBehind ? (lane as unknown as FreshLane) : undefined;
    },
  };
  let lanes = 0;
  const served = serveFreshLanes({
    feed: feed as unknown as Feed,
    read: stop.signal,
    deliver: async () => {
      lanes++;
      isBehind = false;
    },
  });
  await vi.advanceTimersByTimeAsync(1_000);
  expect(asked).toBe(5);
  await vi.advanceTimersByTimeAsync(59_000);
  expect(asked).toBeLessThan(100);
  isBehind = true;
  await vi.advanceTimersByTimeAsync(1_000);
  expect(lanes).toBe(1);
  stop.abort();
  await served;
});
