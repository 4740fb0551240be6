import { type LevelCounts, noLevels, type Overlap, sumLevels } from '@millrace/wire';
import type { ClockStamp } from '../clock/history.ts';
import type { Json } from '../logging/types.ts';
import type { AppendFile } from './disk.ts';
import { DiskBudget, type DiskBudgetOptions } from './disk-budget.ts';
import { encodeMember, type MemberHeader, maxHeaderJsonBytes } from './member.ts';
import type { JournalOptions } from './options.ts';
import { type Recovered, segmentName } from './recovery.ts';
import { linePosition, type Segment } from './segment.ts';

interface SegmentWriterOptions extends Omit<DiskBudgetOptions, 'segments'> {
  found: Recovered;
}

/** What the snapshot at the start of a segment repeats. */
export interface SegmentState {
  journal: string;
  created: number;
  epoch: number;
  /** Seq of the first line that will follow. */
  nextSeq: number;
  positions: ReadonlyMap<string, Json>;
  cursors: Record<string, [string, number]>;
  overlaps: readonly Overlap[];
  /** The present time, by the clock that is named. */
  nowMs: number;
  clock: ClockStamp;
  clocks: Record<string, number>;
}

const nothing = Buffer.alloc(0);

/**
 * Appends members to the newest segment and starts new ones; its budget sheds what is too much. A write that fails
 * half-way is cut back, so that the same members can be written again.
 */
export class SegmentWriter {
  readonly #options: SegmentWriterOptions;
  readonly segments: Segment[];
  #file: AppendFile | undefined;
  /** The segment written to; `undefined` until the first write after a start with a new journal id. */
  #active: Segment | undefined;
  #nextNumber: number;
  #writtenBytes = 0;
  readonly budget: DiskBudget;

  constructor(options: SegmentWriterOptions) {
    this.#options = options;
    this.segments = options.found.segments;
    this.budget = new DiskBudget({ ...options, segments: this.segments });
    this.#nextNumber = options.found.nextSegmentNumber;
    if (options.found.current) this.#active = this.segments.at(-1);
  }

  /** Appends and, if asked, syncs. `state` is asked for when a segment must be started. */
  async write(members: readonly Buffer[], sync: boolean, state: () => SegmentState): Promise<void> {
    if (!this.#active || this.#active.bytes >= this.#options.maxFileBytes) await this.#start(state());
    const segment = this.#active as Segment;
    const bytes = members.length === 1 ? (members[0] as Buffer) : Buffer.concat(members);
    await this.budget.room(bytes.length);
    await this.#append(segment, bytes, sync);
    this.budget.keep();
  }

  /** Nothing more goes into the newest segment: the next write starts another. */
  async leaveSegment(): Promise<void> {
    this.#active = undefined;
    await this.#closeFile().catch((error) => {
      this.#options.log?.debug({ error }, 'journal: a file did not close');
    });
  }

  /** Tells that the newest segment now ends with line `seq`, and what was added where that is known. */
  extend(seq: number, levels?: LevelCounts): void {
    const segment = this.#active;
    if (!segment) return;
    segment.last = linePosition(segment.epoch, seq);
    segment.levels = levels && segment.levels && sumLevels(segment.levels, levels);
  }

  /** Bytes written to disk. */
  get writtenBytes(): number {
    return this.#writtenBytes + this.budget.writtenBytes;
  }

  async close(): Promise<void> {
    void this.budget.close();
    await this.#closeFile();
  }

  async #closeFile(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  async #append(segment: Segment, bytes: Buffer, sync: boolean): Promise<void> {
    try {
      this.#file ??= await this.#options.disk.openAppend(segment.name);
      await this.#file.append(bytes);
      if (sync) await this.#file.sync();
    } catch (error) {
      await this.#cutBack(segment);
      throw error;
    }
    segment.bytes += bytes.length;
    this.#writtenBytes += bytes.length;
  }

  async #cutBack(segment: Segment): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    try {
      await file?.close();
      this.#options.disk.truncate(segment.name, segment.bytes);
    } catch (error) {
      // The file is gone or cannot be changed: leave it, and let the next attempt start another.
      if (this.#active === segment) this.#active = undefined;
      this.#options.log?.debug({ error }, 'journal: a failed write could not be cut back');
    }
  }

  async #start(state: SegmentState): Promise<void> {
    await this.#closeFile();
    const number = this.#nextNumber++;
    const segment: Segment = {
      name: segmentName(number),
      number,
      bytes: 0,
      epoch: state.epoch,
      journal: state.journal,
      first: linePosition(state.epoch, state.nextSeq),
      last: linePosition(state.epoch, state.nextSeq - 1),
      openedMs: state.nowMs,
      clock: state.clock,
      levels: noLevels(),
    };
    try {
      await this.#append(segment, Buffer.concat(snapshotMembers(state)), false);
    } catch (error) {
      this.#options.disk.remove(segment.name);
      throw error;
    }
    this.segments.push(segment);
    this.#active = segment;
  }
}

/** The writer of a folder that was recovered, by the journal's options. */
export function openWriter(
  options: JournalOptions & Pick<DiskBudgetOptions, 'disk' | 'clock' | 'confirmed'>,
  found: Recovered,
): SegmentWriter {
  const { disk, clock, confirmed, log } = options;
  if (found.isDamaged) {
    log?.warn(
      { truncatedBytes: found.truncatedBytes, removed: found.removed },
      'journal: torn or damaged; the lines behind its last good positions are read again from their sources',
    );
  }
  return new SegmentWriter({
    disk,
    found,
    maxFileBytes: options.maxFileBytes ?? 5 * 1024 * 1024,
    maxBytes: options.maxBytes ?? 200 * 1024 * 1024,
    maxAgeMs: options.maxAgeMs ?? 30 * 24 * 3_600_000,
    clock,
    confirmed,
    log,
  });
}

/** All positions and cursors, in as many members as their size needs. */
function snapshotMembers(state: SegmentState): Buffer[] {
  const members = positionMembers(state, state.positions);
  members.forEach((header, i) => {
    header.snapshot = i === members.length - 1 ? 'last' : 'more';
    if (i === 0) Object.assign(header, { cursors: state.cursors, clocks: state.clocks });
  });
  return members.map((header) => encodeMember(header, nothing));
}

/** Headers without lines that hold these positions, in as many as their size needs; at least one. */
export function positionMembers(
  { journal, created, nextSeq, nowMs, clock, overlaps }: SegmentState,
  positions: ReadonlyMap<string, Json>,
): MemberHeader[] {
  const groups: Record<string, Json>[] = [{}];
  let bytes = 0;
  for (const [key, value] of positions) {
    const cost = Buffer.byteLength(key) + Buffer.byteLength(JSON.stringify(value)) + 8;
    if (bytes + cost > maxHeaderJsonBytes - 16 * 1024) {
      groups.push({});
      bytes = 0;
    }
    (groups.at(-1) as Record<string, Json>)[key] = value;
    bytes += cost;
  }
  return groups.map((group) => ({
    journal,
    first: nextSeq,
    count: 0,
    levels: noLevels(),
    sealed: nowMs,
    ...(overlaps.length > 0 && { overlaps }),
    created,
    clock,
    positions: group,
  }));
}
