import { limits, type Overlap, parseOverlaps } from '@millrace/wire';
import type { FoundMember, MemberHeader } from './member.ts';
import { lastSeq } from './segment.ts';

/** A segment that recovery has read whole. */
export interface WalkedSegment {
  bytes: Buffer;
  /** The members that are used, in order; what lies between them, and behind the last, cannot be read. */
  members: readonly FoundMember[];
}

/** What to make of the segments that positions were read from. */
export interface DamageReport {
  /** Some of it cannot be read, and positions may have been in it. */
  isDamaged: boolean;
  /** What the lines of the journal that goes on may repeat: of the same id, or of a new one when there is damage. */
  overlaps: Overlap[];
}

/**
 * Finds the place from which on sources may be read again: behind the last line whose position is known for certain.
 * Usually that is the last line before the damage. Lines that an outage kept in memory were written without
 * positions, which follow behind them: when those are lost, it is the line before the first of these.
 *
 * Everything behind that place may have been sent, in whatever journal: also in those that began behind the damage,
 * and in those of which only damaged headers tell, whose names can mostly be read all the same.
 *
 * @param segments oldest first, from one that begins with a whole snapshot, if there is any
 */
export function examine(segments: readonly WalkedSegment[]): DamageReport {
  let last: MemberHeader | undefined;
  let uncertainFrom = 1;
  let isDamaged = false;
  const from = new Map<string, number>();
  /** What each journal named itself. */
  const told = new Map<string, readonly Overlap[]>();
  const lose = (bytes: Buffer) => {
    if (!isDamaged && last) from.set(last.journal, uncertainFrom);
    isDamaged = true;
    for (const [journal, overlaps] of legibleIn(bytes)) {
      if (!from.has(journal)) from.set(journal, 1);
      if (!told.has(journal)) told.set(journal, overlaps);
    }
  };
  for (const { bytes, members } of segments) {
    let end = 0;
    for (const { header, offset, bytes: member } of members) {
      if (offset > end) lose(bytes.subarray(end, offset));
      end = offset + member.length;
      if (isDamaged && !from.has(header.journal)) from.set(header.journal, 1);
      if (header.positions) uncertainFrom = lastSeq(header) + 1;
      else if (header.journal !== last?.journal) uncertainFrom = header.first;
      last = header;
      told.set(header.journal, header.overlaps ?? []);
    }
    // A segment begins with a snapshot: one that is empty has lost it.
    if (end < bytes.length || end === 0) lose(bytes.subarray(end));
  }
  if (!isDamaged) return { isDamaged, overlaps: [...(last?.overlaps ?? [])] };
  return { isDamaged, overlaps: withInherited([...from].reverse(), [...told.values()].reverse().flat()) };
}

/** What a journal names that begins now: its predecessors, and then what those had named. */
export function withInherited(own: readonly Overlap[], inherited: readonly Overlap[]): Overlap[] {
  const named = new Map<string, Overlap>();
  for (const overlap of [...own, ...inherited]) if (!named.has(overlap[0])) named.set(overlap[0], overlap);
  return [...named.values()].slice(0, limits.maxOverlaps);
}

/** What damaged headers still tell: their JSON lies uncompressed in the member, the journal and its overlaps first. */
function legibleIn(bytes: Buffer): Map<string, Overlap[]> {
  const header = /\{"journal":"([0-9a-z]{8,40})"(?:[^{}]*?"overlaps":(\[\[[^{}]*?\]\]))?/g;
  const found = new Map<string, Overlap[]>();
  for (const [, journal = '', overlaps] of bytes.toString('latin1').matchAll(header)) {
    if (!found.has(journal) || overlaps !== undefined) found.set(journal, readOverlaps(overlaps));
  }
  return found;
}

function readOverlaps(text = '[]'): Overlap[] {
  try {
    return parseOverlaps(JSON.parse(text));
  } catch {
    return [];
  }
}
