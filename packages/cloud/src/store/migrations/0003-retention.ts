import { reshapeSql } from './0001-logs.ts';
import type { ConditionalStatement, Migration } from './migration.ts';

/**
 * `marks`, and by the day of arrival as well, for usage per day. Nearly all rows of a part are of one day, so it is
 * no larger than the one that it replaces.
 */
const dayMarks = `
ALTER TABLE millrace.logs ADD PROJECTION IF NOT EXISTS day_marks (
  SELECT device, journal, intDiv(seq, 65536), toDate(received), count(), min(seq), max(seq),
    sum(length(message) + length(fields)), min(received), max(received)
  GROUP BY device, journal, intDiv(seq, 65536), toDate(received)
)`;

/** Lines leave through `store/removal.ts` alone, which notes first what they were. */
const withoutTtl = (table: string): ConditionalStatement => ({
  onlyIf: `SELECT 1 AS has FROM system.tables
    WHERE database = 'millrace' AND name = '${table}' AND create_table_query LIKE '% TTL %'`,
  statement: `ALTER TABLE millrace.${table} REMOVE TTL`,
});

/**
 * Seqs whose lines were stored and have been removed, as bitmaps of \`seq % 65536\` per block. They count as received:
 * who sends them again is not believed, and they are no gap. 65 536 lines take at most 8 KB here, and some bytes
 * when they follow on from one another. A device that sends again what went more than 400 days ago is believed.
 */
const gone = `
CREATE TABLE IF NOT EXISTS millrace.gone (
  device String,
  journal String,
  block UInt64,
  seqs AggregateFunction(groupBitmap, UInt16),
  removed SimpleAggregateFunction(max, DateTime)
)
ENGINE = AggregatingMergeTree
ORDER BY (device, journal, block)
TTL removed + toIntervalDay(400)
SETTINGS
  fsync_after_insert = 1,
  fsync_part_directory = 1`;

/**
 * What removed lines were, by device and day of arrival, so that usage outlives them. \`part\` is empty for a whole
 * partition, and such a row counts only once the partition is no longer there: it is written before the drop.
 */
const usageGone = `
CREATE TABLE IF NOT EXISTS millrace.usage_gone (
  device String,
  day Date,
  retention_days UInt16,
  part String,
  why Enum8('expired' = 0, 'disk-cap' = 1, 'deleted' = 2),
  lines UInt64,
  bytes UInt64,
  removed DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(removed)
ORDER BY (device, day, retention_days, part)
TTL toDateTime(removed) + toIntervalDay(400)
SETTINGS
  fsync_after_insert = 1,
  fsync_part_directory = 1`;

/**
 * Where inserts go from now on; \`log_ingest\` stays for processes of an earlier version that run beside this one.
 * \`retention\` is a number of days, or a plan by level and service: see \`store/retention-plan.ts\`.
 */
const arrivals = `
CREATE TABLE IF NOT EXISTS millrace.log_arrivals (
  seq UInt64,
  received_ms Int64,
  retention String,
  device String,
  journal String,
  line String
)
ENGINE = Null`;

/** A plan begins with a comma, so that nearly all rows are done after a look at one byte. */
const retention = `if(startsWith(i.retention, ','),
    toUInt16OrZero(substring(i.retention,
      if(position(i.retention, concat('\\x1e', service, '\\x1e')) AS place = 0, 2, place + length(service) + 2)
        + 3 * toInt8(level), 3)),
    toUInt16OrZero(i.retention))`;

export const retentionMigration: Migration = {
  version: 3,
  name: 'retention',
  statements: [
    dayMarks,
    'ALTER TABLE millrace.logs DROP PROJECTION IF EXISTS marks',
    'ALTER TABLE millrace.logs MATERIALIZE PROJECTION day_marks',
    withoutTtl('logs'),
    withoutTtl('repeats'),
    gone,
    usageGone,
    arrivals,
    reshapeSql({ view: 'log_settle', from: 'log_arrivals', retention }),
  ],
};
