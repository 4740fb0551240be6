import type { AppendFile, JournalDisk } from '../../src/journal/disk.ts';

interface CrashFile {
  data: Buffer;
  /** Bytes that a power cut leaves. */
  synced: number;
}

/**
 * A disk in memory that forgets what was not synced. It can be told to fail, to fill up, and to lose power at
 * any write.
 */
export class CrashDisk implements JournalDisk {
  readonly files = new Map<string, CrashFile>();
  /** Counts down with each append and sync; at zero the power goes. */
  operationsLeft = Number.POSITIVE_INFINITY;
  off = false;
  /** Appends fail with this code while it is set, after writing half. */
  failWith: string | undefined;
  /** It says that it has synced, and has not. */
  lies = false;
  /** This file cannot be read. */
  unreadable: string | undefined;
  appends = 0;
  syncs = 0;
  renames = 0;
  /** Appends to files whose name ends so fail. */
  failOnlyFor = '';
  /** What stood under a name before a rename that no sync has followed. */
  readonly #replaced = new Map<string, CrashFile>();

  list(): string[] {
    return [...this.files.keys()];
  }

  size(name: string): number {
    return this.#file(name).data.length;
  }

  readAll(name: string): Buffer {
    return Buffer.from(this.#file(name).data);
  }

  read(name: string, offset: number, length: number): Buffer {
    if (name === this.unreadable) throw Object.assign(new Error('EIO'), { code: 'EIO' });
    return Buffer.from(this.#file(name).data.subarray(offset, offset + length));
  }

  truncate(name: string, bytes: number): void {
    const file = this.#file(name);
    file.data = file.data.subarray(0, bytes);
    file.synced = Math.min(file.synced, bytes);
  }

  remove(name: string): void {
    if (!this.off) this.files.delete(name);
  }

  rename(from: string, to: string): void {
    if (this.operationsLeft-- <= 0) this.off = true;
    if (this.off) throw new Error('no power');
    const file = this.#file(from);
    const before = this.files.get(to);
    this.files.set(to, file);
    this.files.delete(from);
    this.renames++;
    if (before) this.#replaced.set(to, before);
  }

  async openAppend(name: string): Promise<AppendFile> {
    if (!this.files.has(name)) this.files.set(name, { data: Buffer.alloc(0), synced: 0 });
    return {
      append: async (bytes) => {
        await this.#step();
        this.appends++;
        const file = this.#file(name);
        const fails = this.failWith && name.endsWith(this.failOnlyFor);
        const written = fails ? bytes.subarray(0, bytes.length >> 1) : bytes;
        file.data = Buffer.concat([file.data, written]);
        if (fails) throw Object.assign(new Error(this.failWith), { code: this.failWith });
      },
      sync: async () => {
        await this.#step();
        this.syncs++;
        const file = this.#file(name);
        if (!this.lies) file.synced = file.data.length;
      },
      close: async () => {},
    };
  }

  /**
   * Power comes back: of what was not synced, `keep` (0…1) of the bytes are left, the last ones spoiled. With less
   * than half, renames are undone as well.
   */
  powerCycle(keep: number, spoil: boolean): void {
    if (keep < 0.5)
      for (const [name, file] of this.#replaced) if (this.files.has(name)) this.files.set(name, file);
    this.#replaced.clear();
    for (const [name, file] of this.files) {
      const unsynced = file.data.length - file.synced;
      const left = file.synced + Math.floor(unsynced * keep);
      const data = Buffer.from(file.data.subarray(0, left));
      if (spoil && left > file.synced) data.fill(0, Math.max(file.synced, left - 16));
      if (left === 0) this.files.delete(name);
      else this.files.set(name, { data, synced: left });
    }
    this.off = false;
    this.operationsLeft = Number.POSITIVE_INFINITY;
  }

  /** Without power nothing goes on: what was asked for is never answered. */
  #step(): Promise<void> | undefined {
    if (this.operationsLeft-- <= 0) this.off = true;
    return this.off ? new Promise(() => {}) : undefined;
  }

  #file(name: string): CrashFile {
    const file = this.files.get(name);
    if (!file) throw Object.assign(new Error(`no such file: ${name}`), { code: 'ENOENT' });
    return file;
  }
}
