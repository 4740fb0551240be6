-- What the cloud makes by itself on each server of a cluster whose shards have replicas; for reading.

CREATE DATABASE IF NOT EXISTS millrace_shard;

CREATE TABLE IF NOT EXISTS millrace_shard.logs (
  device String CODEC(ZSTD(1)),
  service LowCardinality(String),
  ts DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
  seq UInt64 CODEC(Delta, ZSTD(1)),
  journal String CODEC(ZSTD(1)),
  level Enum8('debug' = 0, 'info' = 1, 'warn' = 2, 'error' = 3),
  is_stderr Bool,
  is_system Bool,
  source_type Enum8('container' = 0, 'system' = 1, 'manager' = 2),
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
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/millrace/logs', '{replica}')
PARTITION BY (toDate(received), retention_days)
ORDER BY (device, service, ts, seq)
TTL toDateTime(received) + toIntervalDay(retention_days)
SETTINGS
  index_granularity = 512,
  ttl_only_drop_parts = 1,
  fsync_after_insert = 1,
  fsync_part_directory = 1,
  replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS millrace_shard.log_ingest (
  seq UInt64,
  received_ms Int64,
  retention_days UInt16,
  device String,
  journal String,
  line String
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS millrace_shard.log_reshape TO millrace_shard.logs AS
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
    if(j.isStdErr, 'error', 'info')) AS Enum8('debug' = 0, 'info' = 1, 'warn' = 2, 'error' = 3)) AS level,
  j.isStdErr AS is_stderr,
  j.isSystem AS is_system,
  CAST(transform(j.source.type, ['container', 'system', 'manager'], ['container', 'system', 'manager'],
    if(j.isSystem, 'system', 'container')) AS Enum8('container' = 0, 'system' = 1, 'manager' = 2)) AS source_type,
  multiIf(j.source.name != '', j.source.name, j.serviceName != '', j.serviceName, j.isSystem, 'system', 'unknown')
    AS source_name,
  j.appId AS app,
  j.serviceId AS service_id,
  j.containerId AS container,
  ifNull(j.message, i.line) AS message,
  j.fields AS fields,
  fromUnixTimestamp64Milli(i.received_ms, 'UTC') AS received,
  i.retention_days AS retention_days
FROM millrace_shard.log_ingest AS i;

CREATE TABLE IF NOT EXISTS millrace_shard.overlaps (
  device String,
  journal String,
  overlaps String,
  told_ms Int64
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/millrace/overlaps', '{replica}')
ORDER BY (device, journal)
TTL toDateTime(intDiv(told_ms, 1000)) + toIntervalDay(90)
SETTINGS
  fsync_after_insert = 1,
  fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS millrace_shard.repeats (
  device String,
  journal String,
  seq UInt64,
  key String,
  ts_ms Int64,
  received_ms Int64,
  retention_days UInt16,
  received DateTime64(3, 'UTC') MATERIALIZED fromUnixTimestamp64Milli(received_ms, 'UTC')
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/millrace/repeats', '{replica}')
PARTITION BY (toDate(fromUnixTimestamp64Milli(received_ms, 'UTC')), retention_days)
ORDER BY (device, journal, seq)
TTL toDateTime(intDiv(received_ms, 1000)) + toIntervalDay(retention_days)
SETTINGS
  ttl_only_drop_parts = 1,
  fsync_after_insert = 1,
  fsync_part_directory = 1;

ALTER TABLE millrace_shard.logs ADD PROJECTION IF NOT EXISTS day_marks (
  SELECT device, journal, intDiv(seq, 65536), toDate(received), count(), min(seq), max(seq),
    sum(length(message) + length(fields)), min(received), max(received)
  GROUP BY device, journal, intDiv(seq, 65536), toDate(received)
);

ALTER TABLE millrace_shard.logs DROP PROJECTION IF EXISTS marks;

ALTER TABLE millrace_shard.logs MATERIALIZE PROJECTION day_marks;

ALTER TABLE millrace_shard.logs REMOVE TTL;

ALTER TABLE millrace_shard.repeats REMOVE TTL;

CREATE TABLE IF NOT EXISTS millrace_shard.gone (
  device String,
  journal String,
  block UInt64,
  seqs AggregateFunction(groupBitmap, UInt16),
  removed SimpleAggregateFunction(max, DateTime)
)
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/millrace/gone', '{replica}')
ORDER BY (device, journal, block)
TTL removed + toIntervalDay(400)
SETTINGS
  fsync_after_insert = 1,
  fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS millrace_shard.usage_gone (
  device String,
  day Date,
  retention_days UInt16,
  part String,
  why Enum8('expired' = 0, 'disk-cap' = 1, 'deleted' = 2),
  lines UInt64,
  bytes UInt64,
  removed DateTime64(3, 'UTC')
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/millrace/usage_gone', '{replica}', removed)
ORDER BY (device, day, retention_days, part)
TTL toDateTime(removed) + toIntervalDay(400)
SETTINGS
  fsync_after_insert = 1,
  fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS millrace_shard.log_arrivals (
  seq UInt64,
  received_ms Int64,
  retention String,
  device String,
  journal String,
  line String
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS millrace_shard.log_settle TO millrace_shard.logs AS
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
    if(j.isStdErr, 'error', 'info')) AS Enum8('debug' = 0, 'info' = 1, 'warn' = 2, 'error' = 3)) AS level,
  j.isStdErr AS is_stderr,
  j.isSystem AS is_system,
  CAST(transform(j.source.type, ['container', 'system', 'manager'], ['container', 'system', 'manager'],
    if(j.isSystem, 'system', 'container')) AS Enum8('container' = 0, 'system' = 1, 'manager' = 2)) AS source_type,
  multiIf(j.source.name != '', j.source.name, j.serviceName != '', j.serviceName, j.isSystem, 'system', 'unknown')
    AS source_name,
  j.appId AS app,
  j.serviceId AS service_id,
  j.containerId AS container,
  ifNull(j.message, i.line) AS message,
  j.fields AS fields,
  fromUnixTimestamp64Milli(i.received_ms, 'UTC') AS received,
  if(startsWith(i.retention, ','),
    toUInt16OrZero(substring(i.retention,
      if(position(i.retention, concat('\x1e', service, '\x1e')) AS place = 0, 2, place + length(service) + 2)
        + 3 * toInt8(level), 3)),
    toUInt16OrZero(i.retention)) AS retention_days
FROM millrace_shard.log_arrivals AS i;

CREATE TABLE IF NOT EXISTS millrace_shard.fences (
  slot UInt16,
  epoch UInt64
)
ENGINE = ReplacingMergeTree(epoch)
ORDER BY slot
SETTINGS
  fsync_after_insert = 1,
  fsync_part_directory = 1;

ALTER TABLE millrace_shard.logs ADD PROJECTION IF NOT EXISTS counts (
  SELECT device, service, app, level, intDiv(toUnixTimestamp64Milli(ts), 3600000), count(), min(ts), max(ts)
  GROUP BY device, service, app, level, intDiv(toUnixTimestamp64Milli(ts), 3600000)
) WITH SETTINGS (index_granularity = 8192, min_compress_block_size = 65536);

ALTER TABLE millrace_shard.logs MATERIALIZE PROJECTION counts;

ALTER TABLE millrace_shard.logs MODIFY SETTING merge_selector_base = 8,
      min_compress_block_size = 16384, max_compress_block_size = 131072;

ALTER TABLE millrace_shard.logs MODIFY SETTING min_compress_block_size = 4096;
