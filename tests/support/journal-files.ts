import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** A field's value; several when the entry has it several times. */
export type FieldValue = string | Buffer | (string | Buffer)[];

export interface TestEntry {
  [field: string]: FieldValue | undefined;
}

const writer = '/lib/systemd/systemd-journal-remote';

/** Boot that the machine is in. */
export const thisBoot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8'))
  .trim()
  .replaceAll('-', '');

/** A folder of real journal files of systemd, written by its own tool, with any contents and times. */
export class JournalFolder {
  readonly path: string;
  #realtimeUs = Date.now() * 1000 - 60_000_000;
  #monotonicUs = 1_000_000;
  /** Id of the boot that further entries are of. */
  boot = thisBoot;

  constructor(path: string) {
    this.path = path;
  }

  /** Adds entries at the end of `file`, a millisecond apart. Resolves when they are in it. */
  async write(entries: TestEntry[], file = 'system.journal'): Promise<void> {
    await mkdir(this.path, { recursive: true });
    const child = spawn(writer, [`--output=${join(this.path, file)}`, '-'], {
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    child.stdin.end(Buffer.concat(entries.map((entry) => this.#exported(entry))));
    const [code] = await once(child, 'close');
    if (code !== 0) throw new Error(`systemd-journal-remote ended with ${code}: ${said}`);
  }

  /** `prefix from` … `prefix to`, from the program `app`. */
  writeLines(prefix: string, from: number, to: number, file?: string): Promise<void> {
    const entries = Array.from({ length: to - from + 1 }, (_, i) => ({
      MESSAGE: `${prefix} ${from + i}`,
      SYSLOG_IDENTIFIER: 'app',
    }));
    return this.write(entries, file);
  }

  /** Moves the clock of further entries. */
  stepClock(ms: number): void {
    this.#realtimeUs += ms * 1000;
  }

  /** Processes that read this folder. */
  async readers(): Promise<number[]> {
    const found: number[] = [];
    for (const entry of await readdir('/proc')) {
      if (!/^\d+$/.test(entry)) continue;
      const commandLine = await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '');
      if (commandLine.includes(`--directory=${this.path}\0`)) found.push(Number(entry));
    }
    return found;
  }

  /** The journal export format: `NAME=text`, or where that is no text `NAME`, its length and its bytes. */
  #exported(entry: TestEntry): Buffer {
    this.#realtimeUs += 1000;
    this.#monotonicUs += 1000;
    const parts = [
      `__REALTIME_TIMESTAMP=${this.#realtimeUs}\n__MONOTONIC_TIMESTAMP=${this.#monotonicUs}\n_BOOT_ID=${this.boot}\n`,
    ].map((text) => Buffer.from(text));
    for (const [name, value] of Object.entries(entry)) {
      if (value === undefined) continue;
      for (const one of Array.isArray(value) ? value : [value]) {
        const bytes = Buffer.from(one);
        const length = Buffer.alloc(8);
        length.writeBigUInt64LE(BigInt(bytes.length));
        parts.push(Buffer.from(`${name}\n`), length, bytes, Buffer.from('\n'));
      }
    }
    return Buffer.concat([...parts, Buffer.from('\n')]);
  }
}
