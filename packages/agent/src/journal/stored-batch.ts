import { type BatchHeader, countOf, type LevelCounts, noLevels, sumLevels } from '@millrace/wire';
import type { DeviceClock } from '../clock/device-clock.ts';
import type { ClockStamp } from '../clock/history.ts';
import { markLines, shiftLines } from '../clock/retime.ts';
import { EncodedBatch, lineOffset, ranksOf } from '../logging/feed-batch.ts';
import type { Run } from '../logging/types.ts';
import { linePosition, splitPosition } from './segment.ts';

interface StoredBatchOptions {
  /** `first` is the seq of the first line that is there; without lines, of the first that was shed. */
  header: BatchHeader;
  /** The clock that stamped its lines; absent when they need no correction any more. */
  clock?: ClockStamp;
  epoch: number;
  lines: Buffer;
  /** Where its lines stand, when some were shed. */
  runs?: readonly Run[];
  /** Lines that were shed behind the last one that is there. */
  tail?: LevelCounts;
  /** The batch as gzip for the wire, when it lies ready. */
  member?: Buffer;
}

/** Neighbouring lines that were shed. Positions, both included. */
export interface Gap {
  first: number;
  last: number;
  levels: LevelCounts;
}

/** A batch of the journal, in memory, with its place in the order of all lines. Some or all of its lines may be shed. */
export class StoredBatch extends EncodedBatch {
  readonly epoch: number;
  readonly clock: ClockStamp | undefined;
  /** Positions of its first and last line, those that were shed included. */
  readonly first: number;
  readonly last: number;
  readonly tail: LevelCounts;

  constructor({ header, clock, epoch, lines, runs, tail = noLevels(), member }: StoredBatchOptions) {
    const { journal, first, count, levels, sealed, overlaps } = header;
    super({ header: { journal, first, count, levels, sealed, overlaps }, lines, runs, member });
    this.epoch = epoch;
    this.clock = clock;
    this.tail = tail;
    const [head] = this.runs;
    this.first = linePosition(epoch, head ? gapStart(head) : first);
    this.last = linePosition(epoch, this.lastSeq + countOf(tail));
  }

  /** Lines that were shed, by level. */
  get shed(): LevelCounts {
    return this.runs.reduce((sum, run) => sumLevels(sum, run.shed), this.tail);
  }

  /** Where lines were shed, in order. */
  gaps(): Gap[] {
    const out: Gap[] = [];
    for (const run of [...this.runs, { first: this.lastSeq + 1 + countOf(this.tail), shed: this.tail }]) {
      if (countOf(run.shed) === 0) continue;
      const first = linePosition(this.epoch, gapStart(run));
      out.push({ first, last: linePosition(this.epoch, run.first - 1), levels: run.shed });
    }
    return out;
  }

  /**
   * The batch with its lines' true times, as far as they are known by now; itself when nothing was wrong. A line
   * grows by a few digits, or by a mark, next to text that every line repeats: compressed, the batch still keeps
   * within `limits.maxPublishBytes`.
   */
  corrected(by: DeviceClock): StoredBatch {
    const { clock, epoch, header, runs, tail } = this;
    const deltaMs = by.correction(clock, header.sealed);
    if (!clock || deltaMs === 0) return this;
    const { lines } = this;
    const span = { stamp: clock, sealedMs: header.sealed };
    const rest = { epoch, runs, tail };
    if (deltaMs === undefined) return new StoredBatch({ ...rest, header, lines: markLines(lines, span) });
    const sealed = header.sealed + deltaMs;
    return new StoredBatch({
      ...rest,
      header: { ...header, sealed },
      lines: shiftLines(lines, span, deltaMs),
    });
  }

  /** The part of this batch behind position `after` and up to position `through`; itself when that is all of it. */
  part(after: number, through: number): StoredBatch {
    if (after < this.first && through >= this.last) return this;
    const from = splitPosition(Math.max(after + 1, this.first)).seq;
    const to = splitPosition(Math.min(through, this.last)).seq;
    const runs: Run[] = [];
    let tail = noLevels();
    let skipped = 0;
    let count = 0;
    for (const run of this.runs) {
      const shed = overlap(run.shed, gapStart(run), { from, to });
      const begin = Math.max(run.first, from);
      const end = Math.min(run.first + run.count, to + 1);
      if (end > begin) {
        runs.push({ first: begin, count: end - begin, shed });
        if (count === 0) skipped += begin - run.first;
        count += end - begin;
      } else {
        tail = sumLevels(tail, shed);
        if (count === 0) skipped += run.count;
      }
    }
    tail = sumLevels(tail, overlap(this.tail, this.lastSeq + 1, { from, to }));
    const start = lineOffset(this.lines, 0, skipped);
    const lines = this.lines.subarray(start, lineOffset(this.lines, start, count));
    const levels = noLevels();
    for (const rank of ranksOf(lines)) levels[rank] = (levels[rank] ?? 0) + 1;
    return this.#with({ levels, lines, runs, tail }, from);
  }

  /** The batch without its lines of the levels at these positions of a header's counts. */
  without(ranks: readonly number[]): StoredBatch {
    const seqs = this.seqs();
    const gaps = new Map(this.runs.map(({ first, shed }) => [first, shed]));
    const runs: Run[] = [];
    const kept: Buffer[] = [];
    const levels = noLevels();
    let shed = noLevels();
    let offset = 0;
    ranksOf(this.lines).forEach((rank, index) => {
      const seq = seqs[index] as number;
      const end = lineOffset(this.lines, offset, 1);
      shed = sumLevels(shed, gaps.get(seq) ?? noLevels());
      if (ranks.includes(rank)) shed[rank] = (shed[rank] ?? 0) + 1;
      else {
        levels[rank] = (levels[rank] ?? 0) + 1;
        const run = runs.at(-1);
        if (run && countOf(shed) === 0 && run.first + run.count === seq) run.count++;
        else runs.push({ first: seq, count: 1, shed });
        shed = noLevels();
        kept.push(this.lines.subarray(offset, end));
      }
      offset = end;
    });
    // A copy, so that the memory of what was shed is free.
    return this.#with({ levels, lines: Buffer.concat(kept), runs, tail: sumLevels(shed, this.tail) });
  }

  /** Some of this batch's lines. `from`: where they begin, for when there are none. */
  #with(
    rest: { levels: LevelCounts; lines: Buffer; runs: readonly Run[]; tail: LevelCounts },
    from = splitPosition(this.first).seq,
  ): StoredBatch {
    const { clock, epoch } = this;
    const { levels, ...content } = rest;
    const first = rest.runs[0]?.first ?? from;
    const header = { ...this.header, first, count: countOf(levels), levels };
    return new StoredBatch({ header, clock, epoch, ...content });
  }

  /** Consecutive batches of one journal as one. */
  static merge(batches: readonly StoredBatch[]): StoredBatch {
    const [head] = batches;
    if (!head) throw new RangeError('nothing to merge');
    if (batches.length === 1) return head;
    let levels = noLevels();
    let tail = noLevels();
    const runs: Run[] = [];
    for (const batch of batches) {
      levels = sumLevels(levels, batch.header.levels);
      for (const { first, count, shed } of batch.runs) {
        const before = sumLevels(tail, shed);
        tail = noLevels();
        const last = runs.at(-1);
        if (last && countOf(before) === 0) last.count += count;
        else runs.push({ first, count, shed: before });
      }
      tail = sumLevels(tail, batch.tail);
    }
    const { sealed } = (batches.at(-1) as StoredBatch).header;
    const first = runs[0]?.first ?? head.header.first;
    return new StoredBatch({
      header: { ...head.header, first, count: countOf(levels), levels, sealed },
      clock: head.clock,
      epoch: head.epoch,
      lines: Buffer.concat(batches.map((batch) => batch.lines)),
      runs,
      tail,
    });
  }
}

/** Seq of the first line that was shed right before a run; of its own first when none was. */
function gapStart({ first, shed }: Pick<Run, 'first' | 'shed'>): number {
  return first - countOf(shed);
}

/**
 * What of a gap lies within some seqs. In which order the levels lay is not known any more; where a gap is cut, which
 * happens to a reader that had confirmed lines of it, the least severe count first.
 */
function overlap(
  levels: LevelCounts,
  first: number,
  { from, to }: { from: number; to: number },
): LevelCounts {
  let left = Math.min(to, first + countOf(levels) - 1) - Math.max(from, first) + 1;
  return levels.map((count) => {
    const taken = Math.max(0, Math.min(count, left));
    left -= taken;
    return taken;
  }) as LevelCounts;
}
