import { MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import { type Scope, unlimited } from '../query/index.ts';
import { ClusterEngine } from './cluster/cluster-engine.ts';
import { ShardMap } from './cluster/shard-map.ts';
import { EmbeddedEngine } from './embedded-engine.ts';
import type { LogEngine } from './engine.ts';
import { type Gap, readGaps } from './gaps.ts';
import { type AppendOptions, StoreLane } from './lane.ts';
import { LogReader, type SearchResult } from './log-reader.ts';
import { type JournalSeqs, readWatermark, type Watermark } from './marks.ts';
import { migrate } from './migrations/index.ts';
import {
  type JournalPart,
  type ReceivedLine,
  type Repeat,
  readOverlaps,
  readReceived,
  readTimes,
  saveOverlaps,
  saveRepeats,
  type ToldOverlaps,
} from './repeats.ts';
import type { SearchQuery } from './search.ts';
import { ServerEngine } from './server-engine.ts';
import { string } from './sql.ts';
import { setTextIndex } from './text-index.ts';

export interface OpenStoreOptions {
  /** Folder of the embedded ClickHouse. Either this or `url`. */
  dataDir?: string;
  /** Address of a ClickHouse server, with credentials; of a cluster several, separated by commas. */
  url?: string;
  /** Name of the cluster that the servers at `url` belong to. */
  cluster?: string;
  log: Logger;
  /** Index the words of messages. Default true. */
  textIndex?: boolean;
  /** Cap on the embedded engine's memory. Default: a quarter of the RAM. */
  maxMemoryBytes?: number;
  /** Longest that a search may run. Default 30. */
  maxSearchSeconds?: number;
}

/** What the store knows of a device by its lines. */
export interface DeviceStats {
  device: string;
  lines: number;
  /** Bytes of messages and fields, uncompressed. */
  bytes: number;
  /** Seqs between the lowest and the highest of each journal that were not received. */
  missing: number;
  /** Arrival of the oldest line still stored, ms since 1970. */
  firstSeen: number;
  lastSeen: number;
}

/**
 * Opens the log store and brings its schema up to date.
 *
 * @throws MillraceError `DATA_DIR_UNUSABLE`, `CONFIG_INVALID`, `STORE_TOO_NEW` or `STORE_FAILED`
 */
export async function openStore(options: OpenStoreOptions): Promise<LogStore> {
  const { log, url, dataDir } = options;
  if ((url === undefined) === (dataDir === undefined)) {
    throw new MillraceError('OPTION_INVALID', 'openStore takes either dataDir or url');
  }
  if (options.cluster !== undefined && url === undefined) {
    throw new MillraceError(
      'CONFIG_INVALID',
      'CLICKHOUSE_CLUSTER: needs the address of a server, CLICKHOUSE_URL',
    );
  }
  if (options.cluster === undefined && url?.includes(',')) {
    throw new MillraceError(
      'CONFIG_INVALID',
      'CLICKHOUSE_URL: several servers need the name of their cluster, CLICKHOUSE_CLUSTER',
    );
  }
  if (url !== undefined && options.cluster !== undefined) {
    const { cluster, textIndex = true, maxSearchSeconds } = options;
    const urls = url.split(',').map((one) => one.trim());
    const whole = await ClusterEngine.open({ urls, cluster, log, textIndex });
    return new LogStore({
      engine: whole,
      shards: whole.shards,
      replicas: whole.replicas,
      map: whole.map,
      maxSearchSeconds,
    });
  }
  const engine: LogEngine =
    url !== undefined
      ? await ServerEngine.open({ url, log })
      : await EmbeddedEngine.open({
          dataDir: dataDir as string,
          log,
          maxMemoryBytes: options.maxMemoryBytes,
        });
  try {
    await migrate(engine, log);
    await setTextIndex(engine, options.textIndex ?? true);
  } catch (error) {
    await engine.close();
    throw error;
  }
  return new LogStore({ engine, maxSearchSeconds: options.maxSearchSeconds });
}

export const deviceStatsSql = `SELECT device, sum(stored) AS lines, sum(size) AS bytes, sum(high - low + 1 - n) AS missing,
  toUnixTimestamp64Milli(min(firstReceived)) AS firstSeen, toUnixTimestamp64Milli(max(lastReceived)) AS lastSeen
FROM (
  SELECT device, journal, sum(stored) AS stored, sum(n) AS n, min(low) AS low, max(high) AS high, sum(size) AS size,
    min(firstReceived) AS firstReceived, max(lastReceived) AS lastReceived
  FROM (
    SELECT device, journal, count() AS stored, count() AS n, min(seq) AS low, max(seq) AS high,
      sum(length(message) + length(fields)) AS size, min(received) AS firstReceived, max(received) AS lastReceived
    FROM millrace.logs GROUP BY device, journal
    UNION ALL
    SELECT device, journal, 0 AS stored, uniqExact(seq) AS n, min(seq) AS low, max(seq) AS high,
      0 AS size, min(received) AS firstReceived, max(received) AS lastReceived
    FROM millrace.repeats GROUP BY device, journal)
  GROUP BY device, journal)
GROUP BY device ORDER BY device`;
/** Otherwise `length(fields)` becomes a read of `fields.size`, which the projection does not have. */
export const deviceStatsSettings = { optimize_functions_to_subcolumns: 0 };

/** The lines of all devices. */
export class LogStore implements AsyncDisposable {
  /** Reads the lines of all devices. */
  readonly engine: LogEngine;
  /** Where lines are stored. */
  readonly lanes: readonly StoreLane[];
  readonly #map: ShardMap;
  readonly #maxSearchSeconds: number;

  /** @param options.shards the engines of the shards, their other replicas, and which of them has a device's lines; else there is one */
  constructor(options: {
    engine: LogEngine;
    shards?: readonly LogEngine[];
    replicas?: readonly (readonly LogEngine[])[];
    map?: ShardMap;
    maxSearchSeconds?: number;
  }) {
    const { engine, shards = [engine], replicas = [], map = new ShardMap([1]) } = options;
    this.engine = engine;
    this.lanes = shards.map((shard, i) => new StoreLane(shard, replicas[i]));
    this.#map = map;
    this.#maxSearchSeconds = options.maxSearchSeconds ?? 30;
  }

  /** Index of the lane that a device's lines go to. */
  laneOf(device: string): number {
    return this.#map.of(device);
  }

  /** {@link StoreLane.append} to a lane, by default the first. */
  append(rows: Buffer, { lane = 0, ...options }: AppendOptions & { lane?: number }): Promise<void> {
    return (this.lanes[lane] as StoreLane).append(rows, options);
  }

  /** {@link StoreLane.storedAt} of a lane, by default the first. */
  storedAt(receivedMs: number, lane = 0): Promise<JournalSeqs[]> {
    return (this.lanes[lane] as StoreLane).storedAt(receivedMs);
  }

  #engineOf(device: string): LogEngine {
    return (this.lanes[this.laneOf(device)] as StoreLane).engine;
  }

  /** What is stored of a journal. @throws StoreError */
  watermark(device: string, journal: string): Promise<Watermark> {
    return readWatermark(this.#engineOf(device), device, journal);
  }

  /** What was told of the overlaps of a device's journals, the newest first, at most so many. @throws StoreError */
  overlaps(device: string, most: number): Promise<ToldOverlaps[]> {
    return readOverlaps(this.#engineOf(device), device, most);
  }

  /** Resolves once it is on disk. @throws StoreError */
  saveOverlaps(told: { device: string; told: ToldOverlaps; token: string }): Promise<void> {
    return saveOverlaps(this.#engineOf(told.device), told);
  }

  /** The earliest and the latest time of some lines, ms since 1970. @throws StoreError */
  timesOf(
    device: string,
    parts: readonly JournalPart[],
  ): Promise<{ fromMs: number; toMs: number } | undefined> {
    return readTimes(this.#engineOf(device), device, parts);
  }

  /**
   * What was received of some journals, among the lines of the times given; `undefined` when that is too much.
   *
   * @throws StoreError
   */
  received(
    device: string,
    journals: readonly string[],
    timesMs: readonly number[],
  ): Promise<ReceivedLine[] | undefined> {
    return readReceived(this.#engineOf(device), device, journals, timesMs);
  }

  /** Notes lines that are stored under another journal's seq. Resolves once it is on disk. @throws StoreError */
  saveRepeats(lines: {
    device: string;
    journal: string;
    repeats: readonly Repeat[];
    retentionDays: number;
    token: string;
  }): Promise<void> {
    return saveRepeats(this.#engineOf(lines.device), lines);
  }

  /** Reads lines on behalf of someone who may see those of the scope. */
  reader(scope: Scope): LogReader {
    return new LogReader({ engine: this.engine, scope, maxSeconds: this.#maxSearchSeconds });
  }

  /** One page of lines of any device, for the program itself. @throws MillraceError as {@link LogReader} does */
  search(query: SearchQuery): Promise<SearchResult> {
    return this.reader(unlimited).search(query);
  }

  /** Every device with lines, by name. Read from the projection `marks`, not from the lines. @throws StoreError */
  deviceStats(): Promise<DeviceStats[]> {
    return this.engine.query<DeviceStats>(deviceStatsSql, deviceStatsSettings);
  }

  /** What is missing of a device's journals, see {@link readGaps}; at most so many gaps. @throws StoreError */
  gaps(device: string, most: number): Promise<Gap[]> {
    return readGaps(this.#engineOf(device), device, most);
  }

  /** Lines stored, of all devices or one. @throws StoreError */
  async countLines(device?: string): Promise<number> {
    const where = device === undefined ? '' : ` WHERE device = ${string(device)}`;
    const [row] = await this.engine.query<{ n: number }>(`SELECT count() AS n FROM millrace.logs${where}`);
    return row?.n ?? 0;
  }

  /** Answers when the store does. @throws StoreError */
  async ping(): Promise<void> {
    await this.engine.query('SELECT 1 AS ok');
  }

  close(): Promise<void> {
    return this.engine.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
