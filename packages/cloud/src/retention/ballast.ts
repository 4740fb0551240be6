import { open, rm, stat } from 'node:fs/promises';

/**
 * A file that holds a little room on a disk, for when that is full: before lines can be removed it is noted what they
 * were, and a store without a byte left could not even note that.
 */
export class Ballast {
  readonly #path: string;
  readonly #bytes: number;

  constructor({ path, bytes = 16 * 1024 * 1024 }: { path: string; bytes?: number }) {
    this.#path = path;
    this.#bytes = bytes;
  }

  /** Takes the room, if there is any, unless it is taken already. */
  async take(): Promise<void> {
    const held = await stat(this.#path).catch(() => undefined);
    if (held?.size === this.#bytes) return;
    try {
      await using file = await open(this.#path, 'w', 0o600);
      // Written, since a file that is only said to be that long takes no room.
      const piece = Buffer.alloc(1024 * 1024);
      for (let at = 0; at < this.#bytes; at += piece.length) {
        await file.write(piece, 0, Math.min(piece.length, this.#bytes - at));
      }
    } catch {
      // No room now. It is tried again after each round.
      await this.release();
    }
  }

  async release(): Promise<void> {
    await rm(this.#path, { force: true });
  }
}
