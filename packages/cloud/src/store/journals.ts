import { whereSql } from './conditions.ts';

/**
 * What is known of each journal, as a subquery: `stored` lines, `n` seqs received between `low`, the lowest of which
 * anything is still here, and `high`. Read from the projection `day_marks`, and not from the lines.
 *
 * Of what has been removed only what lies above `low` counts: below, nobody can say any more what was missing.
 *
 * @param conditions on `device`, all of which must hold
 */
export function journalsSql(conditions: readonly string[]): string {
  const condition = whereSql(conditions);
  return `SELECT device, journal, any(live.stored) AS stored, any(live.size) AS size, any(live.low) AS low,
    greatest(any(live.high), max(removed.high)) AS high,
    any(live.n) + sum(multiIf(removed.block > intDiv(live.low, 65536), bitmapCardinality(removed.seqs),
      removed.block = intDiv(live.low, 65536),
      bitmapCardinality(bitmapSubsetInRange(removed.seqs, toUInt32(live.low % 65536), toUInt32(65536))), 0)) AS n,
    any(live.firstReceived) AS firstReceived, any(live.lastReceived) AS lastReceived
  FROM (
    SELECT device, journal, sum(stored) AS stored, sum(n) AS n, min(low) AS low, max(high) AS high,
      sum(size) AS size, min(firstReceived) AS firstReceived, max(lastReceived) AS lastReceived
    FROM (
      SELECT device, journal, count() AS stored, count() AS n, min(seq) AS low, max(seq) AS high,
        sum(length(message) + length(fields)) AS size, min(received) AS firstReceived, max(received) AS lastReceived
      FROM millrace.logs ${condition} GROUP BY device, journal
      UNION ALL
      SELECT device, journal, 0 AS stored, uniqExact(seq) AS n, min(seq) AS low, max(seq) AS high,
        0 AS size, min(received) AS firstReceived, max(received) AS lastReceived
      FROM millrace.repeats ${condition} GROUP BY device, journal)
    GROUP BY device, journal) AS live
  LEFT JOIN (
    SELECT device, journal, block, groupBitmapMergeState(seqs) AS seqs,
      block * 65536 + bitmapMax(seqs) AS high
    FROM millrace.gone ${condition} GROUP BY device, journal, block) AS removed
  USING (device, journal)
  GROUP BY device, journal`;
}
/** Otherwise `length(fields)` becomes a read of `fields.size`, which the projection does not have. */
export const journalsSettings = { optimize_functions_to_subcolumns: 0 };
