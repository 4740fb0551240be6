import { type Histogram, MillraceError } from '@millrace/wire';
import type { Scope } from '../query/index.ts';
import type { LineConditions } from './conditions.ts';
import { type CountKeys, countSql, hourMs, hourSql, timesSql } from './hour-counts.ts';
import type { Select } from './log-reader.ts';
import { integer } from './sql.ts';

export interface HistogramQuery extends LineConditions {
  /** What to count by within each bucket; only lines when left out. */
  by?: string;
  /** Most buckets, 1 to {@link maxBuckets}. */
  buckets: number;
  /** Length of a bucket, ms. By default the shortest round one that needs no more than `buckets`. */
  stepMs?: number;
  /** Most values of `by` that are counted by themselves, the most frequent ones, 1 to {@link maxSeries}. */
  series: number;
}

export const maxBuckets = 1000;
export const maxSeries = 50;

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;

/** Steps that a clock and a calendar can show, each dividing the day or made of days. */
const roundStepsMs = [
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500],
  ...[1, 2, 5, 10, 15, 30].map((n) => n * second),
  ...[1, 2, 5, 10, 15, 30].map((n) => n * minute),
  ...[1, 2, 3, 6, 12].map((n) => n * hour),
  ...[1, 2, 7, 14, 28, 91, 182, 364].map((n) => n * day),
];

/** The shortest round step by which no more than `buckets` cover the time from `since` to `until`. */
export function roundStep(since: number, until: number, buckets: number): number {
  const fits = (step: number) => countBuckets(since, until, step) <= buckets;
  const round = roundStepsMs.find(fits);
  if (round !== undefined) return round;
  // Decades in a few buckets. A bucket more than that many of this length does not fit in between.
  let step = 364 * day;
  while (!fits(step)) step *= 2;
  return step;
}

function countBuckets(since: number, until: number, stepMs: number): number {
  return Math.ceil(until / stepMs) - Math.floor(since / stepMs);
}

export async function readHistogram(select: Select, query: HistogramQuery, scope: Scope): Promise<Histogram> {
  checkCount('buckets', query.buckets, maxBuckets);
  checkCount('series', query.series, maxSeries);
  const range = await timeRange(select, query, scope);
  const { since, until } = range;
  if (since >= until) return { since, until: since, stepMs: query.stepMs ?? 1, count: 0, counts: [] };
  const stepMs = query.stepMs ?? roundStep(since, until, query.buckets);
  const length = countBuckets(since, until, stepMs);
  if (length > query.buckets) {
    throw new MillraceError(
      'PARAMETER_INVALID',
      `step: from since to until there would be ${length} buckets, more than ${query.buckets}`,
    );
  }
  const first = Math.floor(since / stepMs);
  const whole = {
    since: first * stepMs,
    until: (first + length) * stepMs,
    stepMs,
  };
  // Lines may arrive between the two statements: what would lie behind the last bucket is not counted.
  const bounded = { ...query, since: query.since ?? whole.since, until: query.until ?? whole.until };
  const sql = countSql(bounded, scope, bucketKeys(stepMs, first, query.by));
  if (query.by === undefined) {
    return { ...whole, ...fill(await select<{ bucket: number; lines: number }>(sql), length) };
  }
  const rows = await select<{ bucket: number; value: string | null; own: number; lines: number }>(
    seriesSql(sql, query.series),
  );
  const kept = Map.groupBy(
    rows.filter(({ own }) => own === 1),
    ({ value }) => value,
  );
  const series = [...kept].map(([value, of]) => ({ value, ...fill(of, length) }));
  series.sort((a, b) => b.count - a.count || compareValues(a.value, b.value));
  const rest = fill(
    rows.filter(({ own }) => own === 0),
    length,
  );
  return { ...whole, ...fill(rows, length), series, ...(rest.count > 0 && { other: rest }) };
}

function bucketKeys(stepMs: number, first: number, by: string | undefined): CountKeys {
  const bucket = (time: string, step: number) =>
    `toUInt32(intDiv(${time}, ${integer(step)}) - ${integer(first)})`;
  return {
    bucket: bucket('toUnixTimestamp64Milli(ts)', stepMs),
    ...(stepMs % hourMs === 0 && { hourBucket: bucket(hourSql, stepMs / hourMs) }),
    by,
  };
}

/** Counts per bucket and value, where the values outside of the most frequent are merged. */
function seriesSql(counts: string, series: number): string {
  return `SELECT bucket, if(rank <= ${integer(series)}, value, NULL) AS value, rank <= ${integer(series)} AS own, sum(lines) AS lines
FROM (
  SELECT bucket, value, lines, dense_rank() OVER (ORDER BY total DESC, value ASC) AS rank
  FROM (
    SELECT bucket, value, lines, sum(lines) OVER (PARTITION BY value) AS total
    FROM (${counts})
  )
)
GROUP BY bucket, value, own`;
}

/** From the parameters; what they leave open, from the lines themselves. */
async function timeRange(
  select: Select,
  query: HistogramQuery,
  scope: Scope,
): Promise<{ since: number; until: number }> {
  const { since, until } = query;
  if (since !== undefined && until !== undefined) return { since, until };
  const [row] = await select<{ lines: number; oldest: number; newest: number }>(timesSql(query, scope));
  if (!row || row.lines === 0) return { since: since ?? until ?? 0, until: since ?? until ?? 0 };
  return { since: since ?? row.oldest, until: until ?? row.newest + 1 };
}

function fill(
  rows: readonly { bucket: number; lines: number }[],
  length: number,
): { count: number; counts: number[] } {
  const counts = new Array<number>(length).fill(0);
  let count = 0;
  for (const { bucket, lines } of rows) {
    counts[bucket] = (counts[bucket] ?? 0) + lines;
    count += lines;
  }
  return { count, counts };
}

function compareValues(a: string | null, b: string | null): number {
  if (a === b) return 0;
  if (a === null) return 1;
  return b === null || a < b ? -1 : 1;
}

function checkCount(name: string, value: number, most: number): void {
  if (!Number.isInteger(value) || value < 1 || value > most) {
    throw new MillraceError('PARAMETER_INVALID', `${name}: ${value} is not between 1 and ${most}`);
  }
}
