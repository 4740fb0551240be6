import type { LevelCounts } from '@millrace/wire';
import type { ClockStamp } from '../clock/history.ts';
import type { MemberHeader } from './member.ts';

/** One file of the journal, as the index in memory knows it. */
export interface Segment {
  readonly name: string;
  readonly number: number;
  /** Bytes that are durable. */
  bytes: number;
  readonly epoch: number;
  readonly journal: string;
  /** Position of the first line that it can hold. */
  readonly first: number;
  /** Position of its last line. */
  last: number;
  /** When its first member was sealed, by the clock of that time. */
  readonly openedMs: number;
  readonly clock: ClockStamp | undefined;
  /** Lines by level that it holds, and those that were shed from it; absent until somebody has counted. */
  levels?: LevelCounts;
  shed?: LevelCounts;
  /** Passes of shedding that it has been through, see disk-budget.ts. */
  thinned?: number;
}

/**
 * A folder may hold segments of several journal ids, one after the other (a new id is started after damage).
 * Each id is an *epoch*, numbered in order from the oldest kept. A *line position* orders all lines of the
 * folder: epoch and seq in one number. It is never stored; on disk stand journal id and seq.
 */
const seqsPerEpoch = 2 ** 40;

export function linePosition(epoch: number, seq: number): number {
  return epoch * seqsPerEpoch + seq;
}

export function splitPosition(position: number): { epoch: number; seq: number } {
  const epoch = Math.floor(position / seqsPerEpoch);
  return { epoch, seq: position - epoch * seqsPerEpoch };
}

/** Seq of the last line that is written once this member is. */
export function lastSeq(header: Pick<MemberHeader, 'first' | 'count'>): number {
  return header.first + header.count - 1;
}

/** Below this a batch is likely to be merged with its neighbours, and its member is of no use on the wire. */
export const keepMemberBytes = 8 * 1024;
