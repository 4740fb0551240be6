import { randomUUID } from 'node:crypto';
import { forEachLine, type Overlap } from '@millrace/wire';
import type { Logger } from 'pino';
import {
  type JournalPart,
  maxToldJournals,
  type ReceivedLine,
  type Repeat,
  repeatKey,
  type ToldOverlaps,
} from '../store/repeats.ts';
import { longestDays, type Retention } from '../store/retention-plan.ts';
import type { RowRun } from '../store/row-format.ts';
import type { SeqRange } from '../store/seq-ranges.ts';
import type { Claim } from './claims.ts';
import { lineOffset } from './encoded-run.ts';
import { contentOf, type TimeSpan, timesOf } from './line-content.ts';
import { type Persistence, persistently } from './persistently.ts';
import { type Copies, Relations } from './relations.ts';

/** What overlaps need of the store; a LogStore has it. */
export interface OverlapStore {
  overlaps(device: string): Promise<ToldOverlaps[]>;
  saveOverlaps(told: { device: string; told: ToldOverlaps; token: string }): Promise<void>;
  timesOf(device: string, parts: readonly JournalPart[]): Promise<TimeSpan | undefined>;
  received(
    device: string,
    journals: readonly string[],
    timesMs: readonly number[],
  ): Promise<ReceivedLine[] | undefined>;
  saveRepeats(lines: {
    device: string;
    journal: string;
    repeats: readonly Repeat[];
    retentionDays: number;
    token: string;
  }): Promise<void>;
}

export interface OverlapBookOptions {
  store: OverlapStore;
  log: Logger;
  /** Resolves when all that was admitted of a device by now is committed. */
  settled: (device: string) => Promise<void>;
  /** How long lines of a device are kept. */
  retention: (device: string) => Retention;
  /** Devices with overlaps that are kept in memory. */
  maxDevices: number;
  retryMinMs: number;
  retryMaxMs: number;
}

/** What is known of a device whose journals overlap. */
interface DeviceOverlaps {
  /** What is known holds for as long as no other process has taken the device's lines. */
  readonly claim: Claim | undefined;
  readonly relations: Relations;
  /** Times of the lines of each journal that this process has seen since it knows of the overlaps. */
  readonly seen: Map<string, TimeSpan>;
  /** Times of what the store has of a journal's counterparts, once they were read. Anew when the relations change. */
  stored: Map<string, TimeSpan | undefined>;
  /** The end of what waits for its turn. */
  turn: Promise<void>;
}

/**
 * Recognises lines that come a second time under another journal id.
 *
 * After damage to its journal, or when a process dies while the disk fails, a device reads its sources again from
 * the last place that it knows, under a new id. What it had sent from there on is stored, and comes again. The
 * headers of the new id name the lines that it may repeat, see {@link Relations}. Lines are told apart by what they
 * are: place, stream, time and text. Of lines that are equal in all of these, as many are stored as there must have
 * been: within a journal all are different lines, and so are those of a journal and those before the places where
 * it was read on from others. A line is a repetition when without it enough are stored. So in whatever order
 * copies come, in the end as many are stored as were written.
 *
 * What was received is read from the store for each run of lines, hence nothing has to be kept in step with it:
 *
 *   1. runs that may repeat something take turns, per device;
 *   2. all that was admitted before is committed, so what the store shows is all there is;
 *   3. repeated lines are noted in the store, by their seq and content: from then on they count as received;
 *   4. the others are admitted like any line, and nothing is acknowledged before both are on disk.
 *
 * A crash behind any step leaves either the line unknown, and it is judged anew when it is sent again, or noted.
 *
 * A run that has no line from the time of its counterparts' lines cannot repeat any. That is nearly all of what a
 * device sends, and costs a look at the lines' times; devices without overlaps do not pay even that. Times are
 * noted as lines are looked at, before any waiting: of two runs that hold the same line at least the second sees
 * the first.
 */
export class OverlapBook {
  readonly #options: OverlapBookOptions;
  readonly #persistence: Persistence;
  readonly #closing = new AbortController();
  /** In the order of being heard of. */
  readonly #devices = new Map<string, DeviceOverlaps>();

  constructor(options: OverlapBookOptions) {
    this.#options = options;
    this.#persistence = { ...options, closing: this.#closing.signal };
  }

  /** Reads what is known of a device. @throws StoreError */
  async load(device: string, claim?: Claim): Promise<void> {
    const known = this.#devices.get(device);
    if (known && known.claim !== claim) this.#devices.delete(device);
    const told = await this.#options.store.overlaps(device);
    // The newest come first, and are to be forgotten last.
    for (const { journal, overlaps } of told.reverse()) this.#relate(device, journal, overlaps, claim);
  }

  /**
   * Whether a run must go through {@link exclusively} and {@link repeated}. Ask in the tick in which it is admitted
   * otherwise.
   *
   * @param told what the run's header names
   */
  mayRepeat(run: RowRun, told: readonly Overlap[], claim?: Claim): boolean {
    const { device, journal } = run;
    let known = this.#devices.get(device);
    if (!known && told.length === 0) return false;
    known ??= this.#add(device, claim);
    const counterparts = known.relations
      .of(journal)
      .filter(({ ownFrom }) => run.firstSeq + run.count > ownFrom);
    const isNew = told.length > 0 && !known.relations.has(journal);
    if (counterparts.length === 0 && !isNew) return false;
    const span = timesOf(run.lines);
    if (span) known.seen.set(journal, joined(known.seen.get(journal), span));
    if (isNew || !known.stored.has(journal)) return true;
    if (!span) return false;
    if (meet(known.stored.get(journal), span)) return true;
    return counterparts.some(({ other }) => meet(known.seen.get(other.journal), span));
  }

  /** Runs `work` when all work of the device that came before is done. */
  async exclusively<T>(device: string, work: () => Promise<T>): Promise<T> {
    const known = this.#devices.get(device) ?? this.#add(device);
    const before = known.turn;
    const turn = Promise.withResolvers<void>();
    known.turn = turn.promise;
    try {
      await before;
      return await work();
    } finally {
      turn.resolve();
    }
  }

  /** Remembers what the header of a journal's batch names, for good. @throws StoreError when closing */
  async learn(device: string, journal: string, told: readonly Overlap[]): Promise<void> {
    if (told.length === 0 || this.#devices.get(device)?.relations.has(journal)) return;
    // In memory first: a line of a counterpart that comes meanwhile is looked at.
    this.#relate(device, journal, told);
    const { store, log } = this.#options;
    const save = { device, told: { journal, overlaps: [...told] }, token: randomUUID() };
    await this.#ask(device, journal, () => store.saveOverlaps(save));
    log.info({ device, journal, overlaps: told }, 'a device reads lines again under another journal id');
  }

  /**
   * Which of the seqs `unknown` of a run hold lines that are stored already. Resolves when that is on disk.
   *
   * @throws StoreError when closing
   */
  async repeated(run: RowRun, unknown: readonly SeqRange[]): Promise<SeqRange[]> {
    const { device, journal } = run;
    const known = this.#devices.get(device);
    const counterparts = known?.relations.of(journal) ?? [];
    if (!known || counterparts.length === 0 || unknown.length === 0) return [];
    await this.#options.settled(device);
    const { store, retention } = this.#options;
    const parts = counterparts.map(({ other }) => other);
    const spans = known.stored;
    if (!spans.has(journal)) {
      spans.set(journal, await this.#ask(device, journal, () => store.timesOf(device, parts)));
    }
    const lines = linesOf(run, unknown);
    if (lines.length === 0) return [];
    const { relations } = known;
    const received = await this.#ask(device, journal, () =>
      store.received(
        device,
        relations.journals(),
        lines.map((line) => line.timestampMs),
      ),
    );
    if (!received) {
      // Clocks that stand still, or a sender that means harm. Stored twice is better than not at all.
      this.#options.log.warn({ device, journal }, 'too many lines of one moment to look for repetitions');
      return [];
    }
    const repeats = repeatsAmong(lines, journal, received, relations);
    if (repeats.length === 0) return [];
    // As long as the lines that they repeat, whichever level those have.
    const retentionDays = longestDays(retention(device));
    const save = { device, journal, repeats, retentionDays, token: randomUUID() };
    await this.#ask(device, journal, () => store.saveRepeats(save));
    return rangesOf(repeats);
  }

  close(): void {
    this.#closing.abort();
  }

  #ask<T>(device: string, journal: string, ask: () => Promise<T>): Promise<T> {
    return persistently(ask, this.#persistence, { device, journal });
  }

  #relate(device: string, journal: string, overlaps: readonly Overlap[], claim?: Claim): void {
    const known = this.#devices.get(device) ?? this.#add(device, claim);
    if (known.relations.has(journal)) return;
    known.relations.add(journal, overlaps);
    // Who is whose counterpart has changed. What is being read for the old ones goes into the old map.
    known.stored = new Map();
    const named = new Set(known.relations.journals());
    for (const seen of known.seen.keys()) if (!named.has(seen)) known.seen.delete(seen);
  }

  #add(device: string, claim?: Claim): DeviceOverlaps {
    const added: DeviceOverlaps = {
      claim,
      relations: new Relations(maxToldJournals),
      seen: new Map(),
      stored: new Map(),
      turn: Promise.resolve(),
    };
    this.#devices.set(device, added);
    if (this.#devices.size > this.#options.maxDevices) {
      // Whoever it is: its lines are stored at least once, and what is acknowledged is not sent again.
      for (const oldest of this.#devices.keys()) {
        this.#devices.delete(oldest);
        break;
      }
    }
    return added;
  }
}

/** The lines of a run that can be recognised. */
function linesOf(run: RowRun, seqs: readonly SeqRange[]): Repeat[] {
  const out: Repeat[] = [];
  for (const { from, to } of seqs) {
    const start = lineOffset(run.lines, 0, from - run.firstSeq);
    const end = lineOffset(run.lines, start, to - from + 1);
    forEachLine(run.lines.subarray(start, end), (line, index) => {
      const content = contentOf(line);
      if (content) {
        out.push({ seq: from + index, key: repeatKey(content), timestampMs: content.timestampMs });
      }
    });
  }
  return out;
}

/** Which of these lines of a journal need not be stored. */
function repeatsAmong(
  lines: readonly Repeat[],
  journal: string,
  received: readonly ReceivedLine[],
  relations: Relations,
): Repeat[] {
  const byKey = new Map<string, Copies>();
  const copiesOf = (key: string) => {
    const copies = byKey.get(key) ?? relations.count();
    byKey.set(key, copies);
    return copies;
  };
  for (const line of received) {
    const copies = copiesOf(line.key);
    copies.add(line);
    if (line.isStored) copies.stored++;
  }
  return lines.filter(({ seq, key }) => {
    const copies = copiesOf(key);
    copies.add({ journal, seq });
    if (copies.stored >= copies.distinct) return true;
    copies.stored++;
    return false;
  });
}

function rangesOf(repeats: readonly Repeat[]): SeqRange[] {
  const out: SeqRange[] = [];
  for (const { seq } of repeats) {
    const last = out.at(-1);
    if (last && last.to + 1 === seq) last.to = seq;
    else out.push({ from: seq, to: seq });
  }
  return out;
}

function joined(a: TimeSpan | undefined, b: TimeSpan): TimeSpan {
  return a ? { fromMs: Math.min(a.fromMs, b.fromMs), toMs: Math.max(a.toMs, b.toMs) } : b;
}

function meet(a: TimeSpan | undefined, b: TimeSpan): boolean {
  return a !== undefined && a.fromMs <= b.toMs && b.fromMs <= a.toMs;
}
