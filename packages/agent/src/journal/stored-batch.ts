import type { BatchHeader, Level, LogMessage } from '@millrace/wire';
import type { DeviceClock } from '../clock/device-clock.ts';
import type { ClockStamp } from '../clock/history.ts';
import { markLines, shiftLines } from '../clock/retime.ts';
import { countLevels, EncodedBatch } from '../logging/feed-batch.ts';
import { noLevels } from './member.ts';
import { lastSeq, linePosition } from './segment.ts';

interface StoredBatchOptions {
  header: BatchHeader;
  /** The clock that stamped its lines; absent when they need no correction any more. */
  clock?: ClockStamp;
  epoch: number;
  lines: Buffer;
  /** The batch as gzip for the wire, when it lies ready. */
  member?: Buffer;
}

/** A batch of the journal, in memory, with its place in the order of all lines. */
export class StoredBatch extends EncodedBatch {
  readonly epoch: number;
  readonly clock: ClockStamp | undefined;
  /** Positions of its first and last line. */
  readonly first: number;
  readonly last: number;

  constructor({ header, clock, epoch, lines, member }: StoredBatchOptions) {
    const { journal, first, count, levels, sealed, overlaps } = header;
    super({ header: { journal, first, count, levels, sealed, overlaps }, lines, member });
    this.epoch = epoch;
    this.clock = clock;
    this.first = linePosition(epoch, first);
    this.last = linePosition(epoch, lastSeq(header));
  }

  /**
   * The batch with its lines' true times, as far as they are known by now; itself when nothing was wrong. A line
   * grows by a few digits, or by a mark, next to text that every line repeats: compressed, the batch still keeps
   * within `limits.maxPublishBytes`.
   */
  corrected(by: DeviceClock): StoredBatch {
    const { clock, epoch, header } = this;
    const deltaMs = by.correction(clock, header.sealed);
    if (!clock || deltaMs === 0) return this;
    const { lines } = this;
    const span = { stamp: clock, sealedMs: header.sealed };
    if (deltaMs === undefined) return new StoredBatch({ header, epoch, lines: markLines(lines, span) });
    const sealed = header.sealed + deltaMs;
    return new StoredBatch({ header: { ...header, sealed }, epoch, lines: shiftLines(lines, span, deltaMs) });
  }

  /** The part of this batch behind `position`, which lies within it. */
  after(position: number): StoredBatch {
    const skip = position - this.first + 1;
    if (skip <= 0) return this;
    let offset = 0;
    for (let i = 0; i < skip; i++) offset = this.lines.indexOf(10, offset) + 1;
    const header: BatchHeader = {
      ...this.header,
      first: this.header.first + skip,
      count: this.header.count - skip,
      levels: countLevels(this.messages().slice(skip)),
    };
    return new StoredBatch({ header, epoch: this.epoch, lines: this.lines.subarray(offset) });
  }

  /** The batch without its lines of a level: as many batches as there are runs of other lines left. */
  without(level: Level): StoredBatch[] {
    const runs: StoredBatch[] = [];
    let start = 0;
    let run: LogMessage[] = [];
    let offset = 0;
    let from = 0;
    const end = (index: number) => {
      if (run.length > 0) {
        runs.push(
          new StoredBatch({
            header: {
              ...this.header,
              first: this.header.first + start,
              count: run.length,
              levels: countLevels(run),
            },
            clock: this.clock,
            epoch: this.epoch,
            // A copy, so that the memory of what was shed is free.
            lines: Buffer.from(this.lines.subarray(from, offset)),
          }),
        );
      }
      run = [];
      start = index + 1;
    };
    this.messages().forEach((line, index) => {
      const next = this.lines.indexOf(10, offset) + 1;
      if (line.level === level) {
        end(index);
        from = next;
      } else run.push(line);
      offset = next;
    });
    end(this.header.count);
    return runs;
  }

  /** Consecutive batches of one journal as one. */
  static merge(batches: readonly StoredBatch[]): StoredBatch {
    const [head] = batches;
    if (!head) throw new RangeError('nothing to merge');
    if (batches.length === 1) return head;
    const levels = noLevels();
    let count = 0;
    for (const { header } of batches) {
      count += header.count;
      header.levels.forEach((n, i) => {
        levels[i] = (levels[i] ?? 0) + n;
      });
    }
    const sealed = (batches.at(-1) as StoredBatch).header.sealed;
    return new StoredBatch({
      header: { ...head.header, count, levels, sealed },
      epoch: head.epoch,
      lines: Buffer.concat(batches.map((batch) => batch.lines)),
    });
  }
}
