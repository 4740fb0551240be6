import type { LogPage } from '@millrace/wire';
import { type DeviceGroups, type Scope, unlimited } from '../query/index.ts';
import type { ClusterEngine } from './cluster/cluster-engine.ts';
import { ShardMap } from './cluster/shard-map.ts';
import { KeptDensity } from './density.ts';
import { type DeviceStats, type DeviceStatsFilter, deviceStatsSql } from './device-stats.ts';
import type { LogEngine } from './engine.ts';
import { type Gap, readGaps } from './gaps.ts';
import { journalsSettings } from './journals.ts';
import { type AppendOptions, StoreLane } from './lane.ts';
import { byDay, byDayAndDevice, inAll, newestTold, widest } from './lane-answers.ts';
import { LogReader } from './log-reader.ts';
import type { JournalSeqs, Watermark } from './marks.ts';
import { RareSearches } from './rare-searches.ts';
import {
  type Deletion,
  deleteLines,
  dropOldestPart,
  dropPartition,
  type Partition,
  type RemovalReason,
  readDiskBytes,
  readPartitions,
} from './removal.ts';
import {
  type JournalPart,
  type ReceivedLine,
  type Repeat,
  readReceived,
  readTimes,
  saveOverlaps,
  saveRepeats,
  type ToldOverlaps,
} from './repeats.ts';
import type { SearchQuery } from './search.ts';
import { string } from './sql.ts';
import type { IndexSettings } from './text-index.ts';
import { type DayUsage, type Removal, readRemovals, readUsage, type UsageQuery } from './usage.ts';

/** What the lines take. */
export interface StoreSize {
  /** On disk. */
  bytes: number;
  rows: number;
  parts: number;
}

/** The lines of all devices. */
export class LogStore implements AsyncDisposable {
  /** Reads the lines of all devices. */
  readonly engine: LogEngine;
  /** Where lines are stored. */
  readonly lanes: readonly StoreLane[];
  readonly #map: ShardMap;
  readonly #cluster: ClusterEngine | undefined;
  readonly #maxSearchSeconds: number;
  readonly #settings: IndexSettings;
  readonly #density: KeptDensity;
  readonly #rare = new RareSearches();

  /** @param options.shards of a cluster, with their other replicas, and which of them has a device's lines; else there is one */
  constructor(options: {
    engine: LogEngine;
    shards?: readonly LogEngine[];
    replicas?: readonly (readonly LogEngine[])[];
    map?: ShardMap;
    cluster?: ClusterEngine;
    maxSearchSeconds?: number;
    settings?: IndexSettings;
  }) {
    const { engine, shards = [engine], replicas = [], map = new ShardMap([1]) } = options;
    this.engine = engine;
    this.#settings = options.settings ?? { insert: {}, read: {}, find: {}, small: {}, anywhere: {} };
    this.#density = new KeptDensity(engine);
    this.lanes = shards.map(
      (shard, i) => new StoreLane({ engine: shard, replicas: replicas[i], settings: this.#settings.insert }),
    );
    this.#map = map;
    this.#cluster = options.cluster;
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

  /** Asks the lanes that may know something of a device: its own first, and those with what other lanes should have. */
  async #eachOf<T, R>(device: string, ask: (lane: StoreLane) => Promise<T>, join: (answers: T[]) => R) {
    const lanes = new Set([this.laneOf(device), ...(this.#cluster?.misplaced ?? [])]);
    return join(await Promise.all([...lanes].map((lane) => ask(this.lanes[lane] as StoreLane))));
  }

  /** What two processes must agree on, that each sends a device's lines to the same shard. @throws StoreError */
  async division(): Promise<string> {
    return (await this.#cluster?.division()) ?? '';
  }

  /** Call it when nobody stores any more by another {@link division}. @throws StoreError */
  async divisionChanged(): Promise<void> {
    await this.#cluster?.findMisplaced();
  }

  /** Asks or changes each lane for itself: what concerns parts on disk. */
  async #eachLane<T, R>(ask: (engine: LogEngine) => Promise<T>, join: (answers: T[]) => R): Promise<R> {
    return join(await Promise.all(this.lanes.map(({ engine }) => ask(engine))));
  }

  /** What is stored of a journal. @throws StoreError */
  watermark(device: string, journal: string): Promise<Watermark> {
    return this.#eachOf(device, (lane) => lane.watermark(device, journal), inAll);
  }

  /** What was told of the overlaps of a device's journals, the newest first. @throws StoreError */
  overlaps(device: string): Promise<ToldOverlaps[]> {
    return this.#eachOf(device, (lane) => lane.overlaps(device), newestTold);
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
    return this.#eachOf(device, ({ engine }) => readTimes(engine, device, parts), widest);
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
    return this.#eachOf(
      device,
      ({ engine }) => readReceived(engine, device, journals, timesMs),
      (answers) => (answers.includes(undefined) ? undefined : answers.flatMap((lines) => lines ?? [])),
    );
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

  /** Reads lines on behalf of someone who may see those of the scope, until the signal says that nobody waits. */
  reader(scope: Scope, groups?: DeviceGroups, signal?: AbortSignal): LogReader {
    return new LogReader({
      engine: this.engine,
      scope,
      groups,
      maxSeconds: this.#maxSearchSeconds,
      signal,
      settings: this.#settings,
      density: () => this.#density.get(),
      rare: this.#rare,
    });
  }

  /** One page of lines of any device, for the program itself. @throws MillraceError as {@link LogReader} does */
  search(query: SearchQuery): Promise<LogPage> {
    return this.reader(unlimited).search(query);
  }

  /** The devices with lines, by name. Read from the projection `day_marks`, not from the lines. @throws StoreError */
  deviceStats(filter?: DeviceStatsFilter): Promise<DeviceStats[]> {
    return this.engine.query<DeviceStats>(deviceStatsSql(filter), journalsSettings);
  }

  /** What is missing of a device's journals, see {@link readGaps}; at most so many gaps. @throws StoreError */
  gaps(device: string, most: number): Promise<Gap[]> {
    const isWhole = this.#cluster !== undefined && this.#cluster.misplaced.size > 0;
    return readGaps(isWhole ? this.engine : this.#engineOf(device), device, most);
  }

  /** Partitions with lines, the oldest day first. @throws StoreError */
  partitions(): Promise<Partition[]> {
    return this.#eachLane(readPartitions, (partitions) => byDay(partitions));
  }

  /** Bytes on disk of everything that is stored. @throws StoreError */
  diskBytes(): Promise<number> {
    return this.#eachLane(readDiskBytes, (bytes) => bytes.reduce((sum, of) => sum + of, 0));
  }

  /** Removes a partition; what it was stays known. @throws StoreError */
  dropPartition(partition: Partition, why: RemovalReason): Promise<void> {
    return this.#eachLane(
      (engine) => dropPartition(engine, partition, why),
      () => undefined,
    );
  }

  /** Removes about the oldest lines of a partition. Returns their bytes on disk. @throws StoreError */
  dropOldestPart(partition: Partition): Promise<number> {
    return this.#eachLane(
      (engine) => dropOldestPart(engine, partition),
      (bytes) => bytes.reduce((sum, of) => sum + of, 0),
    );
  }

  /** Deletes lines of a device; that they came stays known. @throws StoreError */
  deleteLines(deletion: Deletion): Promise<{ lines: number; bytes: number }> {
    return this.#eachOf(
      deletion.device,
      ({ engine }) => deleteLines(engine, deletion),
      (gone) => ({
        lines: gone.reduce((sum, { lines }) => sum + lines, 0),
        bytes: gone.reduce((sum, { bytes }) => sum + bytes, 0),
      }),
    );
  }

  /** What arrived, by device and day, whether it is still stored or not. @throws StoreError */
  usage(query: UsageQuery): Promise<DayUsage[]> {
    const join = (usage: DayUsage[][]) => byDayAndDevice(usage, query.limit);
    const { device } = query;
    if (device !== undefined) return this.#eachOf(device, ({ engine }) => readUsage(engine, query), join);
    return this.#eachLane((engine) => readUsage(engine, query), join);
  }

  /** The last removals, the newest first. @throws StoreError */
  removals(most: number): Promise<Removal[]> {
    return readRemovals(this.engine, most);
  }

  /** Lines stored, of all devices or one. @throws StoreError */
  async countLines(device?: string): Promise<number> {
    const where = device === undefined ? '' : ` WHERE device = ${string(device)}`;
    const [row] = await this.engine.query<{ n: number }>(`SELECT count() AS n FROM millrace.logs${where}`);
    return row?.n ?? 0;
  }

  /** Copies everything into a folder below the `backupDir` of an embedded engine. @throws StoreError */
  backUp(folder: string): Promise<void> {
    return this.engine.command(`BACKUP DATABASE millrace TO File(${string(folder)})`);
  }

  /** What the lines take. @throws StoreError */
  async size(): Promise<StoreSize> {
    const size: StoreSize = { bytes: 0, rows: 0, parts: 0 };
    for (const { engine } of this.lanes) {
      const [row] = await engine.query<StoreSize>(
        `SELECT sum(bytes_on_disk) AS bytes, sum(rows) AS rows, count() AS parts FROM system.parts WHERE active AND database = 'millrace' AND table = 'logs'`,
      );
      size.bytes += row?.bytes ?? 0;
      size.rows += row?.rows ?? 0;
      size.parts += row?.parts ?? 0;
    }
    return size;
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
