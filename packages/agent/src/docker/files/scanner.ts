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

/** How far behind an entry the next one of its stream is looked for. */
const maxAhead = 8;

/** An entry at `[start, end)` of the bytes that are scanned, or what is none. */
interface Place {
  readonly entry: EntryReader;
  start: number;
  end: number;
  isEntry: boolean;
}

/** Reads the entries of a buffer one after the other, and those that follow in advance where they are asked for. */
class Window {
  private readonly places: Place[] = Array.from({ length: maxAhead + 1 }, () => ({
    entry: new EntryReader(),
    ...{ start: 0, end: 0, isEntry: false },
  }));
  private bytes: Buffer = Buffer.alloc(0);
  private isUtf8 = false;
  private first = 0;
  private count = 0;
  /** Behind the last that was read. */
  private end = 0;

  begin(bytes: Buffer): void {
    this.bytes = bytes;
    this.isUtf8 = isUtf8(bytes.subarray(0, bytes.lastIndexOf(newline) + 1));
    this.first = this.count = this.end = 0;
  }

  /** The entry that is next; `undefined` when no whole one is left. */
  current(): Place | undefined {
    return this.at(0);
  }

  passOn(): void {
    this.first = this.first === maxAhead ? 0 : this.first + 1;
    this.count--;
  }

  /** The next entry of the same stream as the current one, if there is one near. */
  nextOf({ entry }: Place): EntryReader | undefined {
    for (let i = 1; i <= maxAhead; i++) {
      const place = this.at(i);
      if (!place?.isEntry) return undefined;
      if (place.entry.isStdErr === entry.isStdErr) return place.entry;
    }
    return undefined;
  }

  private at(i: number): Place | undefined {
    const index = this.first + i;
    const place = this.places[index > maxAhead ? index - maxAhead - 1 : index] as Place;
    if (i < this.count) return place;
    place.start = this.end;
    place.end = this.bytes.indexOf(newline, place.start);
    if (place.end < 0) return undefined;
    place.isEntry = place.entry.read(this.bytes, place.start, place.end, this.isUtf8);
    this.end = place.end + 1;
    this.count++;
    return place;
  }
}

/** Finds the entries in what was read of a log file and hands them to the cursor. */
export class EntryScanner {
  private readonly window = new Window();
  private readonly entry = new EntryReader();
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
    const { cursor, window } = this;
    window.begin(bytes);
    let done = 0;
    for (let entries = 1; ; entries++) {
      const place = window.current();
      if (!place) break;
      const { entry, start, end, isEntry } = place;
      if (lookAside && entries % entriesPerLook === 0) lookAside();
      const from = offset + start;
      const to = offset + end + 1;
      if (from === 0) file.head = headOf(bytes, to);
      const next = isEntry && cursor.asksForNext(entry, bytes) ? window.nextOf(place) : undefined;
      const taken = isEntry
        ? cursor.take(entry, bytes, file, from, to, next)
        : this.damaged(bytes, start, end, file, offset);
      if (taken) {
        await cursor.added();
        await taken;
      }
      done = end + 1;
      window.passOn();
    }
    const full = cursor.added();
    if (full) await full;
    if (done === bytes.length || !(isWhole || (isFull && done === 0))) return done;
    const taken = this.damaged(bytes, done, bytes.length, file, offset);
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
