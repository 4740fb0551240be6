import { constants, type FSWatcher, watch } from 'node:fs';
import { access, glob, realpath, stat } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import type { GapCounts } from '../logging/gap.ts';
import { type LineTaker, type LogSource, SourceOutlet, type SourceState } from '../logging/source.ts';
import type { PositionStore } from '../logging/types.ts';
import { FileLog } from './file-log.ts';
import { Folders } from './folders.ts';
import { type FilePattern, folderOf, nameOf, parsePattern, patternOf, rotatedOf } from './patterns.ts';
import { type FilePosition, filePrefix, parseFilePosition } from './position.ts';
import { identityOf, look } from './rotation.ts';

export interface FilesOptions {
  taker: LineTaker;
  positions: PositionStore;
  /** `/var/log/app/*.log`, or `name=` in front of it. */
  patterns: readonly string[];
  /** A folder that is never read from: where the journal is. */
  exceptBelow?: string;
  /** Files made longer ago, when they are first read, are read from their end. Default one hour. */
  historyMs?: number;
  /** How often files are looked for that the kernel has not told of. Default 10 s. */
  rescanMs?: number;
  /** Counts what could not be read; may be shared. */
  gaps?: GapCounts;
  log?: Logger;
}

const bufferBytes = 256 * 1024;
/** What changes meanwhile is read together. */
const settleMs = 20;
/** Each log keeps its file open, so that a file that is removed can be read to its end. */
const maxLogs = 4096;
const maxWatches = 512;

/**
 * Follows plain files. One watch per folder tells of new files and of what is written; whatever the kernel does not
 * tell, as on network file systems, is found by looking at each file now and then. All files are read in turns
 * through one buffer.
 */
export class FilesSource implements LogSource {
  readonly name = 'files';
  readonly #options: FilesOptions;
  readonly #outlet: SourceOutlet;
  readonly #patterns: FilePattern[];
  readonly #known = new Map<string, FilePosition>();
  readonly #logs = new Map<string, FileLog>();
  readonly #open = new Set<string>();
  readonly #folders = new Folders();
  /** Where each log's path leads, while it names the same file. */
  readonly #places = new Map<string, { inode: bigint | undefined; real: string }>();
  /** Paths of logs that are links, by where they lead. */
  readonly #links = new Map<string, string>();
  readonly #watches = new Map<string, FSWatcher>();
  /** Logs to read, by their paths. */
  readonly #due = new Set<string>();
  readonly #errors = new Map<string, string>();
  readonly #stopping = new AbortController();
  readonly #buffer = Buffer.allocUnsafeSlow(bufferBytes);
  #run: Promise<void> | undefined;
  #isScanDue = true;
  #wake = Promise.withResolvers<void>();
  #bornAfterMs = 0;
  #hasTooMany = false;

  constructor(options: FilesOptions) {
    this.#options = options;
    this.#outlet = new SourceOutlet({ taker: options.taker, name: this.name, log: options.log });
    this.#patterns = options.patterns.map(parsePattern);
  }

  get state(): SourceState {
    const [error] = this.#errors.values();
    const count = [...this.#logs.keys()].filter((path) => !this.#errors.has(path)).length;
    return {
      connected: count > 0,
      detail: `${count} ${count === 1 ? 'file' : 'files'}`,
      lines: this.#outlet.lines,
      ...(error !== undefined && { error }),
    };
  }

  async start(): Promise<void> {
    const first = Promise.withResolvers<void>();
    this.#run ??= this.#follow(first.resolve).finally(first.resolve);
    await first.promise;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake.resolve();
    await this.#run;
    for (const watcher of this.#watches.values()) watcher.close();
    this.#watches.clear();
    await Promise.all([...this.#logs.values()].map((log) => log.close()));
    this.#logs.clear();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #follow(onFirst: () => void): Promise<void> {
    const { signal } = this.#stopping;
    this.#recall();
    const rescans = setInterval(() => this.#lookAtAll(), this.#options.rescanMs ?? 10_000);
    try {
      while (!signal.aborted) {
        // Logs first: what a rotation made of their files they then know for their own.
        await this.#readDue();
        if (this.#isScanDue) await this.#scan();
        onFirst();
        if (this.#due.size === 0 && !this.#isScanDue) {
          await this.#wake.promise;
          this.#wake = Promise.withResolvers();
          await wait(settleMs);
        }
      }
    } finally {
      clearInterval(rescans);
    }
  }

  /** What is known from before, and since when: that is saved once, so that it stays when this program restarts. */
  #recall(): void {
    const { positions, patterns, historyMs = 3_600_000 } = this.#options;
    for (const [key, value] of positions.positions(filePrefix)) {
      const position = parseFilePosition(value);
      if (position) this.#known.set(key, position);
    }
    const key = `files:${patterns.join(',')}`;
    const since = positions.position(key);
    const firstMs = typeof since === 'number' ? since : Date.now();
    if (typeof since !== 'number') this.#outlet.move({ key, value: firstMs });
    this.#bornAfterMs = firstMs - historyMs;
  }

  #lookAtAll(): void {
    this.#isScanDue = true;
    for (const path of this.#logs.keys()) this.#due.add(path);
    this.#wake.resolve();
  }

  /** Finds files that are new, and the folders to watch. */
  async #scan(): Promise<void> {
    this.#isScanDue = false;
    const found = new Set<string>();
    for (const pattern of this.#patterns) {
      const folder = folderOf(pattern);
      try {
        await access(folder, constants.R_OK | constants.X_OK);
        for await (const path of glob(pattern.glob)) found.add(path);
        this.#errors.delete(folder);
        await this.#refuseFolder(pattern);
      } catch (error) {
        // A folder that is not there yet is looked for again.
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.#failed(folder, error);
      }
    }
    for (const { path } of this.#known.values()) found.add(path);
    // A log before what rotation made of it, which it then takes for its own.
    for (const path of [...found].sort((a, b) => a.length - b.length)) {
      if (this.#stopping.signal.aborted) return;
      await this.#add(path).catch((error: unknown) => this.#failed(path, error));
    }
    await this.#watchFolders();
  }

  /** The name of a folder means no file, which nothing else would tell. */
  async #refuseFolder(pattern: FilePattern): Promise<void> {
    const folder = `${pattern.glob}/`;
    const present = await stat(pattern.glob).catch(() => undefined);
    if (!present?.isDirectory()) this.#errors.delete(folder);
    else this.#failed(folder, new Error(`it is a folder; ${folder}* are the files in it`));
  }

  async #add(path: string): Promise<void> {
    const { exceptBelow, bornAfterMs } = { ...this.#options, bornAfterMs: this.#bornAfterMs };
    if (this.#logs.has(path) || (exceptBelow && path.startsWith(exceptBelow + sep))) return;
    const pattern = patternOf(path, this.#patterns);
    if (!pattern || this.#isRotated(path)) return;
    const present = await look(path);
    if (present && this.#open.has(identityOf(present))) return;
    if (!present && ![...this.#known.values()].some((position) => position.path === path)) return;
    if (this.#logs.size >= maxLogs) return this.#tooMany();
    this.#logs.set(
      path,
      new FileLog({
        path,
        name: nameOf(path, pattern),
        outlet: this.#outlet,
        known: this.#known,
        open: this.#open,
        gaps: this.#options.gaps,
        folders: this.#folders,
        isLocal: () => this.#folders.isLocal(dirname(this.#places.get(path)?.real ?? '')),
        isRotated: () => this.#isRotated(path),
        bornAfterMs,
      }),
    );
    await this.#read(path);
  }

  /** What rotation made of a log is read with that log, whether a pattern means it or not. */
  #isRotated(path: string): boolean {
    return rotatedOf(path).some((base) => this.#logs.has(base));
  }

  async #readDue(): Promise<void> {
    const due = [...this.#due];
    this.#due.clear();
    for (const path of due) {
      if (this.#stopping.signal.aborted) return;
      await this.#read(path);
    }
  }

  async #read(path: string): Promise<void> {
    const log = this.#logs.get(path);
    if (!log) return;
    try {
      if (await log.turn(this.#buffer)) this.#due.add(path);
      this.#errors.delete(path);
    } catch (error) {
      this.#failed(path, error);
    }
    if (log.isGone) {
      this.#logs.delete(path);
      this.#errors.delete(path);
    }
  }

  async #watchFolders(): Promise<void> {
    const folders = new Set(this.#patterns.map(folderOf));
    this.#links.clear();
    for (const [path, { current }] of this.#logs) {
      folders.add(dirname(path));
      const inode = current?.inode;
      const known = this.#places.get(path);
      // A link may lead elsewhere at any time; what is none stays where it is.
      const isSame = known?.real === path && known.inode === inode;
      const real = isSame ? path : await realpath(path).catch(() => path);
      this.#places.set(path, { inode, real });
      if (real === path) continue;
      // A link is written to where it leads.
      this.#links.set(real, path);
      folders.add(dirname(real));
    }
    for (const path of this.#places.keys()) if (!this.#logs.has(path)) this.#places.delete(path);
    for (const folder of folders) {
      await this.#folders.learn(folder);
      if (this.#watches.has(folder) || this.#watches.size >= maxWatches) continue;
      try {
        const watcher = watch(folder, { persistent: false }, (_, name) => this.#changed(folder, name));
        watcher.on('error', () => this.#unwatch(folder));
        this.#watches.set(folder, watcher);
      } catch (error) {
        this.#options.log?.debug({ folder, error: errorText(error) }, 'a folder of logs is not watched');
      }
    }
    for (const folder of this.#watches.keys()) if (!folders.has(folder)) this.#unwatch(folder);
  }

  #unwatch(folder: string): void {
    this.#watches.get(folder)?.close();
    this.#watches.delete(folder);
    this.#folders.forget(folder);
  }

  #changed(folder: string, name: string | null): void {
    const changed = join(folder, name ?? '');
    const path = this.#links.get(changed) ?? changed;
    if (this.#logs.has(path)) this.#due.add(path);
    else {
      this.#isScanDue = true;
      // A file that was renamed has another name than its log.
      for (const [other, log] of this.#logs) if (log.hasOld) this.#due.add(other);
    }
    this.#wake.resolve();
  }

  #tooMany(): void {
    if (this.#hasTooMany) return;
    this.#hasTooMany = true;
    this.#options.log?.warn(
      { maxLogs },
      'LOG_FILES means more files than can be followed; the rest is not read',
    );
  }

  #failed(path: string, cause: unknown): void {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') {
      // It was renamed while we looked: what it is now shows in the next turn.
      this.#isScanDue = true;
      if (this.#logs.has(path)) this.#due.add(path);
      return;
    }
    const why = code === 'EACCES' ? 'this user may not read it' : errorText(cause);
    const error = new MillraceError('SOURCE_UNREADABLE', `${path}: ${why}`, { cause }).message;
    if (this.#errors.get(path) === error) return;
    this.#errors.set(path, error);
    this.#options.log?.warn({ error }, 'a log file cannot be read; trying again');
  }
}
