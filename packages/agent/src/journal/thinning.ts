import { setImmediate as yieldToLoop } from 'node:timers/promises';
import { promisify } from 'node:util';
import { deflateRaw } from 'node:zlib';
import { type LevelCounts, limits, noLevels, sumLevels } from '@millrace/wire';
import type { AppendFile, JournalDisk } from './disk.ts';
import { type FoundMember, type MemberHeader, packMember } from './member.ts';
import { MemberWindow } from './member-window.ts';
import { lastSeq, linePosition, type Segment } from './segment.ts';
import { StoredBatch } from './stored-batch.ts';
import { batchOf, contentOf, headerOf } from './stored-member.ts';

const deflate = promisify(deflateRaw);

interface ThinningOptions {
  disk: JournalDisk;
  segment: Segment;
  /** Levels to shed, as positions in a header's counts. */
  ranks: readonly number[];
  /** Lines up to here are no loss. */
  confirmed: number;
  signal: AbortSignal;
  /** Told how many bytes were written, whatever becomes of them. */
  wrote: (bytes: number) => void;
}

interface Thinned {
  /** Bytes and lines of the segment as it is now. */
  bytes: number;
  levels: LevelCounts;
  /** Lines that were shed by this, and those of them that some reader had not confirmed. */
  shed: LevelCounts;
  lost: LevelCounts;
}

const writeBytes = 256 * 1024;
// Smaller members are joined with their neighbours, which frees more than the lines that are shed.
const joinBelowBytes = 16 * 1024;
const maxPositionChars = 16 * 1024;

/** Name of a segment while it is being rewritten. */
export function thinnedName(name: string): string {
  return `${name}.thin`;
}

/**
 * Writes a closed segment anew beside itself without its lines of some levels, syncs it, and puts it in its place. A
 * crash at any point leaves the old one or the new one, and at most a file that recovery removes. One member is in
 * memory at a time, and between two the event loop has its turn.
 *
 * @returns `undefined` when a part of it cannot be read: then it stays as it is
 * @throws what the disk throws when it is written; the segment is then as it was
 */
export async function thinSegment(options: ThinningOptions): Promise<Thinned | undefined> {
  const { disk, segment, ranks, confirmed, signal, wrote } = options;
  const temporary = thinnedName(segment.name);
  const members = new MemberWindow(disk, segment);
  let levels = noLevels();
  let shed = noLevels();
  let lost = noLevels();
  let replaced = false;
  // Of an earlier attempt something may be left, and files are opened to append.
  disk.remove(temporary);
  const output = new ThinnedFile(await disk.openAppend(temporary));
  try {
    for (let found = attempt(members); found; found = attempt(members)) {
      if (found === 'unreadable') return undefined;
      signal.throwIfAborted();
      const { header } = found;
      const isThinned = ranks.some((rank) => (header.levels[rank] ?? 0) > 0);
      if (header.snapshot || (!isThinned && found.bytes.length >= joinBelowBytes)) {
        await output.copy(found.bytes);
        levels = sumLevels(levels, header.levels);
        continue;
      }
      const batch = batchOf(found, segment.epoch);
      if (!batch) return undefined;
      const rest = isThinned ? batch.without(ranks) : batch;
      levels = sumLevels(levels, rest.header.levels);
      shed = sumLevels(shed, difference(batch, rest));
      if (isThinned && batch.last > confirmed) {
        lost = sumLevels(
          lost,
          difference(batch.part(confirmed, batch.last), rest.part(confirmed, rest.last)),
        );
      }
      await output.add(header, header.count > 0 ? rest : undefined);
      await yieldToLoop();
    }
    if (members.damagedBytes > 0) return undefined;
    await output.finish();
    signal.throwIfAborted();
    disk.rename(temporary, segment.name);
    replaced = true;
    return { bytes: output.bytes, levels, shed, lost };
  } finally {
    wrote(output.bytes);
    await output.close();
    if (!replaced) disk.remove(temporary);
  }
}

/** What cannot be read is no reason to stop thinning, as what cannot be written is. */
function attempt(members: MemberWindow): FoundMember | 'unreadable' | undefined {
  try {
    return members.next();
  } catch {
    return 'unreadable';
  }
}

function difference(batch: StoredBatch, rest: StoredBatch): LevelCounts {
  return batch.header.levels.map((n, rank) => n - (rest.header.levels[rank] ?? 0)) as LevelCounts;
}

/** Members on their way into a file, small neighbours joined. */
class ThinnedFile {
  readonly #file: AppendFile;
  #header: MemberHeader | undefined;
  #batches: StoredBatch[] = [];
  #groupBytes = 0;
  #groupLines = 0;
  #positionChars = 0;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  bytes = 0;

  constructor(file: AppendFile) {
    this.#file = file;
  }

  /** A member as it lies. */
  async copy(member: Buffer): Promise<void> {
    await this.#flushGroup();
    await this.#write(member);
  }

  async add(header: MemberHeader, batch: StoredBatch | undefined): Promise<void> {
    const pieces = batch ? fitting(batch) : [];
    // Positions and cursors hold behind the last piece.
    const { positions: _, cursors: __, ...without } = header;
    for (const piece of pieces.slice(0, -1)) await this.#join(without, piece);
    await this.#join(header, pieces.at(-1));
  }

  async finish(): Promise<void> {
    await this.#flushGroup();
    await this.#writeOut();
    await this.#file.sync();
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  async #join(header: MemberHeader, piece: StoredBatch | undefined): Promise<void> {
    const positionChars = JSON.stringify(header.positions ?? {}).length;
    if (!this.#hasRoomFor(header, positionChars, piece)) await this.#flushGroup();
    const group = this.#header;
    const positions = { ...group?.positions, ...header.positions };
    const cursors = header.cursors ?? group?.cursors;
    this.#header = {
      ...header,
      ...(Object.keys(positions).length > 0 && { positions }),
      ...(cursors && { cursors }),
    };
    this.#positionChars += positionChars;
    if (!piece) return;
    this.#batches.push(piece);
    this.#groupBytes += piece.encodedBytes;
    this.#groupLines += piece.header.count;
  }

  #hasRoomFor(header: MemberHeader, positionChars: number, piece: StoredBatch | undefined): boolean {
    const group = this.#header;
    if (!group) return true;
    const last = this.#batches.at(-1);
    return (
      group.journal === header.journal &&
      JSON.stringify(group.clock) === JSON.stringify(header.clock) &&
      (!piece || !last || last.last + 1 === piece.first) &&
      this.#positionChars + positionChars <= maxPositionChars &&
      this.#groupBytes + (piece?.encodedBytes ?? 0) <= limits.maxBatchBytes - 256 &&
      this.#groupLines + (piece?.header.count ?? 0) <= limits.maxBatchLines
    );
  }

  async #flushGroup(): Promise<void> {
    const header = this.#header;
    if (!header) return;
    const batches = this.#batches;
    this.#header = undefined;
    this.#batches = [];
    this.#groupBytes = 0;
    this.#groupLines = 0;
    this.#positionChars = 0;
    if (batches.length === 0) {
      await this.#write(packMember(header, nothing, await deflate(nothing)));
      return;
    }
    const batch = StoredBatch.merge(batches);
    const content = contentOf(batch);
    const { shed: _, ...rest } = header;
    await this.#write(packMember({ ...rest, ...headerOf(batch) }, content, await deflate(content)));
  }

  async #write(member: Buffer): Promise<void> {
    // A copy, since what it is a view of may be a whole window.
    this.#waiting.push(Buffer.from(member));
    this.#waitingBytes += member.length;
    if (this.#waitingBytes >= writeBytes) await this.#writeOut();
  }

  async #writeOut(): Promise<void> {
    if (this.#waitingBytes === 0) return;
    const bytes = Buffer.concat(this.#waiting);
    this.#waiting = [];
    this.#waitingBytes = 0;
    await this.#file.append(bytes);
    this.bytes += bytes.length;
  }
}

const nothing = Buffer.alloc(0);

/** A batch in pieces that keep within a batch's limits: the header lines of many runs may take more than was shed. */
function fitting(batch: StoredBatch): StoredBatch[] {
  if (batch.encodedBytes <= limits.maxBatchBytes - 256 || batch.last === batch.first) return [batch];
  const middle = Math.floor((batch.first + batch.last) / 2);
  return [...fitting(batch.part(-1, middle)), ...fitting(batch.part(middle, batch.last))];
}

/** Lines by level that a segment holds behind a position, and those that were shed there. Mostly headers are read. */
export async function countLines(
  disk: JournalDisk,
  segment: Segment,
  after = -1,
): Promise<{ levels: LevelCounts; shed: LevelCounts }> {
  const members = new MemberWindow(disk, segment);
  let levels = noLevels();
  let shed = noLevels();
  let walked = 0;
  for (let found = members.next(); found; found = members.next()) {
    const { header } = found;
    const first = linePosition(segment.epoch, header.first);
    const isCut = first <= after && after < linePosition(segment.epoch, lastSeq(header));
    const part = isCut ? batchOf(found, segment.epoch)?.part(after, Number.POSITIVE_INFINITY) : undefined;
    if (part || first > after) {
      levels = sumLevels(levels, part?.header.levels ?? header.levels);
      shed = sumLevels(shed, part?.shed ?? header.shed ?? noLevels());
    }
    if (++walked % 200 === 0) await yieldToLoop();
  }
  return { levels, shed };
}
