import { EventEmitter } from 'node:events';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { untilStopped } from '../../src/running/until-stopped.ts';

const log = pino({ level: 'silent' });
let signals: EventEmitter;

beforeEach(() => {
  vi.useFakeTimers();
  signals = new EventEmitter();
});
afterEach(() => {
  vi.useRealTimers();
  expect(signals.eventNames()).toEqual([]);
});

test.each(['SIGINT', 'SIGTERM', 'SIGHUP'])('%s stops the program cleanly with code 0', async (signal) => {
  const stop = vi.fn(async () => {});
  const done = untilStopped(async () => ({ stop }), { log, signals });
  await vi.advanceTimersByTimeAsync(0);
  expect(stop).not.toHaveBeenCalled();
  signals.emit(signal);
  expect(await done).toBe(0);
  expect(stop).toHaveBeenCalledOnce();
});

test('one Ctrl-C that comes several times is one; a second one forces the end', async () => {
  const stop = vi.fn(() => new Promise<void>(() => {}));
  const done = untilStopped(async () => ({ stop }), { log, signals });
  let ended = false;
  void done.then(() => {
    ended = true;
  });
  await vi.advanceTimersByTimeAsync(0);
  signals.emit('SIGINT');
  await vi.advanceTimersByTimeAsync(100);
  signals.emit('SIGINT');
  signals.emit('SIGTERM');
  await vi.advanceTimersByTimeAsync(1000);
  expect(ended).toBe(false);
  signals.emit('SIGINT');
  expect(await done).toBe(130);
  expect(stop).toHaveBeenCalledOnce();
});

test('a signal in the middle of the start stops it once it is up', async () => {
  const stop = vi.fn(async () => {});
  const started = Promise.withResolvers<{ stop: typeof stop }>();
  const done = untilStopped(() => started.promise, { log, signals });
  signals.emit('SIGINT');
  await vi.advanceTimersByTimeAsync(1000);
  started.resolve({ stop });
  expect(await done).toBe(0);
  expect(stop).toHaveBeenCalledOnce();
});

test('a start that is slow to finish is waited for, and then the stop has its own time', async () => {
  const started = Promise.withResolvers<{ stop: () => Promise<void> }>();
  const done = untilStopped(() => started.promise, { log, signals });
  signals.emit('SIGINT');
  await vi.advanceTimersByTimeAsync(14_000);
  const stopped = Promise.withResolvers<void>();
  started.resolve({ stop: () => stopped.promise });
  await vi.advanceTimersByTimeAsync(4_000);
  stopped.resolve();
  expect(await done).toBe(0);
});

test('a start that never finishes is abandoned', async () => {
  const done = untilStopped(() => new Promise(() => {}), { log, signals });
  signals.emit('SIGINT');
  await vi.advanceTimersByTimeAsync(15_000);
  expect(await done).toBe(0);
});

test('a stop that takes too long is given up with words', async () => {
  const done = untilStopped(async () => ({ stop: () => new Promise(() => {}) }), { log, signals });
  const outcome = expect(done).rejects.toMatchObject({
    code: 'STOP_TIMED_OUT',
    detail: expect.stringContaining('5000'),
  });
  await vi.advanceTimersByTimeAsync(0);
  signals.emit('SIGINT');
  await vi.advanceTimersByTimeAsync(5000);
  await outcome;
});

test('a start that fails, fails', async () => {
  await expect(untilStopped(() => Promise.reject(new Error('no')), { log, signals })).rejects.toThrow('no');
});
