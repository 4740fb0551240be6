import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

/** Does to the log of one container what the engine's driver json-file does. */
export class LogWriter {
  readonly id: string;
  readonly folder: string;
  readonly path: string;
  private nanos = 1_790_000_000_123_456_789n;

  constructor(containers: string, id: string) {
    this.id = id;
    this.folder = join(containers, id);
    this.path = join(this.folder, `${id}-json.log`);
    mkdirSync(this.folder, { recursive: true });
    if (!existsSync(this.path)) writeFileSync(this.path, '');
  }

  /** What the engine keeps beside a log that it rotates. */
  configure(config: Record<string, string>): void {
    const hostConfig = { LogConfig: { Type: 'json-file', Config: config } };
    writeFileSync(join(this.folder, 'hostconfig.json'), JSON.stringify(hostConfig));
  }

  /** Lets the clock go on, or back. */
  pass(nanos: number): void {
    this.nanos += BigInt(nanos);
  }

  /** An entry with the present time. Without a newline at its end it is a piece of a line. */
  write(stream: 'stdout' | 'stderr', log: string, attrs?: Record<string, string>): void {
    appendFileSync(this.path, entry(stream, log, this.nanos, attrs));
  }

  append(bytes: string | Buffer): void {
    appendFileSync(this.path, bytes);
  }

  /** Renames the log and those before it, and begins a new one. With `compress` the older ones are compressed. */
  rotate({ maxFiles, compress = false }: { maxFiles: number; compress?: boolean }): void {
    this.shift(maxFiles);
    renameSync(this.path, `${this.path}.1`);
    writeFileSync(this.path, '');
    if (compress) this.compress();
  }

  compress(): void {
    writeFileSync(`${this.path}.1.gz`, gzipSync(readFileSync(`${this.path}.1`)));
    unlinkSync(`${this.path}.1`);
  }

  /** What the engine does where it may keep one file. */
  cut(): void {
    truncateSync(this.path);
  }

  /** What logrotate does with `copytruncate`. */
  copyAndCut({ maxFiles }: { maxFiles: number }): void {
    this.shift(maxFiles);
    writeFileSync(`${this.path}.1`, readFileSync(this.path));
    truncateSync(this.path);
  }

  /** Makes room for a new `.1`. */
  private shift(maxFiles: number): void {
    const name = (n: number) => [`${this.path}.${n}`, `${this.path}.${n}.gz`];
    for (const path of name(maxFiles - 1)) if (existsSync(path)) unlinkSync(path);
    for (let n = maxFiles - 1; n > 1; n--) {
      const to = name(n);
      name(n - 1).forEach((from, i) => {
        if (existsSync(from)) renameSync(from, to[i] as string);
      });
    }
  }
}

function entry(stream: string, log: string, nanos: bigint, attrs?: Record<string, string>): string {
  const seconds = new Date(Number(nanos / 1_000_000n)).toISOString().slice(0, 19);
  const fraction = String(nanos % 1_000_000_000n)
    .padStart(9, '0')
    .replace(/0+$/, '');
  const time = `${seconds}${fraction && `.${fraction}`}Z`;
  return `${JSON.stringify({ log, stream, ...(attrs && { attrs }), time })}\n`;
}
