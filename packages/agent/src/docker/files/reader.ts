import { type FSWatcher, watch } from 'node:fs';
import { basename, dirname } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import type { Rules } from '../../shape/rules.ts';
import type { LogCursorOptions } from '../cursor.ts';
import { clockMarginMs, type LogStream, parsePosition, positionKey, resumeFrom } from '../position.ts';
import { type ContainerIdentity, type ServiceFields, serviceOf } from '../services.ts';
import { nanosOfMs } from '../timestamp.ts';
import type { EngineSession } from '../watcher.ts';
import { type ContainerFolder, lookInto, needsHolder } from './container-folder.ts';
import { FileCursor } from './cursor.ts';
import type { LogHolder } from './holder/holder.ts';
import { type Ahead, LogChain } from './log-chain.ts';
import { Looks } from './looks.ts';
import { type FilePoint, parseFilePoint } from './point.ts';
import { EntryScanner } from './scanner.ts';
import type { Turns } from './turns.ts';

export interface FileReaderOptions extends LogCursorOptions {
  /** `/var/lib/docker/containers/<id>/<id>-json.log` */
  path: string;
  turns: Turns;
  /** Shared by all logs. */
  holder?: LogHolder;
  /** How many files of the log may be held open; by what is free, if left out. */
  maxHeldFiles?: number;
  /** Ends all reading. */
  signal: AbortSignal;
  log?: Logger;
}

/** How often a log is looked at that the kernel should tell about: not every file system does. */
const safetyChecks = 10;
/** Read at one look, it says that a log is written to fast. */
const muchBytes = 16 * 1024;

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
  private readonly chain: LogChain;
  /** Reading goes through what was there at its beginning, and the end has not been seen yet. */
  private isCatchingUp = false;
  private isUncertain = false;
  private readonly looks: Looks;
  private checks = 0;
  private waiting: PromiseWithResolvers<void> | undefined;

  constructor(options: FileReaderOptions) {
    const { container, saved, path } = options;
    this.options = options;
    this.id = container.id;
    this.key = positionKey(container.id);
    this.fields = serviceOf(container);
    this.folder = lookInto(dirname(path));
    this.looks = new Looks(this.folder);
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
      gaps: options.gaps,
      move: (position) => options.move?.(position),
      deliver: (line, position) => options.deliver(line, position),
      encoded: options.encoded,
    });
    this.scanner = new EntryScanner(this.cursor);
    this.chain = new LogChain({
      path,
      rotation: this.folder.rotation,
      lookAgainMs: this.folder.rotation && this.folder.lookAgainMs,
      holder: needsHolder(this.folder) ? options.holder : undefined,
      maxHeldFiles: options.maxHeldFiles,
      onDamage: (error) => this.warnOfDamage(error),
    });
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
    this.looks.found();
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
    // While the journal holds us back, rotation goes on.
    if (this.isRunning && !this.isWatched) this.chain.hold();
  }

  private wake(): void {
    this.waiting?.resolve();
  }

  private async read(): Promise<void> {
    const { signal, turns } = this.options;
    const onAbort = () => this.wake();
    signal.addEventListener('abort', onAbort);
    const watcher = this.isHurried ? this.watchRotation() : undefined;
    try {
      await turns.take((buffer) => this.findPlace(buffer));
      this.chain.leaveToReadyHolder();
      while (!signal.aborted) {
        // Asked before reading: what was written by then is read.
        const hadEnded = this.hasEnded;
        if (watcher) await this.chain.countRotations();
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
      watcher?.close();
      this.chain.close();
    }
  }

  private async finish(isGone: boolean): Promise<void> {
    await this.cursor.endAll(this.chain.current, this.chain.offset);
    this.isGone = isGone;
  }

  /** Opens what there is, and goes to where reading goes on. */
  private async findPlace(buffer: Buffer): Promise<void> {
    const { chain } = this;
    await chain.openAll(buffer);
    this.isCatchingUp = true;
    this.isUncertain = false;
    const point = this.cursor.point ?? this.point;
    const file = point && (await chain.goTo(point, buffer));
    if (file) {
      this.cursor.beginAt(file, point);
      return;
    }
    if (point) {
      // Some have been read in, and a compressed one only goes forward.
      await chain.openAll(buffer);
      this.point = undefined;
    }
    // A container that is as young was never to be read in part.
    const { createdMs = Number.NEGATIVE_INFINITY } = this.folder;
    if (!this.hasPosition && createdMs >= this.startMs) chain.expectBeginning();
    this.beginByMarks();
  }

  private beginByMarks(rotated?: ReadonlySet<LogStream>): void {
    const { marks } = this.cursor;
    const resume = resumeFrom(marks, {
      start: nanosOfMs(this.startMs),
      now: nanosOfMs(Date.now() + 2_000),
      marginMs: clockMarginMs,
    });
    this.isUncertain = resume.isUncertain && !rotated;
    this.cursor.beginByMarks(rotated ? '0'.repeat(resume.since.length) : resume.since, rotated);
  }

  private async step(buffer: Buffer): Promise<Ahead> {
    const { chain } = this;
    if (this.isHurried) chain.hold();
    const file = chain.current;
    if (!file) return chain.reopen(buffer);
    const wasFinal = file.isFinal;
    let bytes = 0;
    try {
      bytes = await file.read(buffer, chain.offset);
    } catch (error) {
      this.warnOfDamage(error);
    }
    // Looked at behind the reading: where it still begins as it did, what was read is what belongs there.
    if (!wasFinal && !file.isIntact()) {
      await chain.leaveCut(file, buffer);
      return 'more';
    }
    if (bytes > 0) {
      if (file.gap) this.cursor.expectGap(await chain.gapBefore(file));
      const passed = await this.scanner.scan(buffer.subarray(0, bytes), file, chain.offset, {
        isWhole: wasFinal && bytes < buffer.length,
        isFull: bytes === buffer.length,
        lookAside: this.isHurried ? () => chain.hold() : undefined,
      });
      chain.offset += passed;
      if (bytes >= muchBytes && !file.isFinal) chain.expectRotation();
      if (passed > 0) {
        this.looks.found();
        // Less than asked for means that the end was there: no need to read once more to see it.
        if (file.isFinal || bytes === buffer.length) return 'more';
        // Nor to look at its name, while it is written to: nothing comes any more to a file that was renamed.
        if (this.looks.hasTime && !this.isCatchingUp && !this.hasEnded) return 'idle';
      }
    }
    return chain.atEnd(file, wasFinal, buffer);
  }

  /** The end of what was there at the beginning. `true` when it must be gone through once more. */
  private async caughtUp(): Promise<boolean> {
    this.isCatchingUp = false;
    const unmatched = this.cursor.caughtUp();
    if (this.isUncertain && unmatched.length > 0) {
      await this.options.turns.take((buffer) => this.chain.openAll(buffer));
      this.isCatchingUp = true;
      this.beginByMarks(new Set(unmatched));
      return true;
    }
    return false;
  }

  /** Whole files may come and go between two looks. */
  private get isHurried(): boolean {
    return this.looks.isHurried;
  }

  /**
   * Sees each rotation as it happens, so that what is rotated is held open. Only where files are small: the kernel
   * tells of every write, too.
   */
  private watchRotation(): FSWatcher | undefined {
    const { path, log } = this.options;
    const name = basename(path);
    try {
      const watcher = watch(dirname(path), { persistent: false }, (event, changed) => {
        if (event === 'rename' && changed === name) this.chain.noteRename();
      });
      watcher.on('error', () => watcher.close());
      return watcher;
    } catch (error) {
      log?.debug({ error: errorText(error) }, 'the rotation of a log is not watched');
      return undefined;
    }
  }

  /** Until there may be more: by looking again soon while the log is written to, else when the kernel says so. */
  private async wait(): Promise<void> {
    const { turns, path } = this.options;
    const nextMs = this.looks.next();
    if (nextMs !== undefined) {
      if (this.isHurried) await pause(nextMs);
      else await turns.nextTick(nextMs);
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
      const isQuiet = next === 'idle' && this.looks.isQuiet;
      if (isQuiet && !this.hasEnded && !this.options.signal.aborted) await waiting.promise;
    } catch (error) {
      // The kernel gives no more watches, or the folder is gone: then by the clock.
      this.options.log?.debug({ error: errorText(error) }, 'a log folder is not watched');
      await turns.nextTick();
    } finally {
      watcher?.close();
      this.waiting = undefined;
    }
  }

  private warnOfDamage(error: unknown): void {
    this.options.log?.warn(
      { container: this.fields.serviceName, containerId: this.id, error: errorText(error) },
      'a log file cannot be read to its end; going on with the next',
    );
  }
}
