import type { Overlap } from '@millrace/wire';
import { ClockHistory } from '../clock/history.ts';
import type { Json } from '../logging/types.ts';
import { examine, type WalkedSegment } from './damage.ts';
import type { JournalDisk } from './disk.ts';
import { type FoundMember, memberAt, memberContent, walkMembers } from './member.ts';
import { lastSeq, linePosition, type Segment } from './segment.ts';
import { thinnedName } from './thinning.ts';

/** What recovery found in a journal's folder. */
export interface Recovered {
  segments: Segment[];
  /** The journal to go on with, or `undefined` when a new one must be started. */
  current: { journal: string; created: number; epoch: number; nextSeq: number } | undefined;
  /** What the lines of the journal to go on with, or of the new one, may repeat. */
  overlaps: Overlap[];
  /** Epoch number for a journal that is started now. */
  nextEpoch: number;
  nextSegmentNumber: number;
  positions: Map<string, Json>;
  /** Line position through which each backend's far end has confirmed. */
  cursors: Map<string, number>;
  /** The clocks of this boot and of earlier ones. */
  clocks: ClockHistory;
  /** Bytes of a torn or damaged tail that were cut off. */
  truncatedBytes: number;
  /** Something else that positions are read from is damaged. */
  isDamaged: boolean;
  /** Files that held nothing readable and were removed. */
  removed: string[];
}

const namePattern = /^(\d{10})\.log\.gz$/;
// A first member's header lies within this many bytes.
const headBytes = 128 * 1024;
const smallHeadBytes = 8 * 1024;

/** Names of the segments in a journal's folder, oldest first. */
export function segmentNames(disk: JournalDisk): string[] {
  return disk
    .list()
    .filter((name) => namePattern.test(name))
    .sort();
}

export function segmentName(number: number): string {
  return `${String(number).padStart(10, '0')}.log.gz`;
}

/**
 * Reads the state of a journal back. Of all but the newest segment only the first header is read. The newest is
 * walked and checked whole: a tail that is torn or damaged was never confirmed as durable, so nothing of it was
 * sent, and the sources read those lines again: it is cut off. Damage further in is left for readers to count, but
 * it has taken positions with it, so sources read again what they may have read before.
 *
 * In either case the caller must start a new journal id, which names what it may repeat: should the cut bytes have
 * been durable after all (a card that lies about syncing), their seqs must not be given to other lines.
 */
export function recover(disk: JournalDisk): Recovered {
  const found: Recovered = {
    segments: [],
    current: undefined,
    overlaps: [],
    nextEpoch: 0,
    nextSegmentNumber: 1,
    positions: new Map(),
    cursors: new Map(),
    clocks: new ClockHistory(),
    truncatedBytes: 0,
    isDamaged: false,
    removed: [],
  };
  removeLeftovers(disk);
  const names = segmentNames(disk);
  const newest = names.at(-1);
  if (newest) found.nextSegmentNumber = Number(namePattern.exec(newest)?.[1]) + 1;
  const tail = readTail(disk, names, found);
  readHeads(disk, names, tail, found);
  restore(tail, found);
  return found;
}

/** A crash while a segment was being thinned left the half of the new one. */
function removeLeftovers(disk: JournalDisk): void {
  for (const name of disk.list()) {
    if (name.endsWith(thinnedName('')) && namePattern.test(name.slice(0, -thinnedName('').length))) {
      attempt(() => disk.remove(name));
    }
  }
}

interface Tail {
  /** Members of the newest readable segment, preceded by older segments' when its snapshot is incomplete. */
  members: FoundMember[];
}

/** Walks segments from the newest back until one holds a whole snapshot. Cuts the newest one's tail. */
function readTail(disk: JournalDisk, names: string[], found: Recovered): Tail {
  const segments: WalkedSegment[] = [];
  let newestName: string | undefined;
  for (const name of [...names].reverse()) {
    const bytes = disk.readAll(name);
    let walked = walkMembers(bytes).members;
    if (newestName === undefined) {
      while (walked.length > 0 && !memberContent((walked.at(-1) as FoundMember).bytes)) {
        walked = walked.slice(0, -1);
      }
      const last = walked.at(-1);
      const end = last ? last.offset + last.bytes.length : 0;
      found.truncatedBytes += bytes.length - end;
      if (end === 0) {
        attempt(() => disk.remove(name));
        found.removed.push(name);
        segments.unshift({ bytes, members: [] });
        continue;
      }
      if (end < bytes.length) attempt(() => disk.truncate(name, end));
      newestName = name;
    }
    segments.unshift({ bytes, members: walked });
    if (hasWholeSnapshot(walked)) break;
  }
  Object.assign(found, examine(segments));
  return { members: segments.flatMap((segment) => segment.members) };
}

function hasWholeSnapshot(members: readonly FoundMember[]): boolean {
  let end = 0;
  for (const { header, offset, bytes } of members) {
    if (offset > end || !header.snapshot) return false;
    if (header.snapshot === 'last') return true;
    end = offset + bytes.length;
  }
  return false;
}

/** On a read-only disk a bad tail stays; it is passed over again the next time. */
function attempt(change: () => void): void {
  try {
    change();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EROFS' && code !== 'EACCES' && code !== 'EPERM') throw error;
  }
}

/** Builds the list of segments from their first headers. */
function readHeads(disk: JournalDisk, names: string[], tail: Tail, found: Recovered): void {
  let epoch = -1;
  let journal: string | undefined;
  /** By journal the seq through which a later one knew of its lines. */
  const known = new Map<string, number>();
  for (const name of names) {
    if (found.removed.includes(name)) continue;
    const first = firstMember(disk, name);
    // Without one readable header its lines cannot be placed; readers see the gap in the seqs.
    if (!first) continue;
    const number = Number(namePattern.exec(name)?.[1]);
    // A journal's first segment begins with its first line, also when that cannot be read any more.
    const opens = first.header.journal !== journal && (journal !== undefined || number === 1);
    if (first.header.journal !== journal) epoch++;
    journal = first.header.journal;
    for (const [other, from] of first.header.overlaps ?? []) {
      known.set(other, Math.max(known.get(other) ?? 0, from - 1));
    }
    found.segments.push({
      name,
      number,
      bytes: disk.size(name),
      epoch,
      journal,
      first: linePosition(epoch, opens && first.offset > 0 ? 1 : first.header.first),
      last: 0,
      openedMs: first.header.sealed,
      clock: first.header.clock,
    });
  }
  found.segments.forEach((segment, i) => {
    const next = found.segments[i + 1];
    if (next?.epoch === segment.epoch) segment.last = next.first - 1;
    else {
      const end = walkMembers(disk.readAll(segment.name)).members.at(-1);
      const legible = end ? linePosition(segment.epoch, lastSeq(end.header)) : segment.first - 1;
      // Its end may have become illegible since its successor began.
      segment.last = Math.max(legible, linePosition(segment.epoch, known.get(segment.journal) ?? 0));
    }
  });
  found.nextEpoch = epoch + 1;
  const newest = found.segments.at(-1);
  const last = tail.members.at(-1);
  if (newest && last && !found.isDamaged) {
    const { journal: id, created } = last.header;
    found.current = { journal: id, created, epoch: newest.epoch, nextSeq: lastSeq(last.header) + 1 };
  }
}

function firstMember(disk: JournalDisk, name: string): FoundMember | undefined {
  // There may be many thinned segments, and small ones have it all within little.
  const found = memberAt(disk.read(name, 0, smallHeadBytes), 0);
  if (found && found !== 'short') return found;
  return walkMembers(disk.read(name, 0, headBytes)).members[0];
}

/** Plays the members' changes of positions, cursors and clocks in order. */
function restore(tail: Tail, found: Recovered): void {
  const epochs = new Map(found.segments.map((segment) => [segment.journal, segment.epoch]));
  for (const { header } of tail.members) {
    for (const [key, value] of Object.entries(header.positions ?? {})) {
      if (value === null) found.positions.delete(key);
      else found.positions.set(key, value);
    }
    for (const [name, through] of Object.entries(header.cursors ?? {})) {
      const epoch = epochs.get(through[0]);
      // A journal that is no longer here: everything that is left lies behind it.
      found.cursors.set(name, epoch === undefined ? 0 : linePosition(epoch, through[1]));
    }
    for (const [boot, offset] of Object.entries(header.clocks ?? {})) found.clocks.restore(boot, offset);
    if (header.clock) found.clocks.note(header.clock, header.sealed);
  }
}
