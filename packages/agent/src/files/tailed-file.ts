import { dirname } from 'node:path';
import { limits } from '@millrace/wire';
import type { SourcePosition } from '../logging/types.ts';
import { openToRead, type ReadHandle } from './gunzip-handle.ts';
import { isCompressed } from './patterns.ts';
import {
  type Checksum,
  checksum,
  type FilePosition,
  fileKey,
  maxHeadBytes,
  maxTailBytes,
} from './position.ts';

export interface TailedLine {
  message: string;
  /** When the file was written last, in ms since 1970: the line is not younger. */
  writtenMs: number;
  position: SourcePosition;
}

export type TakeLine = (line: TailedLine) => void | Promise<void>;

const newline = 0x0a;
const carriageReturn = 0x0d;
/** Of a line that is longer than this the rest is counted. */
const maxKeptBytes = 60 * 1024;

/** A line that does not fit into the buffer. */
interface LongLine {
  kept: Buffer;
  bytes: number;
}

/**
 * One file, read line by line. While it is open the kernel keeps it, whatever becomes of its name. A line counts once
 * it has its newline; until then it stays in the file.
 */
export class TailedFile {
  readonly path: string;
  readonly inode: bigint;
  readonly device: bigint;
  readonly key: string;
  /** Offset behind the last line read. */
  at = 0;
  /** Something else has its name now: only what is left of it is read. */
  isOld = false;
  /** Nothing is written to it any more. */
  readonly isCompressed: boolean;
  /** The first bytes that were read. */
  #begin: Buffer = Buffer.alloc(0);
  #head: Checksum = [0, 0];
  #tail: Checksum = [0, 0];
  #long: LongLine | undefined;
  #seenBytes = 0;
  readonly #handle: ReadHandle;

  private constructor(
    path: string,
    handle: ReadHandle,
    { ino, dev }: { ino: bigint; dev: bigint },
    isPacked: boolean,
  ) {
    this.path = path;
    this.inode = ino;
    this.device = dev;
    this.key = fileKey(ino, dirname(path));
    this.#handle = handle;
    this.isCompressed = isPacked;
  }

  /**
   * @param path by which it is opened
   * @param name that its position shows, where it has been renamed
   * @throws Error as `open` does
   */
  static async open(path: string, name = path): Promise<TailedFile> {
    const handle = await openToRead(path);
    try {
      const stats = await handle.stat({ bigint: true });
      return new TailedFile(name, handle, stats, isCompressed(path));
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  get place(): FilePosition {
    return { path: this.path, at: this.at, head: this.#head, tail: this.#tail };
  }

  /** {@link place}, as it is saved. */
  get position(): SourcePosition {
    const { path, at, head, tail } = this.place;
    return { key: this.key, value: { path, at, head: [...head], tail: [...tail] } };
  }

  /** Goes to a position, if this is the file that was read, or a copy of it. */
  async resume({ at, head, tail }: FilePosition): Promise<boolean> {
    if (!(await this.#has(0, head)) || !(await this.#has(at - tail[0], tail))) return false;
    this.at = at;
    this.#begin = await this.#bytes(0, head[0]);
    this.#head = head;
    this.#tail = tail;
    return true;
  }

  /** Passes over what is there. */
  async skip(): Promise<void> {
    const { size } = await this.#handle.stat();
    // The line that is being written is not passed over by half.
    for (let end = size; end > 0; end -= maxKeptBytes) {
      const start = Math.max(0, end - maxKeptBytes);
      const bytes = await this.#bytes(start, end - start);
      const last = bytes.lastIndexOf(newline);
      if (last < 0) continue;
      this.at = start + last + 1;
      break;
    }
    this.#begin = await this.#bytes(0, Math.min(this.at, maxHeadBytes));
    this.#head = checksum(this.#begin);
    const tailBytes = Math.min(this.at, maxTailBytes);
    this.#tail = checksum(await this.#bytes(this.at - tailBytes, tailBytes));
  }

  /** It was emptied: begins again. */
  restart(): void {
    this.at = 0;
    this.#begin = Buffer.alloc(0);
    this.#head = [0, 0];
    this.#tail = [0, 0];
    this.#long = undefined;
    this.#seenBytes = 0;
  }

  /** Nothing has this name any more. */
  async isRemoved(): Promise<boolean> {
    return (await this.#handle.stat()).nlink === 0;
  }

  /** When it was made, in ms since 1970, and written last, in ns. */
  async times(): Promise<{ bornMs: number; writtenNs: bigint }> {
    const { birthtimeMs, mtimeNs } = await this.#handle.stat({ bigint: true });
    return { bornMs: Number(birthtimeMs), writtenNs: mtimeNs };
  }

  /**
   * Reads as many lines as fit into the buffer and gives each to `take`.
   *
   * @param isWhole nothing more will be written: what has no newline is a line too
   * @returns `end` when there was nothing but the beginning of a line, `emptied` when it is no longer what was read
   */
  async read(buffer: Buffer, take: TakeLine, isWhole = false): Promise<'more' | 'end' | 'emptied'> {
    // What was read last is read again with what follows: so nothing can be put in its place in between.
    const overlap = this.#long ? 0 : this.#tail[0];
    const from = this.at + (this.#long?.bytes ?? 0) - overlap;
    const { bytesRead } = await this.#handle.read(buffer, 0, buffer.length, from);
    const isSame = bytesRead >= overlap && checksum(buffer.subarray(0, overlap))[1] === this.#tail[1];
    const { size, mtimeMs } = await this.#handle.stat();
    if ((overlap > 0 && !isSame) || size < this.#seenBytes) return 'emptied';
    this.#seenBytes = size;
    const bytes = buffer.subarray(overlap, bytesRead);
    const writtenMs = Math.min(Date.now(), Math.floor(mtimeMs));
    let start = 0;
    for (let end = bytes.indexOf(newline); end >= 0; end = bytes.indexOf(newline, start)) {
      const taken = take(this.#line(bytes.subarray(start, end), writtenMs, 1));
      if (taken) await taken;
      start = end + 1;
    }
    const rest = bytes.subarray(start);
    const isFull = bytesRead === buffer.length;
    if (isWhole && !isFull && (rest.length > 0 || this.#long)) {
      await take(this.#line(rest, writtenMs, 0));
      return 'more';
    }
    if (start > 0) return 'more';
    if (rest.length === 0 || !(isFull || this.#long)) return 'end';
    this.#long = {
      kept: this.#long?.kept ?? Buffer.from(rest.subarray(0, maxKeptBytes)),
      bytes: (this.#long?.bytes ?? 0) + rest.length,
    };
    return 'more';
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  /** Makes a line of `text`, which ends the line that has begun, and moves behind it. */
  #line(text: Buffer, writtenMs: number, endBytes: number): TailedLine {
    const long = this.#long;
    const bytes = (long?.bytes ?? 0) + text.length;
    this.#long = undefined;
    this.at += bytes + endBytes;
    const end = endBytes > 0 ? Buffer.of(newline) : Buffer.alloc(0);
    if (this.#begin.length < maxHeadBytes) this.#extendHead([...(long ? [long.kept] : []), text, end]);
    const lastBytes = text.subarray(Math.max(0, text.length + endBytes - maxTailBytes));
    this.#tail = checksum(Buffer.concat([lastBytes, end]));
    return { message: messageOf(long?.kept ?? text, bytes), writtenMs, position: this.position };
  }

  /** From what was read and not from the file, which may have been emptied since. */
  #extendHead(read: readonly Buffer[]): void {
    // Cut first: what is kept must not hold on to a long line.
    const pieces = [this.#begin, ...read].map((piece) => piece.subarray(0, maxHeadBytes));
    this.#begin = Buffer.from(Buffer.concat(pieces).subarray(0, maxHeadBytes));
    this.#head = checksum(this.#begin);
  }

  async #has(start: number, [bytes, crc]: Checksum): Promise<boolean> {
    if (bytes === 0) return true;
    const [found, itsCrc] = checksum(await this.#bytes(start, bytes));
    return found === bytes && itsCrc === crc;
  }

  async #bytes(start: number, length: number): Promise<Buffer> {
    const buffer = Buffer.alloc(length);
    const { bytesRead } = await this.#handle.read(buffer, 0, length, start);
    return buffer.subarray(0, bytesRead);
  }
}

function messageOf(text: Buffer, bytes: number): string {
  let start = 0;
  let end = text.length;
  if (end > start && text[end - 1] === carriageReturn) end--;
  // A hole: the file was emptied under a program that does not append, or the power went.
  while (start < end && text[start] === 0) start++;
  if (end - start <= limits.maxMessageBytes && bytes === text.length)
    return text.toString('utf8', start, end);
  const kept = text.toString('utf8', start, Math.min(end, start + maxKeptBytes));
  return `${kept}… [truncated ${bytes - Math.min(bytes, maxKeptBytes)} bytes]`;
}
