import { errorText, type Overlap } from '@millrace/wire';
import type { Logger } from 'pino';
import type { SealedBatch } from './group-commit.ts';
import { encodeMember } from './member.ts';
import type { Positions } from './positions.ts';
import type { RecentBatches } from './recent-batches.ts';
import { linePosition, splitPosition } from './segment.ts';
import { positionMembers, type SegmentState, type SegmentWriter } from './segment-writer.ts';
import { StoredBatch } from './stored-batch.ts';
import { memberOf } from './stored-member.ts';

interface DiskOutageParts {
  writer: SegmentWriter | undefined;
  recent: RecentBatches;
  positions: Positions;
  log: Logger | undefined;
}

const nothing = Buffer.alloc(0);

/**
 * What a failing disk does to the journal. When it fails for longer than the grace, the journal goes on in memory under
 * a new id, so that lines still reach their readers. What is on disk stays as it was; positions do not move there. Once
 * the disk can be written again, what memory still has goes into a segment of the new id, and the positions behind it.
 * A process that dies in an outage loses what was only in memory: after its restart the sources are read again from the
 * old positions.
 *
 *   begin ── lines collect in memory ──► retained ── could be written ──► end
 *                                          └── not yet: asked again ──┘
 */
export class DiskOutage {
  readonly #parts: DiskOutageParts;
  /** Epochs that began in an outage. */
  readonly #epochs = new Set<number>();

  constructor(parts: DiskOutageParts) {
    this.#parts = parts;
  }

  /** True for a journal id that began in an outage. */
  began(epoch: number): boolean {
    return this.#epochs.has(epoch);
  }

  /**
   * The disk failed with `error`, and `batches`, all that is sealed and not durable, begin the journal `journal`.
   * Returns the seq that follows on them.
   */
  begin(
    { journal, epoch, overlaps }: { journal: string; epoch: number; overlaps: readonly Overlap[] },
    batches: readonly SealedBatch[],
    error: unknown,
  ): number {
    const { writer, recent, positions, log } = this.#parts;
    void writer?.leaveSegment();
    this.#epochs.add(epoch);
    let next = 1;
    recent.renumber((batch) => {
      const header = { ...batch.header, journal, first: next, overlaps };
      next += header.count;
      return new StoredBatch({ header, clock: batch.clock, epoch, lines: batch.lines });
    });
    for (const { header } of batches) positions.keep(Object.entries(header.positions ?? {}));
    recent.durable = linePosition(epoch, next - 1);
    log?.error(
      { error: errorText(error) },
      'journal: the disk cannot be written; lines are kept in memory only until it can',
    );
    return next;
  }

  /**
   * What is only in memory, as members of a new segment: the lines, and last the positions behind them. `state` is
   * that of the journal's end.
   */
  retained(state: SegmentState): { members: Buffer[]; nextSeq: number } {
    const { recent, positions } = this.#parts;
    const { created, epoch } = state;
    const batches = recent.all().filter((batch) => batch.epoch === epoch);
    return {
      members: [
        ...batches.map((batch) => memberOf(batch, created)),
        ...positionMembers(state, positions.unsaved).map((header) => encodeMember(header, nothing)),
      ],
      nextSeq: batches[0] ? splitPosition(batches[0].first).seq : state.nextSeq,
    };
  }

  /** What was retained is on disk. */
  end(): void {
    const { writer, recent, positions, log } = this.#parts;
    positions.settle();
    writer?.extend(splitPosition(recent.durable).seq);
    recent.evict(performance.now(), Number.NEGATIVE_INFINITY);
    log?.info('journal: the disk can be written again');
  }
}
