import type { DeviceMetrics, DeviceState } from '@millrace/wire';

/** What of `now` the far end does not know yet; null for what is no longer there. */
export function differences(known: DeviceState, now: DeviceState): DeviceState {
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(now)) {
    if (JSON.stringify(value) !== JSON.stringify((known as Record<string, unknown>)[key])) out[key] = value;
  }
  for (const key of Object.keys(known)) if (!(key in now)) out[key] = null;
  return out as DeviceState;
}

/**
 * By how much a metric has to differ from what was reported for it to be worth a report of its own, before its time.
 * Measured from what was reported, and not in fixed buckets: a value at the border of two would be reported for ever.
 */
const steps = {
  cpu_usage: () => 20,
  cpu_temp: () => 5,
  memory_usage: ({ memory_total = 0 }: DeviceMetrics) => (memory_total ?? 0) / 10,
  storage_usage: ({ storage_total = 0 }: DeviceMetrics) => (storage_total ?? 0) / 20,
};

/** Whether metrics have moved far enough from those that were reported. */
export function haveMoved(reported: DeviceMetrics, now: DeviceMetrics): boolean {
  if ((reported.is_undervolted ?? false) !== (now.is_undervolted ?? false)) return true;
  return Object.entries(steps).some(([key, step]) => {
    const before = reported[key as keyof typeof steps];
    const after = now[key as keyof typeof steps];
    if (typeof before !== 'number' || typeof after !== 'number') return typeof before !== typeof after;
    return Math.abs(after - before) >= Math.max(1, step(now));
  });
}
