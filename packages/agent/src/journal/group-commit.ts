import { setTimeout as pause } from 'node:timers/promises';
import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import type { MemberHeader } from './member.ts';
import { lastSeq } from './segment.ts';
import type { SegmentState, SegmentWriter } from './segment-writer.ts';
import type { SyncBudget } from './sync-budget.ts';

/** A batch that will not change any more. */
export interface SealedBatch {
  header: MemberHeader;
  /** Its bytes for the segment, compressed at a level of zlib's. */
  encode: (level: number) => Buffer;
  /** Bytes of its lines, which count against the bounds. */
  lineBytes: number;
}

interface GroupCommitOptions {
  /** Absent for a journal in memory: batches are then committed as they come. */
  writer: SegmentWriter | undefined;
  budget: SyncBudget;
  /** Hands over what is open, when a group is about to be written. */
  seal: () => void;
  /** Bytes of lines that are not sealed yet. */
  openBytes: () => number;
  /** Whether anything is open, be it only a position. */
  hasOpen: () => boolean;
  /** The state right before line `nextSeq`, for a new segment's snapshot. */
  stateBefore: (nextSeq: number) => SegmentState;
  /** Called once the batches are durable; in an outage, at once. */
  committed: (batches: readonly SealedBatch[]) => void;
  /** The disk has been failing for `graceMs`: these batches, all that is sealed, will not be written as they are. */
  outage: (batches: readonly SealedBatch[], error: unknown) => void;
  /** What must be on disk before an outage is over. */
  retained: () => { members: Buffer[]; nextSeq: number };
  /** It is on disk. */
  resumed: () => void;
  /** How long writes may fail, with sources waiting, before the journal goes on in memory. */
  graceMs: number;
  /** Time between attempts while the disk fails. */
  retryMs: number;
  log: Logger | undefined;
}

const coalesceMs = 2;
// Enough for good compression; at full speed this, not time, decides when a group is written.
const groupBytes = 1024 * 1024;
/** So much in a group means that lines come by the thousand in a second. */
const busyBytes = 512 * 1024;
/** From this size on a batch has come to its end by its lines, and not by the clock. */
const fullBatchBytes = 64 * 1024;
// Measured: level 1 takes half the time for 8 % more bytes. With little to write the bytes count for more.
const busyLevel = 1;
const calmLevel = 6;
// Sources are slowed down when this much waits for the disk.
const maxWaitingBytes = 4 * 1024 * 1024;

/**
 * Writes sealed batches in groups, one write and one sync each. While a group is on its way to the disk the next
 * one collects. When a group is due, the budget says. Three states:
 *
 *   disk ── a write fails ──► failing ── for graceMs ──► outage ── what is retained could be written ──► disk
 *                               └── a retry succeeds ──► disk
 *
 * While failing, sources wait: what they read from keeps the lines. In an outage, groups are committed in memory.
 */
export class GroupCommit {
  readonly #options: GroupCommitOptions;
  readonly #closing = new AbortController();
  #sealed: SealedBatch[] = [];
  #sealedBytes = 0;
  /** Bytes of the group that is being written. */
  #writingBytes = 0;
  /** Bytes of the group before the one that collects. */
  #lastBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #timerDueMs = Number.POSITIVE_INFINITY;
  #writing: Promise<void> | undefined;
  #drained: PromiseWithResolvers<void> | undefined;
  #urgent = false;
  #probe: NodeJS.Timeout | undefined;
  /** The disk cannot be written; what is committed is only in memory. */
  inOutage = false;
  syncs = 0;

  constructor(options: GroupCommitOptions) {
    this.#options = options;
  }

  add(batch: SealedBatch): void {
    this.#sealed.push(batch);
    this.#sealedBytes += batch.lineBytes;
  }

  /**
   * The level at which a batch of so many bytes is to be compressed at once; `undefined` when it is better to wait and
   * see what the group will be, or if it will be written at all.
   */
  levelNow(lineBytes: number): number | undefined {
    if (!this.#options.writer || this.inOutage || lineBytes < fullBatchBytes) return undefined;
    const groupSoFar = Math.max(this.#lastBytes, this.#sealedBytes + lineBytes);
    return groupSoFar >= busyBytes ? busyLevel : undefined;
  }

  /** Something new is open or sealed: makes sure that it is written in time. */
  schedule(urgent: boolean): void {
    this.#urgent ||= urgent;
    if (this.#writing || this.#closing.signal.aborted) return;
    if (this.#sealedBytes >= groupBytes) {
      // What is open will be a whole batch in a moment; cut short, it would be worth less to the compressor.
      void this.#alone(() => this.#writeGroup({ andOpen: false }));
      return;
    }
    const now = performance.now();
    const delayMs =
      this.#options.writer && !this.inOutage ? this.#options.budget.delayMs(now, this.#urgent) : 0;
    const due = now + Math.max(coalesceMs, delayMs);
    if (this.#timer && this.#timerDueMs <= due) return;
    clearTimeout(this.#timer);
    this.#timerDueMs = due;
    this.#timer = setTimeout(() => void this.write(), due - now);
  }

  /** A promise while too much waits for the disk. */
  ready(): Promise<void> | undefined {
    if (this.#waitingBytes() < maxWaitingBytes) return undefined;
    this.#drained ??= Promise.withResolvers();
    return this.#drained.promise;
  }

  /** Writes what is there now; joins the write that is under way, if one is. */
  write(): Promise<void> {
    return this.#alone(() => this.#writeGroup({ andOpen: true }));
  }

  #alone(work: () => Promise<void>): Promise<void> {
    this.#writing ??= work().finally(() => {
      this.#writing = undefined;
      if (this.#options.hasOpen() || this.#sealed.length > 0) this.schedule(false);
    });
    return this.#writing;
  }

  /** Writes nothing more. A write that is being retried is given up. */
  async close(): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#timer);
    clearTimeout(this.#probe);
    this.#drained?.resolve();
    await this.#options.writer?.close();
  }

  async #writeGroup({ andOpen }: { andOpen: boolean }): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#timerDueMs = Number.POSITIVE_INFINITY;
    if (andOpen) this.#options.seal();
    const batches = this.#sealed;
    if (batches.length === 0) return;
    this.#sealed = [];
    this.#writingBytes = this.#lastBytes = this.#sealedBytes;
    this.#sealedBytes = 0;
    // An error among the open lines still hurries.
    const urgent = andOpen && this.#urgent;
    if (andOpen) this.#urgent = false;
    const { writer } = this.#options;
    const written = !writer || this.inOutage || (await this.#writeToDisk(writer, batches, urgent));
    this.#writingBytes = 0;
    if (written) this.#options.committed(batches);
    if (this.#drained && this.#waitingBytes() < maxWaitingBytes) {
      this.#drained.resolve();
      this.#drained = undefined;
    }
  }

  /**
   * Tries for as long as the grace lasts. False when it ended in an outage, or the journal was closed.
   */
  async #writeToDisk(
    writer: SegmentWriter,
    batches: readonly SealedBatch[],
    urgent: boolean,
  ): Promise<boolean> {
    const level = this.#writingBytes >= busyBytes ? busyLevel : calmLevel;
    const members = batches.map((batch) => batch.encode(level));
    const startMs = performance.now();
    // Cursors alone are not worth a sync: a lost one costs a repeated send, which the far end recognises.
    const sync = batches.some(({ header }) => header.count > 0 || header.positions);
    const first = batches[0]?.header.first ?? 1;
    for (let attempt = 1; !this.#closing.signal.aborted; attempt++) {
      try {
        await writer.write(members, sync, () => this.#options.stateBefore(first));
        if (sync) {
          this.syncs++;
          const lines = batches.reduce((sum, { header }) => sum + header.count, 0);
          this.#options.budget.spend(performance.now(), lines, urgent);
        }
        for (const { header } of batches) writer.extend(lastSeq(header), header.levels);
        return true;
      } catch (error) {
        if (attempt === 1) {
          this.#options.log?.error(
            { error: errorText(error) },
            'journal: cannot write to disk; trying again',
          );
        }
        if (performance.now() - startMs >= this.#options.graceMs) {
          this.#beginOutage(batches, error);
          return false;
        }
        await pause(this.#options.retryMs, undefined, { signal: this.#closing.signal }).catch(() => {});
      }
    }
    return false;
  }

  #beginOutage(batches: readonly SealedBatch[], error: unknown): void {
    const sealed = [...batches, ...this.#sealed];
    this.#sealed = [];
    this.#sealedBytes = 0;
    this.#writingBytes = 0;
    this.inOutage = true;
    this.#options.outage(sealed, error);
    this.#probeLater();
  }

  #probeLater(): void {
    this.#probe = setTimeout(() => void this.tryDisk(), this.#options.retryMs);
    this.#probe.unref();
  }

  /** Ends an outage if the disk can be written by now. */
  async tryDisk(): Promise<void> {
    await this.#writing;
    if (this.#closing.signal.aborted) return;
    await this.#alone(() => this.#resume());
  }

  /** Writes what memory has kept. Meanwhile lines collect, to be written behind it. */
  async #resume(): Promise<void> {
    const { writer, seal, committed, retained, stateBefore } = this.#options;
    if (!writer) return;
    seal();
    committed(this.#sealed);
    this.#sealed = [];
    this.#sealedBytes = 0;
    const { members, nextSeq } = retained();
    try {
      await writer.write(members, true, () => stateBefore(nextSeq));
    } catch (error) {
      this.#options.log?.debug({ error: errorText(error) }, 'journal: still cannot write to disk');
      this.#probeLater();
      return;
    }
    this.syncs++;
    this.inOutage = false;
    this.#options.resumed();
  }

  #waitingBytes(): number {
    return this.#options.openBytes() + this.#sealedBytes + this.#writingBytes;
  }
}
