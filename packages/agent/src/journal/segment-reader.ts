import type { JournalDisk } from './disk.ts';
import { contentLines, memberAt, memberContent, nextMagic, withoutExtra } from './member.ts';
import { keepMemberBytes, lastSeq, linePosition, type Segment } from './segment.ts';
import { StoredBatch } from './stored-batch.ts';

const windowBytes = 512 * 1024;

/**
 * Reads batches forward through the segments, keeping its place between calls. Damaged members are passed
 * over; whoever asked sees the jump in the seqs.
 */
export class SegmentReader {
  readonly #disk: JournalDisk;
  readonly #segments: () => readonly Segment[];
  #segment: Segment | undefined;
  #offset = 0;
  /** Position of the last line passed, so that a call with another one seeks. */
  #passed = -1;
  #window: Buffer = Buffer.alloc(0);
  #windowOffset = 0;

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
    this.#window = Buffer.alloc(0);
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
    this.#offset = 0;
    this.#window = Buffer.alloc(0);
    this.#windowOffset = 0;
  }

  #nextIn(segment: Segment, position: number): StoredBatch | undefined {
    while (this.#offset < segment.bytes) {
      let at = this.#offset - this.#windowOffset;
      let found = at >= 0 && at < this.#window.length ? memberAt(this.#window, at) : 'short';
      if (found === 'short') {
        this.#load(segment);
        at = 0;
        found = memberAt(this.#window, 0);
      }
      if (!found || found === 'short') {
        this.#offset += nextMagic(this.#window, at + 1) - at;
        continue;
      }
      this.#offset += found.bytes.length;
      const { header } = found;
      const last = linePosition(segment.epoch, lastSeq(header));
      if (header.count === 0 || last <= position) continue;
      const content = memberContent(found.bytes);
      if (!content) continue;
      const lines = contentLines(content);
      const member = lines.length >= keepMemberBytes ? withoutExtra(found.bytes) : undefined;
      return new StoredBatch({ header, clock: header.clock, epoch: segment.epoch, lines, member });
    }
    return undefined;
  }

  #load(segment: Segment): void {
    const length = Math.min(windowBytes, segment.bytes - this.#offset);
    try {
      this.#window = this.#disk.read(segment.name, this.#offset, length);
    } catch {
      // Dropped, taken away by someone, or on a disk that fails: the seqs tell what is missing. What follows, or is
      // in memory, must not wait for it.
      this.#window = Buffer.alloc(0);
      this.#offset = segment.bytes;
    }
    this.#windowOffset = this.#offset;
  }
}
