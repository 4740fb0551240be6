import { limits } from '@millrace/wire';
import type { JournalDisk } from './disk.ts';
import { linePosition, type Segment, splitPosition } from './segment.ts';
import { SegmentReader } from './segment-reader.ts';
import { StoredBatch } from './stored-batch.ts';

/** What a reader sees of its journal. Positions are line positions. */
export interface BatchSource {
  oldest(): number;
  durable(): number;
  recentAfter(position: number): StoredBatch | undefined;
  segments(): readonly Segment[];
  readonly disk: JournalDisk | undefined;
  lost(count: number, first: number, last: number, reason: string): void;
}

/** What a cursor sees besides. */
export interface CursorSource extends BatchSource {
  newest(): number;
  positionOf(journal: string, seq: number): number | undefined;
  /** Resolves when more has become durable, the journal closes, or the signal aborts. */
  wait(signal: AbortSignal | undefined): Promise<void>;
  readonly closed: AbortSignal;
  acked(): void;
}

/** One step forward. Without a batch when everything up to `position` is gone. */
export interface Step {
  batch: StoredBatch | undefined;
  /** Position of the last line passed. */
  position: number;
}

// A batch at least this large is handed out alone, as it lies.
const mergeBelowBytes = 32 * 1024;

/** Reads durable batches forward, out of memory or off the disk, and records what should be there and is not. */
export class BatchReader {
  readonly #source: BatchSource;
  readonly #segments: SegmentReader | undefined;
  /** Lines recorded as lost. */
  lost = 0;

  constructor(source: BatchSource) {
    this.#source = source;
    if (source.disk) this.#segments = new SegmentReader(source.disk, () => source.segments());
  }

  /**
   * The lines behind `position`, small batches merged; nothing that begins behind `through`, which must be the end
   * of a batch. `undefined` while there is nothing durable.
   */
  step(position: number, through = Number.POSITIVE_INFINITY): Step | undefined {
    const first = this.#after(position);
    if (!first) return undefined;
    if (first.first > position + 1) this.#noteGap(position, Math.min(first.first, through + 1));
    if (first.first > through) return { batch: undefined, position: through };
    const batch = this.#merged(first.first <= position ? first.after(position) : first, through);
    return { batch, position: batch.last };
  }

  #after(position: number): StoredBatch | undefined {
    if (position >= this.#source.durable()) return undefined;
    const recent = this.#source.recentAfter(position);
    if (recent) {
      // At the journal's end nothing is read from disk for a long time: let its buffer go.
      this.#segments?.reset();
      return recent;
    }
    return this.#segments?.after(position);
  }

  /** Lines that should lie between `position` and `edge`, and do not, are recorded as lost. */
  #noteGap(position: number, edge: number): void {
    const read = splitPosition(position);
    const found = splitPosition(edge);
    const firstLost = read.epoch === found.epoch ? read.seq + 1 : 1;
    if (firstLost >= found.seq) return;
    const count = found.seq - firstLost;
    this.lost += count;
    const dropped = linePosition(found.epoch, found.seq) <= this.#source.oldest();
    this.#source.lost(count, firstLost, found.seq - 1, dropped ? 'journal full' : 'journal damaged');
  }

  /** A small batch is joined by the small ones that follow it, as far as they are there already. */
  #merged(first: StoredBatch, through: number): StoredBatch {
    if (first.lines.length >= mergeBelowBytes) return first;
    const group = [first];
    let bytes = first.lines.length;
    let count = first.header.count;
    for (;;) {
      const tail = group.at(-1) as StoredBatch;
      if (tail.last >= through) break;
      const next = this.#after(tail.last);
      if (!next || next.epoch !== first.epoch || next.first !== tail.last + 1) break;
      bytes += next.lines.length;
      count += next.header.count;
      if (bytes > limits.maxBatchBytes - 256 || count > limits.maxBatchLines) break;
      group.push(next);
    }
    return StoredBatch.merge(group);
  }
}
