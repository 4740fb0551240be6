import { MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import { type Scope, unlimited } from '../query/index.ts';
import { EmbeddedEngine } from './embedded-engine.ts';
import type { LogEngine } from './engine.ts';
import { type Gap, readGaps } from './gaps.ts';
import { LogReader, type SearchResult } from './log-reader.ts';
import { type JournalSeqs, readStoredAt, readWatermark, type Watermark } from './marks.ts';
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
import { rowSettings } from './row-format.ts';
import type { SearchQuery } from './search.ts';
import { ServerEngine } from './server-engine.ts';
import { string } from './sql.ts';
import { type IndexSettings, indexSettings, setTextIndex } from './text-index.ts';

export interface OpenStoreOptions {
  /** Folder of the embedded ClickHouse. Either this or `url`. */
  dataDir?: string;
  /** Address of a ClickHouse server, with credentials. */
  url?: string;
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
    const settings = await indexSettings(engine);
    return new LogStore({ engine, maxSearchSeconds: options.maxSearchSeconds, settings });
  } catch (error) {
    await engine.close();
    throw error;
  }
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
  readonly engine: LogEngine;
  readonly #maxSearchSeconds: number;
  readonly #settings: IndexSettings;

  constructor(options: { engine: LogEngine; maxSearchSeconds?: number; settings?: IndexSettings }) {
    this.engine = options.engine;
    this.#settings = options.settings ?? { insert: {}, read: {} };
    this.#maxSearchSeconds = options.maxSearchSeconds ?? 30;
  }

  /**
   * Stores rows in the format of `row-format.ts`. Resolves once they are on disk.
   *
   * @throws StoreError. By then nothing of it is still running; {@link storedAt} shows what was stored.
   */
  append(rows: Buffer, options: { rows: number; token: string }): Promise<void> {
    return this.engine.insertRows(rows, {
      table: 'millrace.log_ingest',
      format: 'CSV',
      settings: { ...rowSettings, ...this.#settings.insert },
      ...options,
    });
  }

  /** The lines stored under one time of arrival. @throws StoreError */
  storedAt(receivedMs: number): Promise<JournalSeqs[]> {
    return readStoredAt(this.engine, receivedMs);
  }

  /** What is stored of a journal. @throws StoreError */
  watermark(device: string, journal: string): Promise<Watermark> {
    return readWatermark(this.engine, device, journal);
  }

  /** What was told of the overlaps of a device's journals, the newest first, at most so many. @throws StoreError */
  overlaps(device: string, most: number): Promise<ToldOverlaps[]> {
    return readOverlaps(this.engine, device, most);
  }

  /** Resolves once it is on disk. @throws StoreError */
  saveOverlaps(told: { device: string; told: ToldOverlaps; token: string }): Promise<void> {
    return saveOverlaps(this.engine, told);
  }

  /** The earliest and the latest time of some lines, ms since 1970. @throws StoreError */
  timesOf(
    device: string,
    parts: readonly JournalPart[],
  ): Promise<{ fromMs: number; toMs: number } | undefined> {
    return readTimes(this.engine, device, parts);
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
    return readReceived(this.engine, device, journals, timesMs);
  }

  /** Notes lines that are stored under another journal's seq. Resolves once it is on disk. @throws StoreError */
  saveRepeats(lines: {
    device: string;
    journal: string;
    repeats: readonly Repeat[];
    retentionDays: number;
    token: string;
  }): Promise<void> {
    return saveRepeats(this.engine, lines);
  }

  /** Reads lines on behalf of someone who may see those of the scope. */
  reader(scope: Scope): LogReader {
    return new LogReader({
      engine: this.engine,
      scope,
      maxSeconds: this.#maxSearchSeconds,
      settings: this.#settings.read,
    });
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
    return readGaps(this.engine, device, most);
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
