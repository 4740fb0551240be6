import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import { type Partition, type RemovalReason, StoreError } from '../store/index.ts';
import type { Ballast } from './ballast.ts';
import { dayMs, startOfDay } from './days.ts';

/** What the sweeper needs of the store; a LogStore has it. */
export interface SweptStore {
  partitions(): Promise<Partition[]>;
  diskBytes(): Promise<number>;
  dropPartition(partition: Partition, why: RemovalReason): Promise<void>;
  dropOldestPart(partition: Partition): Promise<number>;
}

export interface SweeperOptions {
  store: SweptStore;
  log: Logger;
  /** Past so many bytes on disk the oldest day goes; without it there is no bound. */
  maxBytes?: number;
  /** Room on the store's disk, for when it is full. */
  ballast?: Ballast;
  /** Between two rounds. Default: a minute, which is how far a burst may reach past the cap. */
  intervalMs?: number;
  now?: () => number;
}

export interface SweeperStats {
  /** Bytes on disk at the last round. */
  diskBytes: number;
  /** Partitions, or parts of one, that were dropped since the start, and their lines. */
  dropped: Record<'expired' | 'disk-cap', { count: number; lines: number }>;
  /** The cap is passed, and there is nothing left that may be dropped. */
  overCap: boolean;
}

/** Lines stamped at the end of a day are on their way to the store for a while. */
const settlingMs = 3_600_000;
/** Rounds of dropping for the disk's sake at one time: each asks the store how large it is now. */
const maxDrops = 1000;

/**
 * Removes what need not be kept any more, partition by partition:
 *
 * - *expired*: the last of its lines arrived longer ago than its retention;
 * - *disk cap*: the store is larger than it may be, and this is the oldest day. Of the day that is being written, and
 *   only when there is no other left, the oldest parts go.
 *
 * ClickHouse's own TTL could do the first, but would not note what went: devices may send it again.
 */
export class Sweeper implements AsyncDisposable {
  readonly #options: SweeperOptions;
  readonly #now: () => number;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #closed = false;
  #complained = false;
  readonly stats: SweeperStats = {
    diskBytes: 0,
    dropped: { expired: { count: 0, lines: 0 }, 'disk-cap': { count: 0, lines: 0 } },
    overCap: false,
  };

  constructor(options: SweeperOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  get maxBytes(): number | undefined {
    return this.#options.maxBytes;
  }

  /** Sweeps now, and from then on regularly. */
  start(): void {
    void this.#round();
  }

  async #round(): Promise<void> {
    try {
      await this.sweep();
      await this.#options.ballast?.take();
      this.#complained = false;
    } catch (error) {
      const { log } = this.#options;
      const said = { reason: errorText(error) };
      if (this.#complained) log.debug(said, 'log store: still cannot be swept');
      else log.warn(said, 'log store: what has expired could not be removed; it is tried again');
      this.#complained = true;
    }
    if (!this.#closed) this.#timer = setTimeout(() => void this.#round(), this.#options.intervalMs ?? 60_000);
  }

  /** One round. Whoever asks while one is running waits for that one. @throws StoreError */
  sweep(): Promise<void> {
    this.#running ??= this.#sweepInRoom().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #sweepInRoom(): Promise<void> {
    const { ballast, log } = this.#options;
    try {
      await this.#sweep();
    } catch (error) {
      if (!ballast || !(error instanceof StoreError) || !error.diskFull) throw error;
      log.warn({ reason: error.detail }, 'log store: the disk is full; what may be removed goes now');
      await ballast.release();
      await this.#sweep();
    }
  }

  async #sweep(): Promise<void> {
    const { store } = this.#options;
    const now = this.#now();
    for (const partition of await store.partitions()) {
      if (this.#closed) return;
      if (endsAt(partition) > now) continue;
      await this.#drop(partition, 'expired');
    }
    await this.#makeRoom(now);
  }

  async #makeRoom(now: number): Promise<void> {
    const { store, maxBytes = Number.POSITIVE_INFINITY, log } = this.#options;
    for (let drops = 0; drops < maxDrops && !this.#closed; drops++) {
      this.stats.diskBytes = await store.diskBytes();
      const [oldest] = this.stats.diskBytes > maxBytes ? await store.partitions() : [];
      if (!oldest) {
        this.stats.overCap = false;
        return;
      }
      if (startOfDay(oldest.day) + dayMs + settlingMs <= now) await this.#drop(oldest, 'disk-cap');
      else if (!(await this.#dropPart())) return;
    }
    log.debug('log store: more to remove than fits into one round');
  }

  async #dropPart(): Promise<boolean> {
    const { store, log, maxBytes } = this.#options;
    for (const partition of await store.partitions()) {
      const bytes = await store.dropOldestPart(partition);
      if (bytes === 0) continue;
      const { day, retentionDays } = partition;
      log.warn(
        { day, retentionDays, bytes },
        'log store: over its cap; lines of the day that is being written went',
      );
      this.stats.dropped['disk-cap'].count++;
      return true;
    }
    if (!this.stats.overCap) {
      log.error(
        { bytes: this.stats.diskBytes, maxBytes },
        'log store: over its cap, and nothing is left that can be removed',
      );
    }
    this.stats.overCap = true;
    return false;
  }

  async #drop(partition: Partition, why: 'expired' | 'disk-cap'): Promise<void> {
    const { store, log } = this.#options;
    await store.dropPartition(partition, why);
    const { day, retentionDays, lines, bytesOnDisk: bytes } = partition;
    if (why === 'expired') log.info({ day, retentionDays, lines, bytes }, 'log store: lines expired');
    else log.warn({ day, retentionDays, lines, bytes }, 'log store: over its cap; the oldest lines went');
    this.stats.dropped[why].count++;
    this.stats.dropped[why].lines += lines;
  }

  /** Ends behind the drop that is running. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#running?.catch(() => undefined);
  }
}

/** When all of its lines have been kept for as long as they should, ms since 1970. */
export function endsAt({ day, retentionDays }: { day: string; retentionDays: number }): number {
  return startOfDay(day) + (1 + retentionDays) * dayMs;
}
