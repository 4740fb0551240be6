import { setTimeout as pause } from 'node:timers/promises';
import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import type { MemberHeader } from './member.ts';
import type { SegmentState, SegmentWriter } from './segment-writer.ts';
import type { SyncBudget } from './sync-budget.ts';

/** A batch that will not change any more, with its bytes for the segment. */
export interface SealedBatch {
  header: MemberHeader;
  member: Buffer;
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
  /** Called once the batches are durable. */
  committed: (batches: readonly SealedBatch[]) => void;
  log: Logger | undefined;
}

const coalesceMs = 2;
// Enough for good compression; at full speed this, not time, decides when a group is written.
const groupBytes = 1024 * 1024;
// Sources are slowed down when this much waits for the disk.
const maxWaitingBytes = 4 * 1024 * 1024;
const retryMs = 1000;

/**
 * Writes sealed batches in groups, one write and one sync each. While a group is on its way to the disk the next
 * one collects. When a group is due, the budget says.
 */
export class GroupCommit {
  readonly #options: GroupCommitOptions;
  readonly #closing = new AbortController();
  #sealed: SealedBatch[] = [];
  #sealedBytes = 0;
  /** Bytes of the group that is being written. */
  #writingBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #timerDueMs = Number.POSITIVE_INFINITY;
  #writing: Promise<void> | undefined;
  #drained: PromiseWithResolvers<void> | undefined;
  #urgent = false;
  syncs = 0;

  constructor(options: GroupCommitOptions) {
    this.#options = options;
  }

  add(batch: SealedBatch): void {
    this.#sealed.push(batch);
    this.#sealedBytes += batch.lineBytes;
  }

  /** Something new is open or sealed: makes sure that it is written in time. */
  schedule(urgent: boolean): void {
    this.#urgent ||= urgent;
    if (this.#writing || this.#closing.signal.aborted) return;
    if (this.#sealedBytes >= groupBytes) {
      void this.write();
      return;
    }
    const now = performance.now();
    const delayMs = this.#options.writer ? this.#options.budget.delayMs(now, this.#urgent) : 0;
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
    this.#writing ??= this.#writeGroup().finally(() => {
      this.#writing = undefined;
      if (this.#options.hasOpen() || this.#sealed.length > 0) this.schedule(false);
    });
    return this.#writing;
  }

  /** Writes nothing more. A write that is being retried is given up. */
  async close(): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#timer);
    this.#drained?.resolve();
    await this.#options.writer?.close();
  }

  async #writeGroup(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#timerDueMs = Number.POSITIVE_INFINITY;
    this.#options.seal();
    const batches = this.#sealed;
    if (batches.length === 0) return;
    this.#sealed = [];
    this.#writingBytes = this.#sealedBytes;
    this.#sealedBytes = 0;
    this.#urgent = false;
    const { writer } = this.#options;
    const written = !writer || (await this.#writeToDisk(writer, batches));
    this.#writingBytes = 0;
    if (!written) return;
    this.#options.committed(batches);
    if (this.#drained && this.#waitingBytes() < maxWaitingBytes) {
      this.#drained.resolve();
      this.#drained = undefined;
    }
  }

  /**
   * Tries until it succeeds: sources wait meanwhile, and what they read from keeps the lines. False when the
   * journal was closed before it did.
   */
  async #writeToDisk(writer: SegmentWriter, batches: readonly SealedBatch[]): Promise<boolean> {
    const members = batches.map((batch) => batch.member);
    // Cursors alone are not worth a sync: a lost one costs a repeated send, which the far end recognises.
    const sync = batches.some(({ header }) => header.count > 0 || header.positions);
    const first = batches[0]?.header.first ?? 1;
    for (let attempt = 1; !this.#closing.signal.aborted; attempt++) {
      try {
        await writer.write(members, sync, () => this.#options.stateBefore(first));
        if (sync) {
          this.syncs++;
          const lines = batches.reduce((sum, { header }) => sum + header.count, 0);
          this.#options.budget.spend(performance.now(), lines);
        }
        for (const { header } of batches) writer.extend(header.first + header.count - 1);
        return true;
      } catch (error) {
        if (attempt === 1 || attempt % 60 === 0) {
          this.#options.log?.error(
            { error: errorText(error) },
            'journal: cannot write; capture waits until it can',
          );
        }
        await pause(retryMs, undefined, { signal: this.#closing.signal }).catch(() => {});
      }
    }
    return false;
  }

  #waitingBytes(): number {
    return this.#options.openBytes() + this.#sealedBytes + this.#writingBytes;
  }
}
