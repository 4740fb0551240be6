import { type FSWatcher, watch } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import type { EncodedLog } from '../../logging/types.ts';
import type { Rules } from '../../shape/rules.ts';
import type { LogCursorOptions } from '../cursor.ts';
import { clockMarginMs, type LogStream, parsePosition, positionKey, resumeFrom } from '../position.ts';
import { type ContainerIdentity, type ServiceFields, serviceOf } from '../services.ts';
import { nanosOfMs } from '../timestamp.ts';
import type { EngineSession } from '../watcher.ts';
import { closeAll, identityAt, openChain } from './chain.ts';
import { type ContainerFolder, lookInto } from './container-folder.ts';
import { FileCursor } from './cursor.ts';
import type { LogFile } from './log-file.ts';
import { type FileHead, type FilePoint, headOf, parseFilePoint } from './point.ts';
import { EntryScanner } from './scanner.ts';
import { type Turns, tickMs } from './turns.ts';

export interface FileReaderOptions extends LogCursorOptions {
  /** `/var/lib/docker/containers/<id>/<id>-json.log` */
  path: string;
  turns: Turns;
  /** Ends all reading. */
  signal: AbortSignal;
  /** The short way for lines that need not become objects. */
  encoded?: EncodedLog;
  log?: Logger;
}

/** Looks without anything new before the log is left to the kernel to watch. */
const quietTicks = 3;
/** How often a log is looked at that the kernel should tell about: not every file system does. */
const safetyChecks = 10;

/**
 * Reads one container's log files, from its position to the container's end and on through its restarts.
 *
 *   find the place ─► read ◄──────────────────────────┐
 *                      │ at the end of a file         │
 *                      ├─ an older one: the next ─────┤
 *                      ├─ renamed: what came after ───┤
 *                      ├─ cut to nothing: from 0 ─────┤
 *                      ├─ the container has ended, or its folder is gone ─► done
 *                      └─ else wait ──────────────────┘
 *
 * A file that is open is read to its end, whatever the engine does to its name: the engine closes it before renaming
 * or removing it. Reading does not need the engine; it tells when containers start and end.
 */
export class FileReader {
  readonly id: string;
  readonly key: string;
  /** The container is gone, its log is read to the end. */
  isGone = false;
  private readonly options: FileReaderOptions;
  private readonly cursor: FileCursor;
  private readonly scanner: EntryScanner;
  private fields: ServiceFields;
  private folder: ContainerFolder;
  private point: FilePoint | undefined;
  private hasSaved: boolean;
  private running: Promise<void> | undefined;
  private hasEnded = false;
  /** Oldest first; the first is being read. */
  private files: LogFile[] = [];
  private offset = 0;
  /** Reading goes through what was there at its beginning, and the end has not been seen yet. */
  private isCatchingUp = false;
  private isUncertain = false;
  private quiet = 0;
  private checks = 0;
  private waiting: PromiseWithResolvers<void> | undefined;

  constructor(options: FileReaderOptions) {
    const { container, saved, path } = options;
    this.options = options;
    this.id = container.id;
    this.key = positionKey(container.id);
    this.fields = serviceOf(container);
    this.folder = lookInto(dirname(path));
    this.point = parseFilePoint(saved);
    const marks = parsePosition(saved);
    this.hasSaved = marks !== undefined;
    this.cursor = new FileCursor({
      key: this.key,
      saved: marks,
      isTerminal: this.folder.isTerminal,
      fields: this.fields,
      multiline: options.multiline ?? 'traces',
      rules: options.rules,
      drops: options.drops,
      move: (position) => options.move?.(position),
      deliver: (line, position) => options.deliver(line, position),
      encoded: options.encoded,
    });
    this.scanner = new EntryScanner(this.cursor);
  }

  get isRunning(): boolean {
    return this.running !== undefined;
  }

  get startMs(): number {
    return this.options.startMs();
  }

  get hasPosition(): boolean {
    return this.hasSaved || this.cursor.lines > 0;
  }

  /** Nothing is to be read, and the kernel will tell when there is. */
  get isWatched(): boolean {
    return this.waiting !== undefined;
  }

  /** Reads until the container's end; a call during a run makes it look once more before it ends. */
  run(_session: EngineSession | undefined, hasEnded: boolean): Promise<void> {
    this.hasEnded = hasEnded;
    this.quiet = 0;
    this.running ??= this.read().finally(() => {
      this.running = undefined;
    });
    this.wake();
    return this.running;
  }

  /** The container's process has ended: the engine has written all of its log. */
  died(): void {
    this.hasEnded = true;
    this.wake();
  }

  /** From now on these rules hold for its lines. */
  shape(rules: Rules | undefined): void {
    this.cursor.shape(rules);
  }

  identify(container: ContainerIdentity): void {
    this.fields = serviceOf(container);
    this.cursor.identify(this.fields);
  }

  /** To be called now and then. */
  check(): void {
    if (++this.checks % safetyChecks === 0) this.wake();
  }

  private wake(): void {
    this.waiting?.resolve();
  }

  private async read(): Promise<void> {
    const { signal, turns } = this.options;
    const onAbort = () => this.wake();
    signal.addEventListener('abort', onAbort);
    try {
      await turns.take((buffer) => this.findPlace(buffer));
      while (!signal.aborted) {
        // Asked before reading: what was written by then is read.
        const hadEnded = this.hasEnded;
        const next = await turns.take((buffer) => this.step(buffer));
        if (next === 'more') continue;
        if (this.isCatchingUp && (await this.caughtUp())) continue;
        if (next === 'gone' || (hadEnded && this.hasEnded)) {
          await this.finish(next === 'gone');
          if (this.hasEnded || this.isGone) return;
        } else if (next === 'rotating') await turns.nextTick();
        else await this.wait();
      }
      await this.cursor.flush();
    } finally {
      signal.removeEventListener('abort', onAbort);
      closeAll(this.files);
      this.files = [];
    }
  }

  private async finish(isGone: boolean): Promise<void> {
    const [file] = this.files;
    await this.cursor.endAll(file, this.offset);
    this.isGone = isGone;
  }

  /** Opens what there is, and goes to where reading goes on. */
  private async findPlace(buffer: Buffer): Promise<void> {
    this.files = await this.open(buffer);
    this.isCatchingUp = true;
    this.isUncertain = false;
    const point = this.cursor.point ?? this.point;
    const index = point ? await this.indexOf(point, buffer) : -1;
    const file = this.files[index];
    if (point && file) {
      closeAll(this.files.splice(0, index));
      this.offset = point.at;
      this.cursor.beginAt(file, point);
      return;
    }
    if (point) {
      // Some have been read in, and a compressed one only goes forward.
      closeAll(this.files);
      this.files = await this.open(buffer);
      this.point = undefined;
    }
    this.beginByMarks();
  }

  /** All files. How the one begins that is written to must be known before it can be cut. */
  private async open(buffer: Buffer): Promise<LogFile[]> {
    const files = await openChain(this.options.path);
    const live = files.at(-1);
    if (!live || live.isFinal) return files;
    const bytes = await live.read(buffer, 0);
    const end = buffer.subarray(0, bytes).indexOf(newline);
    if (end >= 0) live.head = headOf(buffer, end + 1);
    return files;
  }

  private beginByMarks(rotated?: ReadonlySet<LogStream>): void {
    const { marks } = this.cursor;
    const resume = resumeFrom(marks, {
      start: nanosOfMs(this.startMs),
      now: nanosOfMs(Date.now() + 2_000),
      marginMs: clockMarginMs,
    });
    this.isUncertain = resume.isUncertain && !rotated;
    this.offset = 0;
    this.cursor.beginByMarks(rotated ? '0'.repeat(resume.since.length) : resume.since, rotated);
  }

  /** Which file a point means; -1 when it is not there any more, is not what it was, or cannot be told. */
  private async indexOf({ head, ino, at }: FilePoint, buffer: Buffer): Promise<number> {
    const alike: LogFile[] = [];
    for (const file of this.files) if (await this.begins(file, head, buffer)) alike.push(file);
    const file = alike.length === 1 ? alike[0] : alike.find((candidate) => candidate.ino === ino);
    if (!file) return -1;
    const one = buffer.subarray(0, 1);
    const isThere = at === 0 || ((await file.read(one, at - 1)) === 1 && one[0] === newline);
    return isThere ? this.files.indexOf(file) : -1;
  }

  private async begins(file: LogFile, head: FileHead, buffer: Buffer): Promise<boolean> {
    try {
      const [entryBytes, crc] = head;
      if (entryBytes > buffer.length || (await file.read(buffer, 0)) < entryBytes) return false;
      if (buffer.indexOf(newline) !== entryBytes - 1 || headOf(buffer, entryBytes)[1] !== crc) return false;
      file.head = head;
      return true;
    } catch (error) {
      this.warnOfDamage(error);
      return false;
    }
  }

  private async step(buffer: Buffer): Promise<'more' | 'idle' | 'rotating' | 'gone'> {
    const [file] = this.files;
    if (!file) return this.reopen(buffer);
    let bytes = 0;
    try {
      bytes = await file.read(buffer, this.offset);
    } catch (error) {
      this.warnOfDamage(error);
    }
    // Looked at behind the reading: where it still begins as it did, what was read is what belongs there.
    if (!file.isFinal && !file.isIntact()) {
      await this.leaveCut(file, buffer);
      return 'more';
    }
    if (bytes > 0) {
      const passed = await this.scanner.scan(buffer.subarray(0, bytes), file, this.offset, {
        isWhole: file.isFinal && bytes < buffer.length,
        isFull: bytes === buffer.length,
      });
      this.offset += passed;
      if (passed > 0) {
        this.quiet = 0;
        // Less than asked for means that the end was there: no need to read once more to see it.
        if (file.isFinal || bytes === buffer.length) return 'more';
      }
    }
    return this.atEnd(file, buffer);
  }

  private async atEnd(file: LogFile, buffer: Buffer): Promise<'more' | 'idle' | 'rotating' | 'gone'> {
    if (file.isFinal) {
      if (this.files.length > 1) {
        this.files.shift()?.close();
        this.offset = 0;
        return 'more';
      }
      return this.reopen(buffer);
    }
    const identity = identityAt(this.options.path);
    if (identity === file.identity) return 'idle';
    if (identity === undefined && identityAt(dirname(this.options.path)) !== undefined) return 'rotating';
    // The engine has closed it: once more, to its end.
    file.isFinal = true;
    return 'more';
  }

  /** The file was cut to nothing. Who does that may have kept a copy of what it held (`copytruncate`). */
  private async leaveCut(file: LogFile, buffer: Buffer): Promise<void> {
    const chain = await this.open(buffer);
    const copy = file.head ? await this.findFinal(chain, file.head, buffer) : -1;
    closeAll(this.files);
    closeAll(chain.splice(0, copy < 0 ? chain.length - 1 : copy));
    this.files = chain;
    if (copy < 0) this.offset = 0;
  }

  /** Which of the files that will not change any more begins so; -1 when none does. */
  private async findFinal(chain: readonly LogFile[], head: FileHead, buffer: Buffer): Promise<number> {
    for (const [i, file] of chain.entries()) {
      if (file.isFinal && (await this.begins(file, head, buffer))) return i;
    }
    return -1;
  }

  /** What has come behind the file that is at its end. */
  private async reopen(buffer: Buffer): Promise<'more' | 'rotating' | 'gone'> {
    const [done] = this.files;
    const chain = await this.open(buffer);
    let index = done ? chain.findIndex((file) => file.identity === done.identity) : -1;
    if (index < 0 && done?.head) index = await this.findFinal(chain, done.head, buffer);
    closeAll(chain.splice(0, index + 1));
    if (chain.length === 0) {
      return identityAt(dirname(this.options.path)) === undefined ? 'gone' : 'rotating';
    }
    if (done && index < 0) this.warnOfGap();
    done?.close();
    this.files = chain;
    this.offset = 0;
    return 'more';
  }

  /** The end of what was there at the beginning. `true` when it must be gone through once more. */
  private async caughtUp(): Promise<boolean> {
    this.isCatchingUp = false;
    const { unmatched, hasJumped } = this.cursor.caughtUp();
    if (this.isUncertain && unmatched.length > 0) {
      closeAll(this.files);
      this.files = await this.options.turns.take((buffer) => this.open(buffer));
      this.isCatchingUp = true;
      this.beginByMarks(new Set(unmatched));
      return true;
    }
    if (hasJumped) this.warnOfGap();
    return false;
  }

  /** Until there may be more: by looking again soon while the log is written to, else when the kernel says so. */
  private async wait(): Promise<void> {
    const { turns, path } = this.options;
    if (++this.quiet <= quietTicks) {
      const { lookAgainMs } = this.folder;
      if (lookAgainMs < tickMs) await pause(lookAgainMs);
      else await turns.nextTick();
      return;
    }
    const waiting = Promise.withResolvers<void>();
    this.waiting = waiting;
    const folder = dirname(path);
    let watcher: FSWatcher | undefined;
    try {
      // The engine writes other files beside the log, too. The log's name begins with the folder's.
      watcher = watch(folder, { persistent: false }, (_, name) => {
        if (name === null || name.startsWith(this.id)) waiting.resolve();
      });
      watcher.on('error', () => waiting.resolve());
      // What was written before the watcher was there.
      const next = await turns.take((buffer) => this.step(buffer));
      if (next === 'idle' && !this.hasEnded && !this.options.signal.aborted) await waiting.promise;
    } catch (error) {
      // The kernel gives no more watches, or the folder is gone: then by the clock.
      this.options.log?.debug({ error: errorText(error) }, 'a log folder is not watched');
      await turns.nextTick();
    } finally {
      watcher?.close();
      this.waiting = undefined;
    }
  }

  private warnOfGap(): void {
    this.options.log?.warn(
      { container: this.fields.serviceName, containerId: this.id },
      'the log was rotated away before it was read to its end; going on with what is kept, some lines may be missing',
    );
  }

  private warnOfDamage(error: unknown): void {
    this.options.log?.warn(
      { container: this.fields.serviceName, containerId: this.id, error: errorText(error) },
      'a log file cannot be read to its end; going on with the next',
    );
  }
}

const newline = 0x0a;
