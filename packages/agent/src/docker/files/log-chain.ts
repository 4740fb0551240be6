import { dirname } from 'node:path';
import type { Gap } from '../../logging/gap.ts';
import { openChain, readHead } from './chain.ts';
import type { EngineRotation } from './container-folder.ts';
import { HeldLimit } from './held-limit.ts';
import type { HeldLog } from './holder/held-log.ts';
import type { LogHolder } from './holder/holder.ts';
import { adoptLogFile, type LogFile, openLogFile } from './log-file.ts';
import { closeAll, identityAt, openNewer } from './newer.ts';
import { type FileHead, type FilePoint, headOf } from './point.ts';
import { RotationCount } from './rotation-count.ts';

export interface LogChainOptions {
  path: string;
  /** How the engine rotates the log, if it does. */
  rotation: EngineRotation | undefined;
  /** In less time no file can come and go; `undefined` where that is not known. */
  lookAgainMs: number | undefined;
  /** Opens what comes while it comes fast; `undefined` where that is not needed. */
  holder?: LogHolder | undefined;
  /** How many files may be held open; by what is free, if left out. */
  maxHeldFiles?: number | undefined;
  /** A file cannot be read, or not to its end. */
  onDamage(error: unknown): void;
}

export type Ahead = 'more' | 'idle' | 'rotating' | 'gone';

/** Rotations that follow each other sooner are left to the holder. */
const fastMs = 500;
/** To count while nothing is rotated. */
const maxAttempts = 100;

/**
 * The files of one container's log: the one that is being read, and those behind it, each held open from the moment
 * when it was seen. What is open can be read to its end, whatever the engine does to its name.
 */
export class LogChain {
  /** Where reading is, in {@link current}. */
  offset = 0;
  private readonly options: LogChainOptions;
  /** Oldest first. */
  private files: LogFile[] = [];
  private isOpening = false;
  /** When the newest that is open was the one that is written to. */
  private newestAtMs = performance.now();
  private readonly limit: HeldLimit;
  private readonly rotations = new RotationCount();
  private rotatedAtMs = performance.now();
  private isFast = false;
  /** While it is there, only the holder opens what is new. */
  private held: HeldLog | undefined;
  /** Its first file was opened when there was no other. */
  private isWhole = false;

  constructor(options: LogChainOptions) {
    this.options = options;
    const { path, rotation, maxHeldFiles } = options;
    this.limit = new HeldLimit(path, rotation?.fileBytes ?? Number.POSITIVE_INFINITY, maxHeldFiles);
  }

  /** The file that is being read; `undefined` when there is none. */
  get current(): LogFile | undefined {
    return this.files[0];
  }

  close(): void {
    this.leaveHolder();
    closeAll(this.files);
    this.files = [];
  }

  /** Opens what there is, and goes to the beginning of the oldest. */
  async openAll(buffer: Buffer): Promise<void> {
    await this.replacing(async () => {
      if (!(await this.takeForeseen(buffer))) {
        const files = await this.open(buffer);
        closeAll(this.files);
        this.files = files;
      }
      this.offset = 0;
      this.newestAtMs = this.rotatedAtMs = performance.now();
      this.rotations.end();
    });
  }

  /** Goes to a point; `undefined` when its file is not there any more, is not what it was, or cannot be told. */
  async goTo(point: FilePoint, buffer: Buffer): Promise<LogFile | undefined> {
    const index = await this.replacing(() => this.indexOf(point, buffer));
    const file = this.files[index];
    if (!file) return undefined;
    closeAll(this.files.splice(0, index));
    this.offset = point.at;
    return file;
  }

  /** All of the log is wanted. Where there are as many files as the engine keeps, there may have been others before. */
  expectBeginning(): void {
    const { maxFiles = 1 } = this.options.rotation ?? {};
    const [oldest] = this.files;
    if (this.isWhole) return;
    if (oldest && maxFiles > 1 && this.files.length >= maxFiles) oldest.gap ??= { reason: 'rotated' };
  }

  /** The kernel says that the log's name was given up or taken. */
  noteRename(): void {
    this.rotations.renames++;
    this.hold();
  }

  /** It is written to fast. */
  expectRotation(): void {
    if (this.held) return;
    this.options.holder?.prepare();
    this.leaveToReadyHolder();
  }

  /** Leaves it to the holder before it is rotated for the first time, if that costs nothing but looking. */
  leaveToReadyHolder(): void {
    if (!this.held && !this.isOpening && this.options.holder?.isReady) this.leaveToHolder();
  }

  /** From now on each rotation is told by {@link noteRename}. */
  async countRotations(): Promise<void> {
    if (this.rotations.isExact) return;
    await this.rotations.told();
    if (this.holdsNewest()) this.rotations.begin();
  }

  /**
   * Opens what has come behind the files that are open, so that it can still be read when it has lost its name. To be
   * called as often as a file may come and go.
   */
  hold(): void {
    if (this.isOpening) return;
    this.adopt();
    if (!this.held) this.openNewer();
  }

  /** What comes behind the end of the current file, which {@link wasFinal} when it was read. */
  async atEnd(file: LogFile, wasFinal: boolean, buffer: Buffer): Promise<Ahead> {
    if (file.isFinal) {
      // What was written to it between the reading and its end is to be read.
      if (!wasFinal) return 'more';
      if (this.files.length === 1) return (await this.askHolder()) ?? this.reopen(buffer);
      this.files.shift()?.close();
      this.held?.closed();
      this.offset = 0;
      return 'more';
    }
    const { path } = this.options;
    const identity = identityAt(path);
    if (identity === file.identity) return 'idle';
    if (identity === undefined && identityAt(dirname(path)) !== undefined) return 'rotating';
    // The engine has closed it: once more, to its end.
    file.isFinal = true;
    return 'more';
  }

  /** The current file was cut to nothing. Who does that may have kept a copy of what it held (`copytruncate`). */
  async leaveCut(file: LogFile, buffer: Buffer): Promise<void> {
    await this.replacing(async () => {
      const chain = await this.open(buffer);
      const copy = file.head ? await this.findFinal(chain, file.head, buffer) : -1;
      closeAll(this.files);
      closeAll(chain.splice(0, copy < 0 ? chain.length - 1 : copy));
      this.files = chain;
      if (copy >= 0) return;
      const [live] = chain;
      if (live) live.gap = this.cutAway();
      this.offset = 0;
    });
  }

  /** What has come behind the file that is at its end. */
  async reopen(buffer: Buffer): Promise<Ahead> {
    return this.replacing(async () => {
      const [done, newer] = this.files;
      if (newer) return 'more';
      const chain = await this.open(buffer);
      let index = done ? chain.findIndex((file) => file.identity === done.identity) : -1;
      if (index < 0 && done?.head) index = await this.findFinal(chain, done.head, buffer);
      closeAll(chain.splice(0, index + 1));
      const [next] = chain;
      if (!next) return identityAt(dirname(this.options.path)) === undefined ? 'gone' : 'rotating';
      if (done) this.noteRotation(chain.length);
      if (done && index < 0) next.gap = this.gapBehind();
      done?.close();
      this.files = chain;
      this.offset = 0;
      if (this.isFast && !this.held) this.leaveToHolder();
      return 'more';
    });
  }

  /** What is missing in front of a file, now that its first line is to be read. */
  async gapBefore(file: LogFile): Promise<Gap | undefined> {
    const { gap } = file;
    file.gap = undefined;
    if (gap?.files === undefined) return gap;
    let files = gap.files;
    if (await this.isCounted()) files += this.rotations.missed();
    else {
      const [, next] = this.files;
      // Then with the next one.
      if (next) next.gap ??= { reason: 'rotated', files: 0 };
    }
    const { fileBytes } = this.options.rotation ?? {};
    if (files === 0) return undefined;
    return { reason: 'rotated', files, ...(fileBytes !== undefined && { bytes: files * fileBytes }) };
  }

  /** Whether the kernel has told of all rotations so far. */
  private async isCounted(): Promise<boolean> {
    for (let attempt = 0; attempt < maxAttempts; attempt++) {
      this.hold();
      await this.held?.looked();
      this.adopt();
      const { seen } = this.rotations;
      // What is open by now it has told of then. If that is still all that there is, its account is complete.
      await this.rotations.told();
      if (seen === this.rotations.seen && this.holdsNewest()) return true;
    }
    return false;
  }

  /** How many files there may be, where the engine compresses none. */
  private get plainFiles(): number | undefined {
    const { rotation } = this.options;
    return rotation?.isCompressed ? undefined : rotation?.maxFiles;
  }

  private get room(): number {
    return this.limit.files - this.files.length;
  }

  /** Adds what has come behind the newest that is open. */
  private add(files: readonly LogFile[], isNext: boolean): void {
    const [next] = files;
    const last = this.files.at(-1);
    if (!next || !last) {
      closeAll(files);
      return;
    }
    this.noteRotation(files.length);
    // The engine has closed it before it renamed it.
    for (const file of [last, ...files.slice(0, -1)]) file.isFinal = true;
    if (!isNext) next.gap = this.gapBehind();
    this.files.push(...files);
  }

  private noteRotation(files: number): void {
    this.rotations.seen += files;
    const nowMs = performance.now();
    this.isFast = nowMs - this.rotatedAtMs < fastMs;
    this.rotatedAtMs = nowMs;
  }

  private openNewer(): void {
    const last = this.files.at(-1);
    const { path } = this.options;
    if (!last || this.holdsNewest() || this.room <= 0) return;
    const newer = openNewer(path, last.identity, openLogFile, this.plainFiles);
    if (newer) this.add(newer.files, newer.isNext);
    if (this.isFast && !this.held) this.leaveToHolder();
  }

  /** From now on the holder opens what comes, if it is ready. */
  private leaveToHolder(): void {
    const { path, holder, lookAgainMs } = this.options;
    const knownIdentity = this.files.at(-1)?.identity;
    if (!holder || !lookAgainMs || !knownIdentity) return;
    const { plainFiles, room } = this;
    this.held = holder.hold({ path, knownIdentity, plainFiles, room, lifeMs: lookAgainMs });
  }

  /** Where the holder has had an eye on the log since before it was there, it has all of its files. */
  private async takeForeseen(buffer: Buffer): Promise<boolean> {
    this.isWhole = false;
    const held = this.options.holder?.find(this.options.path);
    if (!held) return false;
    await held.looked();
    const [first, ...others] = held.take();
    if (!first) {
      held.discard();
      return false;
    }
    closeAll(this.files);
    this.files = first.fds.map(adoptLogFile);
    for (const file of this.files.slice(0, -1)) file.isFinal = true;
    for (const { fds, isNext } of others) this.add(fds.map(adoptLogFile), isNext);
    this.isWhole = first.isNext;
    this.held = held;
    await readHead(this.files.at(-1), buffer);
    return true;
  }

  /** Adds what the holder has opened. */
  private adopt(): void {
    const { held } = this;
    if (!held) return;
    for (const { fds, isNext } of held.take()) this.add(fds.map(adoptLogFile), isNext);
    if (held.hasEnded) this.held = undefined;
  }

  /** What comes behind the last file that is open; `undefined` where we have to look for ourselves. */
  private async askHolder(): Promise<Ahead | undefined> {
    if (!this.held) return undefined;
    await this.held.looked();
    this.adopt();
    if (this.files.length > 1) return 'more';
    const { path } = this.options;
    if (this.held && identityAt(path) === undefined && identityAt(dirname(path)) !== undefined)
      return 'rotating';
    // Gone, or a compressed one comes next.
    return undefined;
  }

  /** Takes what the holder has opened so far. What it opens from now on nobody wants. */
  private leaveHolder(): void {
    this.adopt();
    this.held?.discard();
    this.held = undefined;
  }

  /** Behind the newest that was open there may have been others: that one is gone. */
  private gapBehind(): Gap | undefined {
    // Counted when it is read: the kernel may have told of files that are on their way from the holder.
    if (this.rotations.isExact) return { reason: 'rotated', files: 0 };
    const { lookAgainMs } = this.options;
    const isLate = lookAgainMs === undefined || performance.now() - this.newestAtMs >= lookAgainMs;
    return isLate ? { reason: 'rotated' } : undefined;
  }

  private holdsNewest(): boolean {
    if (this.files.at(-1)?.identity !== identityAt(this.options.path)) return false;
    this.newestAtMs = performance.now();
    return true;
  }

  /** The engine cuts a file when it has reached its size, not before. */
  private cutAway(): Gap | undefined {
    const { rotation } = this.options;
    const bytes = rotation && rotation.maxFiles === 1 ? rotation.fileBytes - this.offset : 0;
    return bytes > 0 ? { reason: 'cut', bytes } : undefined;
  }

  /** While files are exchanged for others, none is added. */
  private async replacing<T>(work: () => Promise<T>): Promise<T> {
    this.isOpening = true;
    this.leaveHolder();
    try {
      return await work();
    } finally {
      this.isOpening = false;
    }
  }

  /** All files. */
  private async open(buffer: Buffer): Promise<LogFile[]> {
    const files = await openChain(this.options.path);
    await readHead(files.at(-1), buffer);
    return files;
  }

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
      this.options.onDamage(error);
      return false;
    }
  }

  /** Which of the files that will not change any more begins so; -1 when none does. */
  private async findFinal(chain: readonly LogFile[], head: FileHead, buffer: Buffer): Promise<number> {
    for (const [i, file] of chain.entries()) {
      if (file.isFinal && (await this.begins(file, head, buffer))) return i;
    }
    return -1;
  }
}

const newline = 0x0a;
