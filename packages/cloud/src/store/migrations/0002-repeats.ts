import type { Migration } from './migration.ts';

/**
 * What devices said about journals of theirs whose lines may repeat those of others: one row each time that a
 * journal was heard of for the first time. See `ingest/overlaps.ts`.
 */
const overlaps = `
CREATE TABLE IF NOT EXISTS millrace.overlaps (
  device String,
  journal String,
  overlaps String,
  told_ms Int64
)
ENGINE = MergeTree
ORDER BY (device, journal)
TTL toDateTime(intDiv(told_ms, 1000)) + toIntervalDay(90)
SETTINGS
  fsync_after_insert = 1,
  fsync_part_directory = 1`;

/**
 * Lines that were received and are stored under another journal's seq. They count as received, so they are no gap;
 * \`key\` says what they were. A row may be here twice (its insert was repeated): count distinct seqs.
 */
const repeats = `
CREATE TABLE IF NOT EXISTS millrace.repeats (
  device String,
  journal String,
  seq UInt64,
  key String,
  ts_ms Int64,
  received_ms Int64,
  retention_days UInt16,
  received DateTime64(3, 'UTC') MATERIALIZED fromUnixTimestamp64Milli(received_ms, 'UTC')
)
ENGINE = MergeTree
PARTITION BY (toDate(fromUnixTimestamp64Milli(received_ms, 'UTC')), retention_days)
ORDER BY (device, journal, seq)
TTL toDateTime(intDiv(received_ms, 1000)) + toIntervalDay(retention_days)
SETTINGS
  ttl_only_drop_parts = 1,
  fsync_after_insert = 1,
  fsync_part_directory = 1`;

export const repeatsMigration: Migration = {
  version: 2,
  name: 'repeats',
  statements: [overlaps, repeats],
};
