import type { Watermark } from './marks.ts';
import type { Partition } from './removal.ts';
import { maxToldJournals, type ToldOverlaps } from './repeats.ts';
import { SeqRanges } from './seq-ranges.ts';
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

/** The usage that several lanes tell of, in order. A device may be on two of them, if the cluster had other shards once. */
export function byDayAndDevice(lanes: readonly DayUsage[][], limit: number | undefined): DayUsage[] {
  const [only] = lanes;
  if (lanes.length === 1 && only) return only;
  const sums = new Map<string, DayUsage>();
  for (const usage of lanes.flat()) {
    const key = `${usage.day} ${usage.device}`;
    const sum = sums.get(key);
    if (!sum) sums.set(key, { ...usage });
    else {
      sum.lines += usage.lines;
      sum.bytes += usage.bytes;
    }
  }
  const bytes = (text: string) => Buffer.from(text);
  return [...sums.values()]
    .sort((a, b) =>
      a.day === b.day ? Buffer.compare(bytes(a.device), bytes(b.device)) : a.day < b.day ? -1 : 1,
    )
    .slice(0, limit);
}

/** What several lanes have received of one journal. */
export function inAll(watermarks: readonly Watermark[]): Watermark {
  const [only] = watermarks;
  if (watermarks.length === 1 && only) return only;
  const received = new SeqRanges();
  for (const { max, holes } of watermarks) {
    let next = 1;
    for (const { from, to } of [...holes, { from: max + 1, to: max }]) {
      if (from > next) received.add(next, from - 1);
      next = to + 1;
    }
  }
  const { max } = received;
  return { max, holes: max > 0 ? received.missing(1, max) : [] };
}

/** What a device told of its journals, its own lane first: there it tells what it tells now. */
export function newestTold(lanes: readonly ToldOverlaps[][]): ToldOverlaps[] {
  const told = new Map<string, ToldOverlaps>();
  for (const one of lanes.flat()) if (!told.has(one.journal)) told.set(one.journal, one);
  return [...told.values()].slice(0, maxToldJournals);
}

/** From the earliest to the latest of some spans. */
export function widest(spans: readonly (Span | undefined)[]): Span | undefined {
  const there = spans.filter((span) => span !== undefined);
  if (there.length === 0) return undefined;
  return {
    fromMs: Math.min(...there.map(({ fromMs }) => fromMs)),
    toMs: Math.max(...there.map(({ toMs }) => toMs)),
  };
}

interface Span {
  fromMs: number;
  toMs: number;
}
