import { countGap, type GapCounts, gapLine } from '../logging/gap.ts';
import type { SourceOutlet } from '../logging/source.ts';
import type { Folders } from './folders.ts';
import { isCompressed } from './patterns.ts';
import type { FilePosition } from './position.ts';
import {
  type FoundFile,
  identityOf,
  isCompressedOtherwise,
  look,
  lookNow,
  openAt,
  openBehindRotated,
  openRotated,
  rotatedFrom,
} from './rotation.ts';
import { TailedFile, type TailedLine } from './tailed-file.ts';

export interface FileLogOptions {
  path: string;
  /** What its lines are named. */
  name: string;
  outlet: SourceOutlet;
  /** How far files have been read, in this run and before, by their keys. Kept up to date here. */
  known: Map<string, FilePosition>;
  /** What any log has open, as {@link identityOf}. Kept up to date here. */
  open: Set<string>;
  /** Counts what could not be read; may be shared. */
  gaps?: GapCounts | undefined;
  folders: Folders;
  /** Whether the file is on a disk of this machine. */
  isLocal(): boolean;
  /** Whether the name is one that rotation gives to files of another log: then what it means next is that log's. */
  isRotated(): boolean;
  /** Files made before this are not read from their beginning, in ms since 1970. */
  bornAfterMs: number;
}

/** A renamed file may still be written to, by a program that was not told; after so long it is not. */
const quietMs = 600_000;

/**
 * A log by its path: the file that has this name, and before it those that had it, each read to its end.
 *
 *   the name means another file ─► the old one is read to its end, then what came between, then the new one
 *   the name means nothing ──────► the old one is read to its end
 *   the file was emptied ────────► a copy of it is read from where we were, then what came after the copy, then
 *                                  the file from its beginning
 *
 * After a restart it is the same: the files that were being read are found by their inodes, or else copies of them.
 */
export class FileLog {
  readonly path: string;
  readonly #options: FileLogOptions;
  /** Oldest first; the last has the path as its name, unless it is old too. */
  #files: TailedFile[] = [];
  #hasBegun = false;
  /** What the file was like when it was read to its end. */
  #readState: string | undefined;

  constructor(options: FileLogOptions) {
    this.path = options.path;
    this.#options = options;
  }

  /** Files that have lost the name may still be written to. */
  get hasOld(): boolean {
    return this.#files.some(({ isOld }) => isOld);
  }

  /** Nothing is left of it. */
  get isGone(): boolean {
    return this.#hasBegun && this.#files.length === 0;
  }

  /** The file that has the name. */
  get current(): TailedFile | undefined {
    const last = this.#files.at(-1);
    return last?.isOld ? undefined : last;
  }

  /**
   * Reads what there is, up to one buffer; returns whether there may be more.
   *
   * @throws Error as `open` and `read` do, for example when the rights are missing
   */
  async turn(buffer: Buffer): Promise<boolean> {
    const isQuick = this.#hasBegun && this.#options.isLocal();
    const present = isQuick ? lookNow(this.path) : await look(this.path);
    if (present && present.state === this.#readState && !this.hasOld) return false;
    this.#readState = undefined;
    if (this.#hasBegun) await this.#findCurrent(present);
    else await this.#begin(present);
    for (const file of [...this.#files]) {
      const got = await file.read(buffer, (line) => this.#take(line));
      this.#options.known.set(file.key, file.place);
      if (got === 'more') return true;
      if (got === 'emptied') {
        await this.#emptied(file);
        return true;
      }
      if (file.isOld && (await this.#isOver(file))) await this.#finish(file, buffer);
    }
    this.#readState = present?.state;
    return false;
  }

  async close(): Promise<void> {
    await this.#letGo(this.#files);
  }

  /** Goes on where an earlier run was. */
  async #begin(present: FoundFile | undefined): Promise<void> {
    const { known, bornAfterMs, outlet } = this.#options;
    const current = present && (await TailedFile.open(this.path));
    try {
      const place = current && known.get(current.key);
      // Where nothing was read, nothing shows whether it was rotated since.
      const isSame = place !== undefined && place.at > 0 && (await current?.resume(place)) === true;
      const rotated = await rotatedFrom(this.path, this.#options.folders);
      const old: TailedFile[] = [];
      const gone: string[] = [];
      let hasKnown = false;
      let wasRead = false;
      for (const [key, position] of [...known]) {
        if (position.path !== this.path || (isSame && key === current?.key)) continue;
        hasKnown = true;
        if (position.at > 0) wasRead = true;
        const file = await this.#openRest(rotated, key, position);
        if (file) old.push(file);
        // What is a copy of it is known by its own key from now on.
        if (file?.key !== key && key !== current?.key) gone.push(key);
      }
      if (wasRead && !isSame && old.length === 0) await this.#tellGap(present?.bornMs);
      // A file of which nothing was read may be younger than one that was never seen.
      const read = old.filter(({ at }) => at > 0);
      if (!isSame) old.push(...(await this.#between(rotated, read, bornAfterMs)));
      const order = new Map(rotated.map(({ key }, index) => [key, index]));
      this.#addOld(old.sort((a, b) => (order.get(a.key) ?? 0) - (order.get(b.key) ?? 0)));
      for (const key of gone) this.#forget(key);
      if (!isSame && !hasKnown && present && present.bornMs < bornAfterMs) await current?.skip();
    } catch (error) {
      await current?.close();
      throw error;
    }
    if (current) {
      this.#push(current);
      known.set(current.key, current.place);
      outlet.move(current.position);
    }
    this.#hasBegun = true;
  }

  /** Nothing is left of what was read before, so what came behind it may be gone as well. */
  async #tellGap(toMs: number | undefined): Promise<void> {
    const { name, outlet, gaps, folders } = this.#options;
    const isPacked = await isCompressedOtherwise(this.path, folders);
    const gap = { reason: isPacked ? ('compressed' as const) : ('rotated' as const), toMs };
    if (gaps) countGap(gaps, gap);
    const line = gapLine(gap, { serviceName: name });
    await outlet.deliver({ ...line, fields: { ...line.fields, file: this.path } });
  }

  /** Sees to it that the last of the files is the one that has the name. */
  async #findCurrent(present: FoundFile | undefined): Promise<void> {
    const last = this.#files.at(-1);
    if (last && !last.isOld && present?.inode === last.inode && present.device === last.device) return;
    if (last) last.isOld = true;
    const { bornMs } = (await last?.times()) ?? { bornMs: Date.now() };
    const isWanted = present !== undefined && !this.#options.isRotated();
    const { rotated, current } = await openBehindRotated(this.path, isWanted, this.#options.folders);
    this.#addOld(await this.#between(rotated, last ? [last] : [], bornMs));
    if (!current) return;
    this.#push(current);
    this.#forgetMissing(rotated);
  }

  /** The contents were moved to a copy, or are gone. */
  async #emptied(file: TailedFile): Promise<void> {
    const { bornMs } = await file.times();
    const rotated = await rotatedFrom(this.path, this.#options.folders);
    const rest = file.at > 0 ? await this.#openRest(rotated, file.key, file.place) : undefined;
    const behind = this.#files.splice(this.#files.indexOf(file));
    if (rest) this.#addOld([rest]);
    this.#addOld(await this.#between(rotated, rest ? [rest] : [], bornMs));
    this.#files.push(...behind);
    file.restart();
    this.#forgetMissing(rotated);
  }

  /** What was read up to a position: the file itself by its inode, else a copy of it, the newest first. */
  async #openRest(
    rotated: readonly FoundFile[],
    key: string,
    position: FilePosition,
  ): Promise<TailedFile | undefined> {
    const byInode = rotated.filter((file) => file.key === key);
    const others = rotated.filter((file) => file.key !== key).reverse();
    for (const found of [...byInode, ...others]) {
      if (this.#options.open.has(identityOf(found))) continue;
      // Where nothing was read there is nothing to tell a copy by.
      if (position.at === 0 && found.key !== key) continue;
      const file = await openAt(found, this.path, position, this.#options.folders);
      if (file) return file;
    }
    return undefined;
  }

  /** Files that had the name while nobody looked: written after those that were read, or else made since then. */
  async #between(
    rotated: readonly FoundFile[],
    read: readonly TailedFile[],
    bornAfterMs: number,
  ): Promise<TailedFile[]> {
    const keys = new Set(read.map(({ key }) => key));
    let last = rotated.findLastIndex(({ key }) => keys.has(key));
    if (last < 0) last = await this.#indexOfCopy(rotated, read);
    const between: TailedFile[] = [];
    for (const [index, found] of rotated.entries()) {
      // When the text of a compressed file was written only its place among others tells.
      const isNew = !isCompressed(found.path) && found.bornMs >= bornAfterMs;
      const isLater = last >= 0 ? index > last : isNew;
      if (!isLater || (await this.#isKnown(found))) continue;
      const file = await openRotated(found, this.path, this.#options.folders);
      if (file) between.push(file);
    }
    return between;
  }

  /** Where a copy of what was read is, compressed or not; -1 when there is none. */
  async #indexOfCopy(rotated: readonly FoundFile[], read: readonly TailedFile[]): Promise<number> {
    for (const file of read) {
      const copy = await this.#copyOf(rotated, file);
      if (copy) return rotated.indexOf(copy);
    }
    return -1;
  }

  async #copyOf(rotated: readonly FoundFile[], { at, place }: TailedFile): Promise<FoundFile | undefined> {
    for (const found of rotated.toReversed()) {
      if (at === 0) continue;
      const file = await openAt(found, this.path, place, this.#options.folders);
      await file?.close();
      if (file) return found;
    }
    return undefined;
  }

  /** @param files oldest first */
  #addOld(files: readonly TailedFile[]): void {
    for (const file of files) {
      file.isOld = true;
      this.#push(file);
      // So that it is known for what it is even if it has no further line.
      this.#options.known.set(file.key, file.place);
      this.#options.outlet.move(file.position);
    }
  }

  #push(file: TailedFile): void {
    this.#files.push(file);
    this.#options.open.add(identityOf(file));
  }

  /** Lets go of files; they may be those of another log from now on. */
  async #letGo(files: readonly TailedFile[]): Promise<void> {
    this.#files = this.#files.filter((file) => !files.includes(file));
    for (const file of files) this.#options.open.delete(identityOf(file));
    await Promise.all(files.map((file) => file.close()));
  }

  async #isKnown(found: FoundFile): Promise<boolean> {
    const { known, open } = this.#options;
    if (open.has(identityOf(found))) return true;
    const position = known.get(found.key);
    const file = position && (await openAt(found, this.path, position, this.#options.folders));
    await file?.close();
    return file !== undefined;
  }

  async #isOver(file: TailedFile): Promise<boolean> {
    return (
      file.isCompressed ||
      (await file.isRemoved()) ||
      Date.now() - Number((await file.times()).writtenNs / 1_000_000n) > quietMs
    );
  }

  async #finish(file: TailedFile, buffer: Buffer): Promise<void> {
    while ((await file.read(buffer, (line) => this.#take(line), true)) === 'more');
    this.#options.known.set(file.key, file.place);
    if (await file.isRemoved()) await this.#moveToCopy(file);
    await this.#letGo([file]);
  }

  /** What was read is not to be read again from its copy, which is what compressing leaves. */
  async #moveToCopy(file: TailedFile): Promise<void> {
    const { known, outlet, folders } = this.#options;
    const copy = await this.#copyOf(await rotatedFrom(this.path, folders), file);
    if (copy) {
      known.set(copy.key, file.place);
      outlet.move({ key: copy.key, value: file.position.value });
    }
    this.#forget(file.key);
  }

  /** Rotation removes its oldest files some day; their positions must not pile up. */
  #forgetMissing(rotated: readonly FoundFile[]): void {
    const there = new Set([...rotated, ...this.#files].map(({ key }) => key));
    for (const [key, { path }] of [...this.#options.known]) {
      if (path === this.path && !there.has(key)) this.#forget(key);
    }
  }

  #forget(key: string): void {
    // Another file may have got the inode.
    if (this.#files.some((file) => file.key === key && !file.isOld)) return;
    this.#options.known.delete(key);
    this.#options.outlet.forget(key);
  }

  #take({ message, writtenMs, position }: TailedLine): void | Promise<void> {
    const { name, outlet } = this.#options;
    return outlet.deliver(
      {
        message,
        timestamp: writtenMs,
        source: { type: 'system', name },
        serviceName: name,
        isSystem: true,
        fields: { file: this.path },
      },
      position,
    );
  }
}
