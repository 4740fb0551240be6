import type { JournalDisk } from './disk.ts';
import { MemberWindow } from './member-window.ts';
import { lastSeq, linePosition, type Segment } from './segment.ts';
import type { StoredBatch } from './stored-batch.ts';
import { batchOf } from './stored-member.ts';

/**
 * Reads batches forward through the segments, keeping its place between calls. Damaged members are passed
 * over; whoever asked sees the jump in the seqs. Where a segment was dropped or replaced meanwhile, it goes on by
 * position.
 */
export class SegmentReader {
  readonly #disk: JournalDisk;
  readonly #segments: () => readonly Segment[];
  #segment: Segment | undefined;
  #members: MemberWindow | undefined;
  /** Position of the last line passed, so that a call with another one seeks. */
  #passed = -1;

  constructor(disk: JournalDisk, segments: () => readonly Segment[]) {
    this.#disk = disk;
    this.#segments = segments;
  }

  /** The first durable batch that ends behind `position`, or `undefined` at the end. */
  after(position: number): StoredBatch | undefined {
    if (position !== this.#passed || !this.#segment) this.#seek(position);
    for (;;) {
      const segment = this.#segment;
      if (!segment) return undefined;
      if (!this.#segments().includes(segment)) {
        this.#seek(position);
        continue;
      }
      const batch = this.#nextIn(segment, position);
      if (batch) {
        this.#passed = batch.last;
        return batch;
      }
      const next = this.#segments().find((other) => other.number > segment.number);
      if (!next) return undefined;
      this.#open(next);
    }
  }

  /** Lets go of the buffer and the place. */
  reset(): void {
    this.#segment = undefined;
    this.#members = undefined;
    this.#passed = -1;
  }

  #seek(position: number): void {
    const segment = this.#segments().find((candidate) => candidate.last > position);
    if (segment) this.#open(segment);
    else this.#segment = undefined;
    this.#passed = position;
  }

  #open(segment: Segment): void {
    this.#segment = segment;
    this.#members = new MemberWindow(this.#disk, segment);
  }

  #nextIn(segment: Segment, position: number): StoredBatch | undefined {
    try {
      for (let found = this.#members?.next(); found; found = this.#members?.next()) {
        const { header } = found;
        if (header.count === 0 || linePosition(segment.epoch, lastSeq(header)) <= position) continue;
        const batch = batchOf(found, segment.epoch);
        if (batch) return batch;
      }
    } catch {
      // Dropped, taken away by someone, or on a disk that fails: the seqs tell what is missing. What follows, or is
      // in memory, must not wait for it.
    }
    return undefined;
  }
}
