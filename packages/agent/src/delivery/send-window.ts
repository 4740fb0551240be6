import type { Pace, PacedParcel } from './pace.ts';

/** What may be under way at once. */
export interface SendWindowLimits {
  /** Parcels. */
  maxParcels: number;
  maxLines: number;
  maxBytes: number;
}

export interface SendWindowOptions extends SendWindowLimits {
  /** Every line of the journal up to and including `through` has arrived. */
  onAdvance: (journal: string, through: number) => void;
  /** Keeps the way short for others. */
  pace?: Pace;
}

/** Some lines on their way: one publish, one batch. Its lines need not be neighbours. */
export interface Parcel {
  readonly journal: string;
  /** Seq of its first line that has not arrived. */
  first: number;
  /** Seq of its last line. */
  last: number;
  /** Seqs of its lines that have not arrived, where they are known not to be neighbours. */
  runs?: (readonly [first: number, last: number])[];
  lines: number;
  bytes: number;
  state: 'gathering' | 'sent' | 'arrived';
  /** When it was sent, by `performance.now()`. */
  sentAtMs: number;
  paced?: PacedParcel;
}

/**
 * The lines that were read from a feed and have not arrived: bounds them, and knows up to where *all* have
 * arrived, whatever the order in which the confirmations come.
 *
 * Parcels are opened in the order of their first lines. So when the oldest parcel that has not arrived begins at
 * seq n, everything below n has arrived; when there is none, everything that was read has.
 *
 *   open() ─► gathering ─send()─► sent ─arrived(), ackThrough()─► arrived
 *
 * Only `sent` parcels count against the bounds: one that gathers lines is bounded by whoever gathers.
 */
export class SendWindow {
  readonly #limits: SendWindowLimits;
  readonly #pace: Pace | undefined;
  readonly #onAdvance: (journal: string, through: number) => void;
  /** Not arrived, or arrived behind one that has not; in the order of `first`. */
  #parcels: Parcel[] = [];
  /** The last line read of each journal, in order; all but the last journal are complete but for `#parcels`. */
  #read: { journal: string; through: number }[] = [];
  #reported = { journal: '', through: 0 };
  #underWay = 0;
  #lines = 0;
  #bytes = 0;
  #progressAtMs = performance.now();
  /** One set for windows side by side: what leaves one makes room in the other. */
  #waiting = new Set<() => void>();
  #beside: SendWindow | undefined;
  #reserved = 0;

  constructor({ onAdvance, pace, ...limits }: SendWindowOptions) {
    this.#limits = limits;
    this.#pace = pace;
    this.#onAdvance = onAdvance;
  }

  /**
   * A second window for the same connection, which together with this one never has more than `maxParcels` under
   * way. A quarter of them is kept for it until the handle is disposed of.
   */
  openBeside(options: Omit<SendWindowOptions, 'maxParcels'>): Disposable & { readonly window: SendWindow } {
    const { maxParcels } = this.#limits;
    const reserved = Math.max(1, Math.floor(maxParcels / 4));
    const window = new SendWindow({ ...options, maxParcels: reserved });
    window.#waiting = this.#waiting;
    window.#beside = this;
    this.#beside = window;
    this.#reserved = reserved;
    return {
      window,
      [Symbol.dispose]: () => {
        this.#beside = undefined;
        this.#reserved = 0;
        this.#notify();
      },
    };
  }

  /** Parcels sent and not arrived. */
  get underWay(): number {
    return this.#underWay;
  }

  /** True when every line that was read has arrived. */
  get empty(): boolean {
    return this.#parcels.length === 0;
  }

  get full(): boolean {
    const { maxParcels, maxLines, maxBytes } = this.#limits;
    if (this.#lines >= maxLines || this.#bytes >= maxBytes || this.#pace?.full) return true;
    if (this.#underWay >= Math.max(1, maxParcels - this.#reserved)) return true;
    const beside = this.#beside;
    if (!beside) return false;
    return this.#underWay + beside.underWay >= Math.max(maxParcels, beside.#limits.maxParcels);
  }

  /** For how long the oldest parcel under way has been overtaken by one sent after it, in ms: it may be lost. */
  get overtakenMs(): number {
    const [oldest] = this.#parcels;
    if (oldest?.state !== 'sent') return 0;
    const overtaken = this.#parcels.some(({ state }) => state === 'arrived');
    return overtaken ? performance.now() - oldest.sentAtMs : 0;
  }

  /** For how long nothing has arrived, or been taken, although something is under way, in ms. */
  get stalledMs(): number {
    return this.#underWay === 0 ? 0 : performance.now() - this.#progressAtMs;
  }

  /** Begins a parcel with the line `seq`, which must be the next one read. */
  open(journal: string, seq: number): Parcel {
    const parcel: Parcel = {
      ...{ journal, first: seq, last: seq, lines: 0, bytes: 0, state: 'gathering', sentAtMs: 0 },
    };
    this.#parcels.push(parcel);
    this.extend(parcel, seq);
    return parcel;
  }

  /** Adds to a parcel: its last line is now `seq`, the newest line that was read. */
  extend(parcel: Parcel, seq: number): void {
    parcel.last = seq;
    const newest = this.#read.at(-1);
    if (newest?.journal === parcel.journal) newest.through = seq;
    else this.#read.push({ journal: parcel.journal, through: seq });
  }

  /** The parcel leaves. */
  send(parcel: Parcel, size: { lines: number; bytes: number }): void {
    if (this.#underWay === 0) this.#progressAtMs = performance.now();
    parcel.state = 'sent';
    parcel.sentAtMs = performance.now();
    parcel.paced = this.#pace?.sent(size.bytes);
    parcel.lines = size.lines;
    parcel.bytes = size.bytes;
    this.#underWay++;
    this.#lines += size.lines;
    this.#bytes += size.bytes;
    this.#notify();
  }

  /** The next hop has the parcel, even if nobody knows yet whether it arrives: it is off the wire. */
  taken(parcel: Parcel): void {
    this.#progressAtMs = performance.now();
    if (!parcel.paced) return;
    this.#pace?.taken(parcel.paced);
    parcel.paced = undefined;
    this.#notify();
  }

  /** One parcel is confirmed. Does nothing for a parcel from before a {@link clear}. */
  arrived(parcel: Parcel): void {
    if (parcel.state !== 'sent') return;
    this.#leave(parcel);
    this.#advance();
  }

  /**
   * Everything of `journal` up to and including `through` is confirmed. More than was read is not believed. For
   * parcels of neighbouring lines only. Returns whether that was news.
   */
  ackThrough(journal: string, through: number): boolean {
    return this.ackRange(journal, 0, through);
  }

  /** The same for `first` to `last`, both included. */
  ackRange(journal: string, first: number, last: number): boolean {
    let news = false;
    for (const parcel of this.#parcels) {
      if (parcel.journal !== journal || parcel.state !== 'sent') continue;
      if (parcel.first > last) break;
      const left = without(parcel, first, last);
      if (!left) continue;
      news = true;
      const [next] = left;
      if (!next) this.#leave(parcel);
      else {
        parcel.first = next[0];
        if (parcel.runs) parcel.runs = left;
        this.#progressAtMs = performance.now();
      }
    }
    if (news) this.#advance();
    return news;
  }

  /** Everything that was sent is confirmed. */
  allArrived(): void {
    for (const parcel of this.#parcels) if (parcel.state === 'sent') this.#leave(parcel);
    this.#advance();
  }

  /** Forgets all: what is under way will be read again. */
  clear(): void {
    for (const parcel of this.#parcels) parcel.state = 'arrived';
    this.#parcels = [];
    this.#read = [];
    this.#underWay = 0;
    this.#lines = 0;
    this.#bytes = 0;
    this.#notify();
  }

  /** Waits until there is room for another parcel. `false` when the signal was aborted first. */
  async room(signal: AbortSignal): Promise<boolean> {
    while (this.full && !signal.aborted) await this.changed(signal);
    return !signal.aborted;
  }

  /** Waits for the next change, or for the signal. */
  async changed(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      const wake = () => {
        this.#waiting.delete(wake);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#waiting.add(wake);
      signal.addEventListener('abort', wake, { once: true });
    });
  }

  #leave(parcel: Parcel): void {
    if (parcel.state === 'sent') {
      this.#underWay--;
      this.#lines -= parcel.lines;
      this.#bytes -= parcel.bytes;
    }
    parcel.state = 'arrived';
    this.#progressAtMs = performance.now();
  }

  #advance(): void {
    let done = 0;
    while (this.#parcels[done]?.state === 'arrived') done++;
    if (done > 0) this.#parcels.splice(0, done);
    const oldest = this.#parcels[0];
    // A journal that was replaced by another is complete once no parcel of it is left.
    for (const read of [...this.#read]) {
      if (oldest?.journal === read.journal) {
        this.#report(read.journal, oldest.first - 1);
        break;
      }
      this.#report(read.journal, read.through);
      if (read === this.#read.at(-1)) break;
      this.#read.shift();
    }
    this.#notify();
  }

  #report(journal: string, through: number): void {
    if (through < 1 || (this.#reported.journal === journal && this.#reported.through >= through)) return;
    this.#reported = { journal, through };
    this.#onAdvance(journal, through);
  }

  #notify(): void {
    for (const wake of [...this.#waiting]) wake();
  }
}

/** The lines of a parcel that have not arrived once `first` to `last` have; `undefined` when that changes nothing. */
function without(parcel: Parcel, first: number, last: number): Parcel['runs'] {
  const { runs } = parcel;
  // Of neighbours those behind are confirmed with those before them.
  if (!runs) return parcel.first < first ? undefined : parcel.last <= last ? [] : [[last + 1, parcel.last]];
  if (!runs.some((run) => run[0] <= last && run[1] >= first)) return undefined;
  return runs.flatMap(([from, to]) => {
    const rest: [number, number][] = [
      [from, Math.min(to, first - 1)],
      [Math.max(from, last + 1), to],
    ];
    return rest.filter((run) => run[0] <= run[1]);
  });
}
