import { type Level, type LevelCounts, levelRank, noLevels } from '@millrace/wire';
import type { JournalOptions } from './options.ts';
import { StoredBatch } from './stored-batch.ts';

export interface RecentLimits {
  maxLines: number;
  maxBytes: number;
  maxAgeMs: number;
  /** Most bytes of lines that are nowhere else and not confirmed by every reader. */
  maxOnlyCopyBytes: number;
}

/** Lines that are kept as they are, for queries and watchers; what is older waits for readers only. */
const maxUnpackedBytes = 512 * 1024;

/** The limits that the journal's options name. */
export function recentLimits(options: JournalOptions): RecentLimits {
  return {
    maxLines: options.recentLines ?? 1000,
    maxAgeMs: options.recentAgeMs ?? 3_600_000,
    maxBytes: 4 * 1024 * 1024,
    maxOnlyCopyBytes: options.maxOutageBytes ?? 16 * 1024 * 1024,
  };
}

/** Shed in this order, each time the oldest first. */
const shedInOrder: readonly (readonly Level[])[] = [['debug'], ['info'], ['warn', 'error']];

/**
 * The newest batches, kept in memory for readers at the journal's end and for local queries. Batches that are
 * not durable yet are never evicted, since they exist nowhere else.
 */
export class RecentBatches {
  readonly #limits: RecentLimits;
  #batches: StoredBatch[] = [];
  readonly #addedMs = new WeakMap<StoredBatch, number>();
  #lines = 0;
  #bytes = 0;
  /** Position of the last durable line. */
  durable: number;
  /** Lines shed while memory was the only place they had, by level. */
  readonly shed: LevelCounts = noLevels();

  constructor(limits: RecentLimits, durable: number) {
    this.#limits = limits;
    this.durable = durable;
  }

  push(batch: StoredBatch, nowMs: number): void {
    this.#batches.push(batch);
    this.#addedMs.set(batch, nowMs);
    this.#lines += batch.header.count;
    this.#bytes += batch.linesBytes;
  }

  /**
   * Drops what exceeds the limits, and what every reader has confirmed but for the newest, oldest first. `nowMs` is a
   * monotonic clock: setting the clock ages nothing.
   */
  evict(nowMs: number, confirmed: number): void {
    const done = this.#pack(confirmed);
    this.#evictThrough(this.durable, nowMs, done);
  }

  /**
   * The same while there is no disk: what lies behind `confirmed` is kept, unless its own limit is exceeded. Then
   * lines go by their level first, and by age only when that is not enough.
   */
  evictOnlyCopies(nowMs: number, confirmed: number): void {
    this.#evictThrough(Math.min(confirmed, this.durable), nowMs);
    const { maxOnlyCopyBytes } = this.#limits;
    if (this.#bytes <= maxOnlyCopyBytes) return;
    // Some more than necessary, or every line would bring the next pass.
    const target = maxOnlyCopyBytes * 0.9;
    for (const levels of shedInOrder) this.#shed(levels, target, confirmed);
  }

  /** The first durable batch that ends behind `position`, if this memory reaches back that far. */
  after(position: number): StoredBatch | undefined {
    const oldest = this.#batches[0];
    if (!oldest || position < oldest.first - 1) return undefined;
    return this.firstAfter(position);
  }

  /** The first durable batch here that ends behind `position`, whatever may lie in between. */
  firstAfter(position: number): StoredBatch | undefined {
    if (position >= this.durable) return undefined;
    let low = 0;
    let high = this.#batches.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#batches[middle] as StoredBatch).last > position) high = middle;
      else low = middle + 1;
    }
    const batch = this.#batches[low];
    return batch && batch.last <= this.durable ? batch : undefined;
  }

  /** All that is held, oldest first. */
  all(): readonly StoredBatch[] {
    return this.#batches;
  }

  /** Replaces the batches that are not durable yet. */
  renumber(renumbered: (batch: StoredBatch) => StoredBatch): void {
    this.#batches = this.#batches.map((batch) =>
      batch.last > this.durable ? this.#asOldAs(batch, renumbered(batch)) : batch,
    );
  }

  /** @param done so many of the oldest are not needed any more, whatever the limits allow */
  #evictThrough(through: number, nowMs: number, done = 0): void {
    const { maxLines, maxBytes, maxAgeMs } = this.#limits;
    let held = this.#batches.reduce((sum, batch) => sum + batch.heldBytes, 0);
    let drop = 0;
    for (const batch of this.#batches) {
      if (batch.last > through) break;
      const over =
        drop < done ||
        batch.header.count === 0 ||
        this.#lines - batch.header.count >= maxLines ||
        held > maxBytes ||
        nowMs - (this.#addedMs.get(batch) ?? nowMs) > maxAgeMs;
      if (!over) break;
      this.#lines -= batch.header.count;
      this.#bytes -= batch.linesBytes;
      held -= batch.heldBytes;
      drop++;
    }
    if (drop > 0) this.#batches = this.#batches.slice(drop);
  }

  /**
   * Of all but the newest durable batches only what goes onto the wire is kept, where it lies ready. Returns how many
   * of the oldest no reader will ask for.
   */
  #pack(confirmed: number): number {
    let unpacked = 0;
    for (let i = this.#batches.length - 1; i >= 0; i--) {
      const batch = this.#batches[i] as StoredBatch;
      if (batch.last > this.durable) continue;
      unpacked += batch.linesBytes;
      if (unpacked <= maxUnpackedBytes) continue;
      if (batch.last <= confirmed) return i + 1;
      batch.pack();
    }
    return 0;
  }

  #shed(levels: readonly Level[], targetBytes: number, confirmed: number): void {
    const ranks = levels.map(levelRank);
    for (let i = 0; i < this.#batches.length && this.#bytes > targetBytes; i++) {
      const batch = this.#batches[i] as StoredBatch;
      if (batch.last > this.durable) break;
      if (batch.last <= confirmed || !ranks.some((rank) => (batch.header.levels[rank] ?? 0) > 0)) continue;
      const rest = this.#asOldAs(batch, batch.without(ranks));
      this.#batches[i] = rest;
      this.#lines += rest.header.count - batch.header.count;
      this.#bytes += rest.linesBytes - batch.linesBytes;
      batch.header.levels.forEach((count, rank) => {
        this.shed[rank] = (this.shed[rank] ?? 0) + count - (rest.header.levels[rank] ?? 0);
      });
    }
    this.#joinEmpty();
  }

  /** Of neighbours that hold no lines any more one is enough. */
  #joinEmpty(): void {
    const joined: StoredBatch[] = [];
    for (const batch of this.#batches) {
      const before = joined.at(-1);
      const isMore =
        batch.header.count === 0 && before?.header.count === 0 && before.last + 1 === batch.first;
      if (before && isMore)
        joined[joined.length - 1] = this.#asOldAs(before, StoredBatch.merge([before, batch]));
      else joined.push(batch);
    }
    this.#batches = joined;
  }

  #asOldAs(batch: StoredBatch, successor: StoredBatch): StoredBatch {
    const addedMs = this.#addedMs.get(batch);
    if (addedMs !== undefined) this.#addedMs.set(successor, addedMs);
    return successor;
  }
}
