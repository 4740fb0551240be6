import type { Migration } from './migration.ts';

const level = `Enum8('debug' = 0, 'info' = 1, 'warn' = 2, 'error' = 3)`;
const source = `Enum8('container' = 0, 'system' = 1, 'manager' = 2)`;

/**
 * The lines. Partitions go by the day of arrival and not by the lines' own time, which a device with a wrong clock
 * could spread over any number of days: one insert lands in one part, and no line expires before its time.
 *
 * The projection `marks` keeps, per part and atomically with it, what was received of each journal in blocks of
 * 65 536 seqs. It answers the ingest's question "what do you have of this journal?" and the one about a device's
 * lines and bytes without reading a line. A block is complete when `count = max - min + 1`.
 *
 * Granules of 512 lines: a page of lines is picked from many places, and each costs a granule of every column (decision 39).
 */
const logs = `
CREATE TABLE IF NOT EXISTS millrace.logs (
  device String CODEC(ZSTD(1)),
  service LowCardinality(String),
  ts DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
  seq UInt64 CODEC(Delta, ZSTD(1)),
  journal String CODEC(ZSTD(1)),
  level ${level},
  is_stderr Bool,
  is_system Bool,
  source_type ${source},
  source_name LowCardinality(String),
  app LowCardinality(String),
  service_id Nullable(Int64),
  container String CODEC(ZSTD(1)),
  message String CODEC(ZSTD(1)),
  fields String CODEC(ZSTD(1)),
  received DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
  retention_days UInt16 DEFAULT 30,
  INDEX times ts TYPE minmax GRANULARITY 1,
  PROJECTION marks (
    SELECT device, journal, intDiv(seq, 65536), count(), min(seq), max(seq),
      sum(length(message) + length(fields)), min(received), max(received)
    GROUP BY device, journal, intDiv(seq, 65536)
  )
)
ENGINE = MergeTree
PARTITION BY (toDate(received), retention_days)
ORDER BY (device, service, ts, seq)
TTL toDateTime(received) + toIntervalDay(retention_days)
SETTINGS
  index_granularity = 512,
  ttl_only_drop_parts = 1,
  fsync_after_insert = 1,
  fsync_part_directory = 1,
  non_replicated_deduplication_window = 1000`;

/** Where inserts go. It stores nothing: the view below turns its rows into those of \`logs\`. */
const ingest = `
CREATE TABLE IF NOT EXISTS millrace.log_ingest (
  seq UInt64,
  received_ms Int64,
  retention_days UInt16,
  device String,
  journal String,
  line String
)
ENGINE = Null`;

/**
 * The view that takes each line apart. The outer columns are named \`i.…\`: none of them ever comes from the line. A line that
 * is no JSON object, or holds no message, becomes a message as it is. Names of levels are those that
 * \`parseLevel\` knows; times out of range give way to the time of arrival.
 */
export const reshapeSql = ({ view, from, retention }: { view: string; from: string; retention: string }) => `
CREATE MATERIALIZED VIEW IF NOT EXISTS millrace.${view} TO millrace.logs AS
WITH JSONExtract(i.line, 'Tuple(
    timestamp Nullable(Int64), message Nullable(String), level String, isStdErr Bool, isSystem Bool,
    serviceName String, serviceId Nullable(Int64), containerId String, appId String,
    source Tuple(type String, name String), fields String)') AS j
SELECT
  i.device AS device,
  j.serviceName AS service,
  fromUnixTimestamp64Milli(
    if(j.timestamp >= 0 AND j.timestamp < 9877000000000, assumeNotNull(j.timestamp), i.received_ms), 'UTC') AS ts,
  i.seq AS seq,
  i.journal AS journal,
  CAST(transform(lower(j.level),
    ['debug', 'info', 'warn', 'error', 'trace', 'verbose', 'information', 'notice', 'log', 'warning',
     'err', 'critical', 'crit', 'alert', 'emerg', 'fatal', 'panic'],
    ['debug', 'info', 'warn', 'error', 'debug', 'debug', 'info', 'info', 'info', 'warn',
     'error', 'error', 'error', 'error', 'error', 'error', 'error'],
    if(j.isStdErr, 'error', 'info')) AS ${level}) AS level,
  j.isStdErr AS is_stderr,
  j.isSystem AS is_system,
  CAST(transform(j.source.type, ['container', 'system', 'manager'], ['container', 'system', 'manager'],
    if(j.isSystem, 'system', 'container')) AS ${source}) AS source_type,
  multiIf(j.source.name != '', j.source.name, j.serviceName != '', j.serviceName, j.isSystem, 'system', 'unknown')
    AS source_name,
  j.appId AS app,
  j.serviceId AS service_id,
  j.containerId AS container,
  ifNull(j.message, i.line) AS message,
  j.fields AS fields,
  fromUnixTimestamp64Milli(i.received_ms, 'UTC') AS received,
  ${retention} AS retention_days
FROM millrace.${from} AS i`;

const reshape = reshapeSql({ view: 'log_reshape', from: 'log_ingest', retention: 'i.retention_days' });

export const logsMigration: Migration = {
  version: 1,
  name: 'logs',
  statements: [logs, ingest, reshape],
};
