import { limits } from '@millrace/wire';
import type { Watermark } from '../store/marks.ts';
import { type SeqRange, SeqRanges } from '../store/seq-ranges.ts';
import type { Claim } from './claims.ts';
import { type Flight, later } from './flight.ts';

/** Past so many ranges the lowest gap of a journal counts as filled. */
const maxRanges = 10_000;
/** Most ranges in one acknowledgement. A message holds neighbours, so there is one nearly always. */
const maxNamedRanges = limits.maxAckRanges;

export interface Admittance {
  /** What is new, lowest first. */
  fresh: SeqRange[];
  /** The rest is known, but part of it only so far as it is in this flight: no acknowledgement before its commit. */
  after: Flight | undefined;
  /** Seqs that were skipped: the sender jumped ahead. */
  gap: SeqRange | undefined;
}

/**
 * What is known of one journal of one device. Every seq is in one of three states:
 *
 *   unknown ── admit, attach ──► pending ── its flight commits ──► stored
 *      └────── absorb: its line is stored under another journal's seq ──┘
 *
 * A seq leaves `unknown` in the same tick in which its line is put into a flight, so of two copies of a line, in
 * whatever order and over whatever connections they come, one is admitted. A flight that fails is retried with the
 * same lines and never falls back to unknown (see coalescer.ts). At first contact all states are read from the
 * store; a ledger without pending seqs can therefore be forgotten at any time.
 *
 * Acknowledging. `through` tells the sender: your cursor may stand here. What a sender has not sent it may still
 * owe, or have lost for good. Over HTTP, lines arrive in the order of sending or not at all, so everything up to
 * the last line received was sent, or will never be: gaps do not matter. Over MQTT a message in the middle can
 * get lost (a broker drops what it cannot queue, or has no subscriber for), and the sender still owes it. There
 * {@link provenThrough} stops at the first gap, until the sender goes back: after it started again from its cursor
 * at some seq, whatever is missing below that seq was acknowledged earlier or no longer exists.
 *
 * A sender with two lanes, a backlog and fresh lines, goes back all the time, and that conclusion is wrong. So an
 * acknowledgement over MQTT names what is stored as well, by {@link storedAround}, which concludes nothing; a sender
 * that has two lanes goes by it alone.
 */
export class Ledger {
  readonly device: string;
  readonly journal: string;
  /** By what right it is kept, where there are several processes. */
  readonly claim: Claim | undefined;
  readonly #known: SeqRanges;
  #pending: (SeqRange & { flight: Flight })[] = [];
  /** Gaps up to here do not hold up acknowledgements over MQTT. */
  #excusedThrough = 0;
  #lastByMessage = 0;
  #highestByMessage = 0;

  constructor(device: string, journal: string, { max, holes }: Watermark, claim?: Claim) {
    this.device = device;
    this.journal = journal;
    this.claim = claim;
    this.#known = new SeqRanges();
    let from = 1;
    for (const hole of holes) {
      if (hole.from > from) this.#known.add(from, hole.from - 1);
      from = hole.to + 1;
    }
    if (max >= from) this.#known.add(from, max);
  }

  /** True while seqs are pending: then it must not be forgotten. */
  get busy(): boolean {
    this.#forgetCommitted();
    return this.#pending.length > 0;
  }

  /** Decides about the lines `from` to `to`. Each range in `fresh` must be {@link attach}ed in the same tick. */
  admit(from: number, to: number): Admittance {
    const { max } = this.#known;
    const fresh = this.#known.missing(from, to);
    const [first] = fresh;
    const allFresh = fresh.length === 1 && first?.from === from && first.to === to;
    let after: Flight | undefined;
    if (!allFresh) {
      this.#forgetCommitted();
      for (const pending of this.#pending) {
        if (pending.from <= to && pending.to >= from) after = later(after, pending.flight);
      }
    }
    const gap = max > 0 && from > max + 1 ? { from: max + 1, to: from - 1 } : undefined;
    return { fresh, after, gap };
  }

  /** These seqs are in a flight now. Returns a gap that was given up for want of memory. */
  attach({ from, to }: SeqRange, flight: Flight): SeqRange | undefined {
    this.#known.add(from, to);
    const last = this.#pending.at(-1);
    if (last && last.flight === flight && last.to + 1 === from) last.to = to;
    else {
      if (this.#pending.length >= 64) this.#forgetCommitted();
      this.#pending.push({ from, to, flight });
    }
    return this.#known.size > maxRanges ? this.#known.closeLowestGap() : undefined;
  }

  /** These lines are stored under another journal's seqs, and the store says so (see overlaps.ts). */
  absorb({ from, to }: SeqRange): void {
    this.#known.add(from, to);
    if (this.#known.size > maxRanges) this.#known.closeLowestGap();
  }

  /** Notes that a message with these lines came. `redelivered`: the broker says that it repeats itself. */
  noteMessage(first: number, last: number, redelivered: boolean): void {
    if (first <= this.#lastByMessage && !redelivered) {
      this.#excusedThrough = Math.max(this.#excusedThrough, first - 1);
    }
    this.#lastByMessage = last;
    this.#highestByMessage = Math.max(this.#highestByMessage, last);
  }

  /** Up to where everything that a sender of messages may still owe is stored; 0 for nothing. */
  provenThrough(): number {
    this.#forgetCommitted();
    let through = this.#known.firstMissing(this.#excusedThrough) - 1;
    for (const { from } of this.#pending) through = Math.min(through, from - 1);
    through = Math.min(through, this.#highestByMessage);
    // Nothing but excused gaps is no reason to say anything.
    return this.#known.has(through) ? through : 0;
  }

  /** What is stored of the seqs `first` to `last`, each range as far as it reaches beyond them; bounded. */
  storedAround(first: number, last: number): SeqRange[] {
    this.#forgetCommitted();
    const out: SeqRange[] = [];
    for (const { from, to } of this.#known.touching(first, last, maxNamedRanges)) {
      let next = from;
      const pending = this.#pending.filter((range) => range.to >= from && range.from <= to);
      for (const hole of pending.sort((a, b) => a.from - b.from)) {
        if (hole.from > next) out.push({ from: next, to: hole.from - 1 });
        next = Math.max(next, hole.to + 1);
      }
      if (next <= to) out.push({ from: next, to });
    }
    return out.filter(({ from, to }) => to >= first && from <= last).slice(0, maxNamedRanges);
  }

  #forgetCommitted(): void {
    // Flights commit in order and are attached in order.
    let committed = 0;
    while (this.#pending[committed]?.flight.state === 'committed') committed++;
    if (committed > 0) this.#pending = this.#pending.slice(committed);
  }
}
