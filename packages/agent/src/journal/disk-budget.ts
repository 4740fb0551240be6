import {
  countOf,
  errorText,
  type Level,
  type LevelCounts,
  levelRank,
  noLevels,
  sumLevels,
} from '@millrace/wire';
import type { Logger } from 'pino';
import type { DeviceClock } from '../clock/device-clock.ts';
import { orAborted } from '../delivery/pause.ts';
import type { JournalDisk } from './disk.ts';
import { MemberWindow } from './member-window.ts';
import type { Segment } from './segment.ts';
import { countLines, thinSegment } from './thinning.ts';

export interface DiskBudgetOptions {
  disk: JournalDisk;
  /** Oldest first; the last may be written to. This list is changed in place. */
  segments: Segment[];
  maxBytes: number;
  maxFileBytes: number;
  maxAgeMs: number;
  /** Everything through here is confirmed by every reader, and that is saved. */
  confirmed: () => number;
  clock: DeviceClock;
  log: Logger | undefined;
}

/** What was dropped whole. Positions, both included. */
interface Dropped {
  first: number;
  last: number;
  levels: LevelCounts;
}

/** Shed in this order, each time from the oldest segments on. */
const shedInOrder: readonly (readonly Level[])[] = [['debug'], ['debug', 'info']];
// Rewriting a segment to free less of it would wear the flash for little.
const minFreedShare = 1 / 8;
// A disk that could not take a thinned segment is not asked again for so long.
const pauseAfterFailureMs = 60_000;
// The agent's log goes into the journal: telling often would fill what is being emptied.
const tellIntervalMs = 3_600_000;
const maxDropped = 100;
// Thinned segments can be tiny, and each costs a look at every start.
const minMaxSegments = 1000;

/**
 * Keeps the journal's segments within their budget, beside the writing. When there is too much:
 *
 *   1. segments that every reader has confirmed are dropped, oldest first; then
 *   2. closed segments are thinned, oldest first: of `debug`, and when no more of that is worth it, of `info` as well;
 *   3. the oldest segment is dropped whole.
 *
 * While a segment is being rewritten lines go on being appended, up to one segment's size more than the budget; then
 * appending waits. What the rewritten one takes beside the old comes on top. When thinning fails (no room for that, most
 * likely), the oldest segment goes instead.
 */
export class DiskBudget {
  readonly #options: DiskBudgetOptions;
  readonly #closing = new AbortController();
  readonly #dropped: Dropped[] = [];
  #working: Promise<void> | undefined;
  /** Resolved after each segment that was thinned or dropped. */
  #step = Promise.withResolvers<void>();
  #thinAgainAtMs = Number.NEGATIVE_INFINITY;
  #toldAtMs = Number.NEGATIVE_INFINITY;
  /** Lines shed before every reader had confirmed them. */
  shed: LevelCounts = noLevels();
  /** Bytes written by thinning. */
  writtenBytes = 0;

  constructor(options: DiskBudgetOptions) {
    this.#options = options;
  }

  /** Starts to make room when there is too much. To be called after each write. */
  keep(): void {
    try {
      this.#dropExpired();
    } catch (error) {
      // What was written is written: it must not be written again.
      this.#options.log?.debug({ error: errorText(error) }, 'journal: an old segment could not be removed');
    }
    if (!this.#isOver(0) || this.#working || this.#closing.signal.aborted) return;
    this.#working = this.#makeRoom().finally(() => {
      this.#working = undefined;
    });
  }

  /** Waits while so much is to be shed that `bytes` more would be too much. */
  async room(bytes: number): Promise<void> {
    const { maxFileBytes } = this.#options;
    while (this.#working && this.#isOver(bytes - maxFileBytes) && !this.#closing.signal.aborted) {
      await orAborted(this.#step.promise, this.#closing.signal);
    }
  }

  /** Resolves when nothing more is to be shed at present. */
  async settled(): Promise<void> {
    await this.#working;
  }

  /** Stops, and resolves when the file that is being rewritten has been let go of. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#working;
  }

  /** Lines by level of what was dropped whole, when that is exactly what lay between two positions, both included. */
  droppedLevels(first: number, last: number): LevelCounts | undefined {
    let levels = noLevels();
    for (const dropped of this.#dropped) {
      if (dropped.first >= first && dropped.last <= last) levels = sumLevels(levels, dropped.levels);
    }
    return countOf(levels) === last - first + 1 ? levels : undefined;
  }

  #isOver(moreBytes: number): boolean {
    const { segments, maxBytes } = this.#options;
    if (segments.length <= 1) return false;
    if (this.#areTooMany()) return true;
    return segments.reduce((sum, segment) => sum + segment.bytes, 0) + moreBytes > maxBytes;
  }

  #areTooMany(): boolean {
    const { segments, maxBytes, maxFileBytes } = this.#options;
    return segments.length > Math.max(minMaxSegments, (4 * maxBytes) / maxFileBytes);
  }

  #dropExpired(): void {
    const { segments, clock, maxAgeMs } = this.#options;
    const [oldest, next] = segments;
    if (!oldest || !next) return;
    // A segment ends when the next one begins. A clock that jumped forward must not empty the journal at once: age
    // only ever takes one segment per write.
    const now = clock.wallMs;
    if (now - (clock.trueMs(next.openedMs, next.clock) ?? now) > maxAgeMs) this.#drop(oldest, 'age');
  }

  async #makeRoom(): Promise<void> {
    const { segments, log } = this.#options;
    while (this.#isOver(0) && !this.#closing.signal.aborted) {
      const kept = segments.slice(0, -1).find((segment) => !this.#marksEnd(segment));
      const oldest = this.#areTooMany() ? segments[0] : kept;
      if (!oldest) return;
      try {
        if (oldest.last <= this.#options.confirmed() || isEmpty(oldest)) this.#drop(oldest, 'size');
        else if (!(await this.#thin())) await this.#dropUnconfirmed(oldest);
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        log?.warn({ error: errorText(error) }, 'journal: no room could be made');
        return;
      } finally {
        this.#step.resolve();
        this.#step = Promise.withResolvers();
      }
    }
  }

  /** Thins the segment that comes next. False when there is none, or it failed. */
  async #thin(): Promise<boolean> {
    for (let next = await this.#next(); next; next = await this.#next()) {
      if (performance.now() < this.#thinAgainAtMs) return false;
      const { segment, pass } = next;
      this.#tell();
      segment.thinned = pass + 1;
      // A damaged segment stays as it is, and it is the next one's turn.
      if (await this.#rewrite(segment, (shedInOrder[pass] ?? []).map(levelRank))) return true;
      if (performance.now() < this.#thinAgainAtMs) segment.thinned = pass;
    }
    return false;
  }

  #tell(): void {
    if (performance.now() - this.#toldAtMs < tellIntervalMs) return;
    this.#toldAtMs = performance.now();
    this.#options.log?.warn('journal: it is full; debug lines are shed first, then info');
  }

  /** False when it failed; then nothing is rewritten for a while. */
  async #rewrite(segment: Segment, ranks: readonly number[]): Promise<boolean> {
    if (performance.now() < this.#thinAgainAtMs) return false;
    const { disk, log, confirmed } = this.#options;
    try {
      const { signal } = this.#closing;
      const wrote = (bytes: number) => {
        this.writtenBytes += bytes;
      };
      const thinned = await thinSegment({ disk, segment, ranks, confirmed: confirmed(), signal, wrote });
      // A damaged segment stays as it is.
      if (!thinned) return false;
      this.shed = sumLevels(this.shed, thinned.lost);
      const { bytes, levels } = thinned;
      // A new object, so that readers that stand in the old one look for their place again.
      this.#replace(segment, {
        ...segment,
        bytes,
        levels,
        shed: sumLevels(segment.shed ?? noLevels(), thinned.shed),
      });
      log?.debug({ segment: segment.name, bytes, before: segment.bytes }, 'journal: thinned a segment');
      return true;
    } catch (error) {
      if (this.#closing.signal.aborted) throw error;
      this.#thinAgainAtMs = performance.now() + pauseAfterFailureMs;
      log?.warn(
        { error: errorText(error) },
        'journal: a segment could not be thinned; the oldest is dropped instead',
      );
      return false;
    }
  }

  /** The oldest closed segment that is worth to be thinned in the first pass that has one. */
  async #next(): Promise<{ segment: Segment; pass: number } | undefined> {
    for (const [pass, levels] of shedInOrder.entries()) {
      for (const segment of this.#options.segments.slice(0, -1)) {
        if ((segment.thinned ?? 0) > pass) continue;
        const counts = await this.#levelsOf(segment);
        const total = countOf(counts);
        const freed = levels.reduce((sum, level) => sum + (counts[levelRank(level)] ?? 0), 0);
        if (freed > 0 && freed >= total * minFreedShare) return { segment, pass };
      }
    }
    return undefined;
  }

  /** Nothing is known of a segment that cannot be read, and it is not thinned. */
  async #levelsOf(segment: Segment): Promise<LevelCounts> {
    if (!segment.levels) {
      try {
        Object.assign(segment, await countLines(this.#options.disk, segment));
      } catch (error) {
        this.#options.log?.debug({ error: errorText(error) }, 'journal: a segment cannot be read');
        segment.thinned = shedInOrder.length;
      }
    }
    return segment.levels ?? noLevels();
  }

  /** True for what is left of the end of a journal id, which tells readers how far that went. */
  #marksEnd(segment: Segment): boolean {
    return isEmpty(segment) && this.#isEnd(segment) && segment.last > this.#options.confirmed();
  }

  #isEnd(segment: Segment): boolean {
    const { segments } = this.#options;
    return segments[segments.indexOf(segment) + 1]?.epoch !== segment.epoch;
  }

  async #dropUnconfirmed(oldest: Segment): Promise<void> {
    const { disk, confirmed } = this.#options;
    if (this.#isEnd(oldest) && !isEmpty(oldest) && (await this.#rewrite(oldest, [0, 1, 2, 3]))) return;
    const lost = await countLines(disk, oldest, confirmed()).catch(() => undefined);
    await this.#levelsOf(oldest);
    // It may have been dropped for its age meanwhile.
    if (!this.#options.segments.includes(oldest)) return;
    if (lost) this.shed = sumLevels(this.shed, lost.levels);
    if (!this.#isEnd(oldest) || isEmpty(oldest) || !this.#cutLines(oldest)) this.#drop(oldest, 'size');
  }

  /** Leaves nothing but a segment's snapshot, which takes no room beside it. After a restart its end is not known. */
  #cutLines(segment: Segment): boolean {
    const { disk } = this.#options;
    const members = new MemberWindow(disk, segment);
    let bytes = 0;
    for (let found = members.next(); found?.header.snapshot; found = members.next())
      bytes += found.bytes.length;
    if (bytes === 0 || members.damagedBytes > 0) return false;
    disk.truncate(segment.name, bytes);
    const { levels = noLevels(), shed = noLevels() } = segment;
    this.#replace(segment, { ...segment, bytes, levels: noLevels(), shed: sumLevels(levels, shed) });
    return true;
  }

  #drop(oldest: Segment, reason: 'age' | 'size'): void {
    const { disk, segments, log } = this.#options;
    disk.remove(oldest.name);
    segments.splice(segments.indexOf(oldest), 1);
    const { first, last, levels, shed } = oldest;
    if (levels) this.#dropped.push({ first, last, levels: sumLevels(levels, shed ?? noLevels()) });
    if (this.#dropped.length > maxDropped) this.#dropped.shift();
    log?.info({ segment: oldest.name, reason }, 'journal: dropped its oldest segment');
  }

  #replace(segment: Segment, by: Segment): void {
    const { segments } = this.#options;
    const index = segments.indexOf(segment);
    if (index >= 0) segments[index] = by;
    // Dropped for its age meanwhile: what was put in its place is nobody's.
    else this.#options.disk.remove(segment.name);
  }
}

/** Everything in it was shed. */
function isEmpty({ levels }: Segment): boolean {
  return levels !== undefined && countOf(levels) === 0;
}
