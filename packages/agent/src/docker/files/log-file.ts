import { type BigIntStats, closeSync, createReadStream, fstatSync, openSync, read, readSync } from 'node:fs';
import { promisify } from 'node:util';
import { createGunzip } from 'node:zlib';
import type { Gap } from '../../logging/gap.ts';
import { identityOf } from './newer.ts';
import { type FileHead, headOf, headTailBytes } from './point.ts';

const readAt = promisify(read);
/** So much has just been written and lies in memory: handing it to another thread takes longer than copying it. */
const freshBytes = 32 * 1024;

/** One file of a container's log. While it is open the kernel keeps it, whatever the engine does to its name. */
export interface LogFile {
  /** Tells files apart while both are open. */
  readonly identity: string;
  /** As positions have it. */
  readonly ino: number;
  /** Known once the first entry has been read. */
  head: FileHead | undefined;
  /** Nothing will be appended any more. */
  isFinal: boolean;
  /** What nobody could read in front of it. */
  gap: Gap | undefined;
  /** Fills `buffer` from `offset` on; returns fewer bytes at the end. Offsets never decrease by more than a buffer. */
  read(buffer: Buffer, offset: number): Promise<number>;
  /** Whether it still begins as it did: not when it was cut to nothing and written anew. */
  isIntact(): boolean;
  close(): void;
}

/** What positions keep of an inode number, which may be too long for a JSON number. */
function inoOf({ ino }: Pick<BigIntStats, 'ino'>): number {
  return Number(BigInt.asUintN(52, ino));
}

/** @throws Error as `open` does */
export function openLogFile(path: string): LogFile {
  return path.endsWith('.gz') ? new CompressedFile(path) : new PlainFile(openSync(path, 'r'), freshBytes);
}

/** Takes over a file of plain text that was open as soon as it was there, and all of which has just been written. */
export function adoptLogFile(fd: number): LogFile {
  return new PlainFile(fd, Number.POSITIVE_INFINITY);
}

class PlainFile implements LogFile {
  readonly identity: string;
  readonly ino: number;
  head: FileHead | undefined;
  isFinal = false;
  gap: Gap | undefined;
  readonly #fd: number;
  readonly #freshBytes: number;
  readonly #tail = Buffer.alloc(headTailBytes);

  constructor(fd: number, freshBytes: number) {
    this.#fd = fd;
    this.#freshBytes = freshBytes;
    const stats = fstatSync(fd, { bigint: true });
    this.identity = identityOf(stats);
    this.ino = inoOf(stats);
  }

  async read(buffer: Buffer, offset: number): Promise<number> {
    const length = Math.min(this.#freshBytes, buffer.length);
    const fresh = readSync(this.#fd, buffer, 0, length, offset);
    if (fresh < length || length === buffer.length) return fresh;
    const { bytesRead } = await readAt(this.#fd, buffer, fresh, buffer.length - fresh, offset + fresh);
    return fresh + bytesRead;
  }

  isIntact(): boolean {
    if (!this.head) return true;
    const [entryBytes, crc] = this.head;
    const length = Math.min(entryBytes, headTailBytes);
    const tail = this.#tail.subarray(0, length);
    return (
      readSync(this.#fd, tail, 0, length, entryBytes - length) === length && headOf(tail, length)[1] === crc
    );
  }

  close(): void {
    closeSync(this.#fd);
  }
}

const empty = Buffer.alloc(0);

/** A file that the engine compressed after rotating it. Read in order, from its beginning. */
class CompressedFile implements LogFile {
  readonly identity: string;
  readonly ino: number;
  head: FileHead | undefined;
  readonly isFinal = true;
  gap: Gap | undefined;
  readonly #fd: number;
  readonly #chunks: AsyncIterator<Buffer>;
  #held: Buffer = empty;
  #heldAt = 0;
  #ended = false;

  constructor(path: string) {
    this.#fd = openSync(path, 'r');
    const stats = fstatSync(this.#fd, { bigint: true });
    this.identity = identityOf(stats);
    this.ino = inoOf(stats);
    // The stream closes the file, also when it is destroyed before its end.
    const source = createReadStream(path, { fd: this.#fd, start: 0 });
    const gunzip = createGunzip({ chunkSize: 64 * 1024 });
    source.on('error', (error) => gunzip.destroy(error));
    gunzip.on('close', () => source.destroy());
    this.#chunks = source.pipe(gunzip)[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  /** @throws Error when the file is damaged: at the place where it is, once all before it has been given */
  async read(buffer: Buffer, offset: number): Promise<number> {
    this.#forgetBefore(offset);
    const parts = [this.#held];
    let bytes = this.#held.length;
    while (!this.#ended && this.#heldAt + bytes < offset + buffer.length) {
      const { value, done } = await this.#chunks.next().catch((error: unknown) => {
        this.#ended = true;
        if (bytes === 0) throw error;
        return { value: empty, done: true };
      });
      if (done) this.#ended = true;
      else if (this.#heldAt + bytes + value.length <= offset) this.#heldAt += value.length;
      else {
        parts.push(value);
        bytes += value.length;
      }
    }
    this.#held = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
    this.#forgetBefore(offset);
    return this.#held.copy(buffer);
  }

  isIntact(): boolean {
    return true;
  }

  close(): void {
    void this.#chunks.return?.();
  }

  #forgetBefore(offset: number): void {
    const passed = Math.min(offset - this.#heldAt, this.#held.length);
    if (passed <= 0) return;
    this.#held = this.#held.subarray(passed);
    this.#heldAt += passed;
  }
}
