import type { StoredBatch } from './stored-batch.ts';

export interface RecentLimits {
  maxLines: number;
  maxBytes: number;
  maxAgeMs: number;
}

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

  constructor(limits: RecentLimits, durable: number) {
    this.#limits = limits;
    this.durable = durable;
  }

  push(batch: StoredBatch, nowMs: number): void {
    this.#batches.push(batch);
    this.#addedMs.set(batch, nowMs);
    this.#lines += batch.header.count;
    this.#bytes += batch.lines.length;
  }

  /** Drops what exceeds the limits, oldest first. `nowMs` is a monotonic clock: setting the clock ages nothing. */
  evict(nowMs: number): void {
    const { maxLines, maxBytes, maxAgeMs } = this.#limits;
    let drop = 0;
    for (const batch of this.#batches) {
      if (batch.last > this.durable) break;
      const over =
        this.#lines - batch.header.count >= maxLines ||
        this.#bytes > maxBytes ||
        nowMs - (this.#addedMs.get(batch) ?? nowMs) > maxAgeMs;
      if (!over) break;
      this.#lines -= batch.header.count;
      this.#bytes -= batch.lines.length;
      drop++;
    }
    if (drop > 0) this.#batches = this.#batches.slice(drop);
  }

  /** The first durable batch that ends behind `position`, if this memory reaches back that far. */
  after(position: number): StoredBatch | undefined {
    const oldest = this.#batches[0];
    if (!oldest || position >= this.durable || position < oldest.first - 1) return undefined;
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
}
