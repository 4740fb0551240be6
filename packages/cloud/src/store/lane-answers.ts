import type { Partition } from './removal.ts';
import type { DayUsage } from './usage.ts';

/** The partitions of several lanes as if they were of one. */
export function byDay(lanes: readonly Partition[][]): Partition[] {
  const [only] = lanes;
  if (lanes.length === 1 && only) return only;
  const all = new Map<string, Partition>();
  for (const partition of lanes.flat()) {
    const key = `${partition.day} ${String(partition.retentionDays).padStart(5, '0')}`;
    const sum = all.get(key);
    if (!sum) all.set(key, { ...partition });
    else {
      sum.lines += partition.lines;
      sum.bytesOnDisk += partition.bytesOnDisk;
    }
  }
  return [...all].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, partition]) => partition);
}

/** Each device is on one lane, so the answers need only be put in order. */
export function byDayAndDevice(lanes: readonly DayUsage[][], limit: number | undefined): DayUsage[] {
  const [only] = lanes;
  if (lanes.length === 1 && only) return only;
  const bytes = (text: string) => Buffer.from(text);
  return lanes
    .flat()
    .sort((a, b) =>
      a.day === b.day ? Buffer.compare(bytes(a.device), bytes(b.device)) : a.day < b.day ? -1 : 1,
    )
    .slice(0, limit);
}
