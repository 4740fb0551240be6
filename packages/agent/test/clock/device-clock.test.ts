import { expect, test } from 'vitest';
import { DeviceClock } from '../../src/clock/device-clock.ts';
import { ClockHistory } from '../../src/clock/history.ts';
import { TestDevice } from './test-device.ts';

test('the offset of the operating system is steady, and all processes of a boot see the same', async () => {
  const clock = new DeviceClock();
  const before = clock.stamp;
  clock.check();
  expect(clock.stamp).toBe(before);
  expect(before.boot).toMatch(/^[0-9a-f]{12}$/);
  const other = new DeviceClock();
  expect(other.stamp.boot).toBe(before.boot);
  expect(Math.abs(other.stamp.offset - before.offset)).toBeLessThan(100);
  expect(clock.isAwaited(before)).toBe(false);
  expect(clock.correction(before, Date.now())).toBe(0);
});

test('a time from before the step is given by the clock in force, whether it was set forward or back', () => {
  for (const wallMs of [0, Date.UTC(2030, 0, 1)]) {
    const device = new TestDevice();
    device.reboot(wallMs);
    const clock = device.clock();
    device.pass(10_000);
    const [stampedMs, writtenMs] = [device.wallMs(), device.trueMs];
    device.pass(5_000);
    device.set();
    clock.check();
    expect(clock.present(stampedMs)).toBe(writtenMs);
    expect(clock.present(device.wallMs())).toBe(device.wallMs());
    // A line of an earlier boot, whose clock was right.
    expect(clock.present(device.trueMs - 86_400_000)).toBe(device.trueMs - 86_400_000);
  }
});

test('a machine that slept did not have its clock set', () => {
  const device = new TestDevice();
  device.reboot(device.trueMs);
  let slept = 0;
  const clock = new DeviceClock({
    boot: 'b',
    wallMs: () => device.wallMs(),
    sinceBootMs: () => device.sinceBootMs(),
    tickMs: () => device.sinceBootMs() - slept,
  });
  let steps = 0;
  using stack = new DisposableStack();
  stack.defer(clock.watch(() => steps++));
  slept = 3_600_000;
  device.pass(slept);
  clock.check();
  expect(steps).toBe(0);
  device.set(device.trueMs + 60_000);
  clock.check();
  expect(steps).toBe(1);
});

test('a boot that seems to have begun before the last batch was sealed waits for its clock', () => {
  const device = new TestDevice();
  device.reboot(device.trueMs);
  const history = new ClockHistory();
  history.note(device.clock().stamp, device.wallMs() + 60_000);
  device.pass(3_600_000);
  device.reboot(device.trueMs - 3_590_000);
  const clock = device.clock();
  clock.recall(history);
  expect(clock.isAwaited(clock.stamp)).toBe(true);
  device.set();
  clock.check();
  expect(clock.isAwaited(clock.stamp)).toBe(false);
});

test('what is known of clocks is bounded, and the newest is kept', () => {
  const history = new ClockHistory();
  for (let i = 0; i < 500; i++) {
    history.note({ boot: `b${i}`, offset: Date.UTC(2026, 0, 1) + i }, Date.UTC(2026, 0, 2));
    history.note({ boot: 'same', offset: Date.UTC(2026, 0, 1) + 1000 * i }, Date.UTC(2026, 0, 2));
  }
  expect(Object.keys(history.state())).toHaveLength(64);
  expect(history.truth('b499')).toBe(Date.UTC(2026, 0, 1) + 499);
  expect(history.eras('same').length).toBeLessThanOrEqual(8);
});
