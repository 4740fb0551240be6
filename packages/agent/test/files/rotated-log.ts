import {
  type FileHandle,
  open,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { gzipSync } from 'node:zlib';

/** A program that writes a log, and what rotates it beside it. */
export class RotatedLog implements AsyncDisposable {
  /** Lines that were ended. */
  readonly written: string[] = [];
  readonly path: string;
  private file: FileHandle;
  private begun = '';
  private rotations = 0;

  private constructor(path: string, file: FileHandle) {
    this.path = path;
    this.file = file;
  }

  static async create(path: string): Promise<RotatedLog> {
    return new RotatedLog(path, await open(path, 'a'));
  }

  /** Ends the line that has begun, and writes further ones. */
  async write(lines: readonly string[]): Promise<void> {
    if (lines.length === 0) return;
    await this.file.appendFile(lines.map((line) => `${line}\n`).join(''));
    this.written.push(`${this.begun}${lines[0]}`, ...lines.slice(1));
    this.begun = '';
  }

  /** Writes the beginning of a line. */
  async begin(text: string): Promise<void> {
    await this.file.appendFile(text);
    this.begun += text;
  }

  /** What has begun ends in the file in which it has begun. */
  async end(): Promise<void> {
    if (this.begun !== '') await this.write(['end']);
  }

  /** Renames the file. The program writes on into it until it is told, and then begins another. */
  async rename(): Promise<void> {
    await this.shift();
    await rename(this.path, `${this.path}.1`);
    await this.end();
    await this.file.close();
    this.file = await open(this.path, 'a');
  }

  /** Copies the file and empties it. A line that is being written then would be cut in two. */
  async copyAndEmpty(): Promise<void> {
    await this.shift();
    await writeFile(`${this.path}.1`, await readFile(this.path));
    await truncate(this.path);
  }

  /** Compresses what was rotated last, as logrotate does: under another name first. */
  async compress(keepsTime: boolean): Promise<void> {
    const name = `${this.path}.1`;
    const before = await stat(name).catch(() => undefined);
    if (!before) return;
    await writeFile(`${name}.gz`, gzipSync(await readFile(name)));
    if (keepsTime) await utimes(`${name}.gz`, before.atime, before.mtime);
    await rm(name);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.file.close();
  }

  /** Keeps all files: deleting what nobody has read yet is not the subject. */
  private async shift(): Promise<void> {
    for (let i = this.rotations++; i >= 1; i--) {
      for (const end of ['', '.gz'])
        await rename(`${this.path}.${i}${end}`, `${this.path}.${i + 1}${end}`).catch(() => {});
    }
  }
}
