import type { BigIntStats, Stats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';

/** What is needed of an open file. */
export interface ReadHandle {
  read(buffer: Buffer, offset: number, length: number, position: number): Promise<{ bytesRead: number }>;
  stat(options: { bigint: true }): Promise<BigIntStats>;
  stat(): Promise<Stats>;
  close(): Promise<void>;
}

/** @throws Error as `open` does */
export async function openToRead(path: string): Promise<ReadHandle> {
  const handle = await open(path, 'r');
  return path.endsWith('.gz') ? new GunzipHandle(handle) : handle;
}

const empty = Buffer.alloc(0);
const chunkBytes = 64 * 1024;

/**
 * A gzip file, read as what it holds. Positions are those of the text; going back means to begin anew. What is damaged,
 * or not written to its end, ends where it can be read to.
 */
class GunzipHandle implements ReadHandle {
  readonly #handle: FileHandle;
  #chunks: AsyncIterator<Buffer> | undefined;
  /** Text from {@link #heldAt} on that is still needed. */
  #held: Buffer = empty;
  #heldAt = 0;
  #hasEnded = false;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  async read(
    buffer: Buffer,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ bytesRead: number }> {
    if (!this.#chunks || position < this.#heldAt) await this.#begin();
    this.#forgetBefore(position);
    const parts = [this.#held];
    let bytes = this.#held.length;
    while (!this.#hasEnded && this.#heldAt + bytes < position + length) {
      const chunk = await this.#next();
      if (this.#heldAt + bytes + chunk.length <= position) this.#heldAt += chunk.length;
      else {
        parts.push(chunk);
        bytes += chunk.length;
      }
    }
    this.#held = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
    this.#forgetBefore(position);
    if (position > this.#heldAt) return { bytesRead: 0 };
    return { bytesRead: this.#held.copy(buffer, offset, 0, length) };
  }

  stat(options: { bigint: true }): Promise<BigIntStats>;
  stat(): Promise<Stats>;
  stat(options?: { bigint: true }): Promise<BigIntStats | Stats> {
    return options ? this.#handle.stat(options) : this.#handle.stat();
  }

  async close(): Promise<void> {
    await this.#chunks?.return?.();
    await this.#handle.close();
  }

  async #begin(): Promise<void> {
    await this.#chunks?.return?.();
    const source = Readable.from(bytesOf(this.#handle));
    const gunzip = createGunzip({ chunkSize: chunkBytes });
    source.on('error', (error) => gunzip.destroy(error));
    gunzip.on('close', () => source.destroy());
    // Whoever reads is told of it; when nobody does any more, nobody has to be.
    gunzip.on('error', () => {});
    this.#chunks = source.pipe(gunzip)[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    this.#held = empty;
    this.#heldAt = 0;
    this.#hasEnded = false;
  }

  async #next(): Promise<Buffer> {
    const result = await this.#chunks?.next().catch(() => undefined);
    if (result && !result.done) return result.value;
    this.#hasEnded = true;
    return empty;
  }

  #forgetBefore(position: number): void {
    const passed = Math.min(position - this.#heldAt, this.#held.length);
    if (passed <= 0) return;
    this.#held = this.#held.subarray(passed);
    this.#heldAt += passed;
  }
}

/** Not the handle's own stream: that closes the handle when it is left. */
async function* bytesOf(handle: FileHandle): AsyncGenerator<Buffer> {
  for (let position = 0; ; ) {
    const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(chunkBytes), 0, chunkBytes, position);
    if (bytesRead === 0) return;
    position += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}
