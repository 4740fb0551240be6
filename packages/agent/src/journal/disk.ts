import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
} from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';

/** An open segment that grows at its end. */
export interface AppendFile {
  /** Writes all of `bytes` at the end; on failure some of them may be there. */
  append(bytes: Buffer): Promise<void>;
  /** Resolves when everything appended survives a power cut. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/**
 * The file operations that the journal needs, and nothing else touches its folder. Opening and recovery are
 * synchronous, since nothing can be captured before they are done; writing is not. Tests put their own in
 * place to lose unsynced writes and to fail at any point.
 */
export interface JournalDisk {
  /** Names of the files in the folder; none if it is missing. */
  list(): string[];
  size(name: string): number;
  readAll(name: string): Buffer;
  /** Up to `length` bytes at `offset`; fewer at the file's end. */
  read(name: string, offset: number, length: number): Buffer;
  truncate(name: string, bytes: number): void;
  remove(name: string): void;
  /** Puts a file in the place of another. After a power cut either may be there. */
  rename(from: string, to: string): void;
  /** Opens a file for appending, in a folder that is made if it is missing. A new one's name survives a power cut once the first `sync` is done. */
  openAppend(name: string): Promise<AppendFile>;
}

export class FolderDisk implements JournalDisk {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  list(): string[] {
    try {
      return readdirSync(this.#dir);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
  }

  size(name: string): number {
    return statSync(join(this.#dir, name)).size;
  }

  readAll(name: string): Buffer {
    return readFileSync(join(this.#dir, name));
  }

  read(name: string, offset: number, length: number): Buffer {
    const file = openSync(join(this.#dir, name), 'r');
    try {
      const buffer = Buffer.allocUnsafe(length);
      let filled = 0;
      while (filled < length) {
        const count = readSync(file, buffer, filled, length - filled, offset + filled);
        if (count === 0) break;
        filled += count;
      }
      return buffer.subarray(0, filled);
    } finally {
      closeSync(file);
    }
  }

  truncate(name: string, bytes: number): void {
    truncateSync(join(this.#dir, name), bytes);
  }

  remove(name: string): void {
    rmSync(join(this.#dir, name), { force: true });
  }

  rename(from: string, to: string): void {
    renameSync(join(this.#dir, from), join(this.#dir, to));
  }

  async openAppend(name: string): Promise<AppendFile> {
    mkdirSync(this.#dir, { recursive: true });
    const file = await open(join(this.#dir, name), 'a', 0o640);
    return new FolderAppendFile(file, this.#dir);
  }
}

class FolderAppendFile implements AppendFile {
  readonly #file: FileHandle;
  readonly #dir: string;
  #nameSynced = false;

  constructor(file: FileHandle, dir: string) {
    this.#file = file;
    this.#dir = dir;
  }

  async append(bytes: Buffer): Promise<void> {
    await this.#file.appendFile(bytes);
  }

  async sync(): Promise<void> {
    await this.#file.datasync();
    if (this.#nameSynced) return;
    // A file is only found again after a power cut when its folder was synced as well.
    const dir = openSync(this.#dir, 'r');
    try {
      fsyncSync(dir);
    } finally {
      closeSync(dir);
    }
    this.#nameSynced = true;
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}
