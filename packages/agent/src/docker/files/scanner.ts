import { isUtf8 } from 'node:buffer';
import type { FileCursor } from './cursor.ts';
import { EntryReader } from './entry.ts';
import type { LogFile } from './log-file.ts';
import { headOf } from './point.ts';

export interface ScanOptions {
  /** Nothing will follow these bytes: what has no newline is all that there will ever be of it. */
  isWhole: boolean;
  /** The buffer holds no more: an entry that does not end in it is none of the engine's. */
  isFull: boolean;
  /** Called every {@link entriesPerLook} entries: in the time that a buffer takes, small files come and go. */
  lookAside?: (() => void) | undefined;
}

const entriesPerLook = 256;

const newline = 0x0a;
const entryStart = Buffer.from('{"log":"');

/** Finds the entries in what was read of a log file and hands them to the cursor. */
export class EntryScanner {
  private entry = new EntryReader();
  /** For the entry behind it. */
  private ahead = new EntryReader();
  private readonly cursor: FileCursor;

  constructor(cursor: FileCursor) {
    this.cursor = cursor;
  }

  /** `bytes` lie at `offset` of `file` and begin with an entry. Returns how many of them are done with. */
  async scan(
    bytes: Buffer,
    file: LogFile,
    offset: number,
    { isWhole, isFull, lookAside }: ScanOptions,
  ): Promise<number> {
    const { cursor } = this;
    const isText = isUtf8(bytes.subarray(0, bytes.lastIndexOf(newline) + 1));
    let start = 0;
    let end = bytes.indexOf(newline);
    let isEntry = end >= 0 && this.entry.read(bytes, start, end, isText);
    for (let entries = 1; end >= 0; entries++) {
      const { entry, ahead } = this;
      const nextEnd = bytes.indexOf(newline, end + 1);
      const asks = isEntry && nextEnd >= 0 && cursor.asksForNext(entry, bytes);
      const isNextEntry = asks && ahead.read(bytes, end + 1, nextEnd, isText);
      if (lookAside && entries % entriesPerLook === 0) lookAside();
      const from = offset + start;
      const to = offset + end + 1;
      if (from === 0) file.head = headOf(bytes, to);
      const taken = isEntry
        ? cursor.take(entry, bytes, file, from, to, isNextEntry ? ahead : undefined)
        : this.damaged(bytes, start, end, file, offset);
      if (taken) {
        await cursor.added();
        await taken;
      }
      start = end + 1;
      end = nextEnd;
      if (asks) {
        this.entry = ahead;
        this.ahead = entry;
        isEntry = isNextEntry;
      } else isEntry = end >= 0 && entry.read(bytes, start, end, isText);
    }
    const full = cursor.added();
    if (full) await full;
    if (start === bytes.length || !(isWhole || (isFull && start === 0))) return start;
    const taken = this.damaged(bytes, start, bytes.length, file, offset);
    if (taken) await taken;
    return bytes.length;
  }

  /**
   * What a power cut or a full disk left of an entry; its beginning may be followed by a whole one, and there may be
   * zeros where blocks were never written.
   */
  private damaged(
    bytes: Buffer,
    start: number,
    end: number,
    file: LogFile,
    offset: number,
  ): void | Promise<void> {
    const { cursor, entry } = this;
    for (
      let at = bytes.lastIndexOf(entryStart, end);
      at > start;
      at = bytes.lastIndexOf(entryStart, at - 1)
    ) {
      if (!entry.read(bytes, at, end, isUtf8(bytes.subarray(at, end)))) continue;
      const before = this.fragment(bytes, start, at, file, offset);
      const then = () => cursor.take(entry, bytes, file, offset + at, offset + end + 1);
      return before ? before.then(then) : then();
    }
    return this.fragment(bytes, start, end, file, offset);
  }

  private fragment(
    bytes: Buffer,
    start: number,
    end: number,
    file: LogFile,
    offset: number,
  ): void | Promise<void> {
    const text = bytes.toString('utf8', start, end).replaceAll('\0', '');
    if (text.trim() === '') return undefined;
    return this.cursor.takeDamaged(text, file, offset + end);
  }
}
