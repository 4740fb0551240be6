import { randomBytes } from 'node:crypto';
import {
  defaultLevel,
  encodeLine,
  type LevelCounts,
  type LogInput,
  levelRank,
  limits,
  MillraceError,
} from '@millrace/wire';
import { EncodedBatch } from './feed-batch.ts';
import type { Feed, FeedBatch, FeedLag } from './types.ts';

export interface MemoryFeedOptions {
  /** Most bytes of encoded lines held; at least one batch. Default 16 MiB. */
  maxBytes?: number;
  /** Most lines held. Default 50 000. */
  maxLines?: number;
}

/** Lines that were shed. `count` may be less than the range holds: an earlier loss line is not counted. */
interface Loss {
  first: number;
  last: number;
  count: number;
}

/** Consecutive lines that were shed after they had been handed out; or one, that tells of a loss. */
interface ShedRun {
  first: number;
  last: number;
  loss?: Loss;
}

interface Entry {
  /** The encoded line, newline included. */
  text: string;
  bytes: number;
  /** Position of its level in the header's counts. */
  rank: number;
  /** Set when this is the line that tells of a loss. */
  loss?: Loss;
}

// The header line that shares `limits.maxBatchBytes` with the lines.
const headerBytes = 256;

/**
 * A feed without a journal: the newest lines in memory, until they are acknowledged. When it is full the oldest
 * go, and a line "lost N lines, seq a–b: memory full" takes their place at the end.
 *
 * Seqs of the lines held are consecutive: `#base` is the oldest one's, `#next` that of the next line to hand out.
 * A line that is shed after it was handed out may still arrive; it counts as lost only once the reader starts
 * again without an acknowledgement of it.
 */
export class MemoryFeed implements Feed {
  /** Random for each feed, since its seqs start at 1. */
  readonly journal = newJournalId();
  readonly #maxBytes: number;
  readonly #maxLines: number;
  #entries: Entry[] = [];
  /** Entries before this index are gone; they are cut off now and then rather than one by one. */
  #head = 0;
  #bytes = 0;
  #base = 1;
  #next = 1;
  #unsure: ShedRun[] = [];
  #unreported: Loss | undefined;
  #lostLines = 0;
  #closed = false;
  #wake: (() => void) | undefined;

  constructor(options: MemoryFeedOptions = {}) {
    this.#maxBytes = options.maxBytes ?? 16 * 1024 * 1024;
    this.#maxLines = options.maxLines ?? 50_000;
    if (!(this.#maxBytes >= limits.maxBatchBytes)) {
      throw new MillraceError('OPTION_INVALID', `maxBytes must be at least ${limits.maxBatchBytes}`);
    }
    if (!(this.#maxLines >= 1)) throw new MillraceError('OPTION_INVALID', 'maxLines must be at least 1');
  }

  /** Takes a line. Never waits and never refuses: what no longer fits is shed and counted. */
  log(message: LogInput): void {
    this.#append(message);
    while (this.#count > 1 && (this.#bytes > this.#maxBytes || this.#count > this.#maxLines)) this.#shed();
    this.#wakeReader();
  }

  async next(signal?: AbortSignal): Promise<FeedBatch | undefined> {
    for (;;) {
      if (this.#closed || signal?.aborted) return undefined;
      this.#reportLoss();
      if (this.#next < this.#base + this.#count) return this.#cut();
      await this.#wait(signal);
    }
  }

  ack(journal: string, seq: number): void {
    if (journal !== this.journal) return;
    const through = Math.min(seq, this.#next - 1);
    this.#unsure = this.#unsure.filter(({ last }) => last > through);
    for (const run of this.#unsure) run.first = Math.max(run.first, through + 1);
    while (this.#base <= through) this.#dropOldest();
  }

  rewind(): void {
    this.#next = this.#base;
    for (const run of this.#unsure) this.#lose(run);
    this.#unsure = [];
    this.#wakeReader();
  }

  lag(): FeedLag {
    return { lines: this.#count, lost: this.#lostLines };
  }

  /** Ends the feed: `next` returns `undefined` from now on. */
  close(): void {
    this.#closed = true;
    this.#wakeReader();
  }

  get #count(): number {
    return this.#entries.length - this.#head;
  }

  #append(message: LogInput, loss?: Loss): void {
    const text = `${encodeLine(message)}\n`;
    const rank = levelRank(message.level ?? defaultLevel(message.isStdErr ?? false));
    const bytes = Buffer.byteLength(text);
    this.#entries.push({ text, bytes, rank, loss });
    this.#bytes += bytes;
  }

  #dropOldest(): Entry {
    const entry = this.#entries[this.#head] as Entry;
    this.#head++;
    this.#base++;
    this.#bytes -= entry.bytes;
    if (this.#head > 1024 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
    return entry;
  }

  #shed(): void {
    const seq = this.#base;
    const { loss } = this.#dropOldest();
    if (seq >= this.#next) {
      this.#next = this.#base;
      this.#lose({ first: seq, last: seq, loss });
      return;
    }
    const newest = this.#unsure.at(-1);
    if (newest && !newest.loss && !loss && newest.last === seq - 1) newest.last = seq;
    else this.#unsure.push({ first: seq, last: seq, loss });
  }

  #lose({ first, last, loss }: ShedRun): void {
    const lines = last - first + 1;
    // What a shed loss line told of is told again, but was counted before.
    if (!loss) this.#lostLines += lines;
    const lost = loss ? { ...loss, last } : { first, last, count: lines };
    this.#unreported = merge(this.#unreported, lost);
  }

  #reportLoss(): void {
    const lost = this.#unreported;
    if (!lost) return;
    this.#unreported = undefined;
    this.#append(
      {
        message: `lost ${lost.count} lines, seq ${lost.first}–${lost.last}: memory full`,
        level: 'warn',
        source: { type: 'manager', name: 'manager' },
        timestamp: Date.now(),
      },
      lost,
    );
  }

  #cut(): FeedBatch {
    const levels: LevelCounts = [0, 0, 0, 0];
    const texts: string[] = [];
    let bytes = 0;
    const first = this.#next;
    for (let i = this.#head + first - this.#base; i < this.#entries.length; i++) {
      const entry = this.#entries[i] as Entry;
      bytes += entry.bytes;
      if (bytes > limits.maxBatchBytes - headerBytes || texts.length === limits.maxBatchLines) break;
      texts.push(entry.text);
      levels[entry.rank] = (levels[entry.rank] ?? 0) + 1;
    }
    this.#next += texts.length;
    const header = { journal: this.journal, first, count: texts.length, levels, sealed: Date.now() };
    return new EncodedBatch({ header, lines: Buffer.from(texts.join('')) });
  }

  async #wait(signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = () => resolve();
    this.#wake = wake;
    signal?.addEventListener('abort', wake, { once: true });
    await promise;
    signal?.removeEventListener('abort', wake);
  }

  #wakeReader(): void {
    const wake = this.#wake;
    if (!wake) return;
    this.#wake = undefined;
    // Lines that are logged in the same turn travel together.
    setImmediate(wake);
  }
}

function merge(earlier: Loss | undefined, later: Loss): Loss {
  if (!earlier) return later;
  return {
    first: Math.min(earlier.first, later.first),
    last: Math.max(earlier.last, later.last),
    count: earlier.count + later.count,
  };
}

/** 16 characters of `[0-9a-z]`. */
function newJournalId(): string {
  return BigInt(`0x${randomBytes(11).toString('hex')}`)
    .toString(36)
    .padStart(16, '0')
    .slice(-16);
}
