/** The seqs `from` to `to`, both included. */
export interface SeqRange {
  from: number;
  to: number;
}

/**
 * A set of seqs as sorted ranges that neither touch nor overlap. A journal that arrives in order is one range
 * whatever its length, so nearly all operations work on the last of one or two.
 */
export class SeqRanges {
  readonly #ranges: SeqRange[] = [];

  constructor(ranges: Iterable<SeqRange> = []) {
    for (const { from, to } of ranges) this.add(from, to);
  }

  /** How many ranges it takes: what the set costs in memory. */
  get size(): number {
    return this.#ranges.length;
  }

  /** The highest seq, or 0. */
  get max(): number {
    return this.#ranges.at(-1)?.to ?? 0;
  }

  [Symbol.iterator](): Iterator<SeqRange> {
    return this.#ranges[Symbol.iterator]();
  }

  add(from: number, to: number): void {
    const ranges = this.#ranges;
    const last = ranges.at(-1);
    if (!last || from > last.to + 1) {
      ranges.push({ from, to });
      return;
    }
    if (from >= last.from) {
      last.to = Math.max(last.to, to);
      return;
    }
    // The first range that touches or follows [from, to], and the first behind those that touch it.
    let start = this.#firstEndingAtOrAfter(from - 1);
    const first = ranges[start] as SeqRange;
    let low = from;
    let high = to;
    const begin = start;
    if (first.from <= to + 1) low = Math.min(low, first.from);
    while (start < ranges.length && (ranges[start] as SeqRange).from <= to + 1) {
      high = Math.max(high, (ranges[start] as SeqRange).to);
      start++;
    }
    ranges.splice(begin, start - begin, { from: low, to: high });
  }

  has(seq: number): boolean {
    const range = this.#ranges[this.#firstEndingAtOrAfter(seq)];
    return range !== undefined && range.from <= seq;
  }

  /** The parts of [from, to] that are not in the set, lowest first. */
  missing(from: number, to: number): SeqRange[] {
    if (from > this.max) return [{ from, to }];
    const out: SeqRange[] = [];
    let next = from;
    for (let i = this.#firstEndingAtOrAfter(from); next <= to && i < this.#ranges.length; i++) {
      const range = this.#ranges[i] as SeqRange;
      if (range.from > to) break;
      if (range.from > next) out.push({ from: next, to: range.from - 1 });
      next = range.to + 1;
    }
    if (next <= to) out.push({ from: next, to });
    return out;
  }

  /** The ranges that have a seq in [from, to], whole, lowest first; `most` of them. */
  touching(from: number, to: number, most: number): SeqRange[] {
    const out: SeqRange[] = [];
    for (let i = this.#firstEndingAtOrAfter(from); i < this.#ranges.length && out.length < most; i++) {
      const range = this.#ranges[i] as SeqRange;
      if (range.from > to) break;
      out.push({ ...range });
    }
    return out;
  }

  /** The lowest seq above `after` that is not in the set. */
  firstMissing(after: number): number {
    const range = this.#ranges[this.#firstEndingAtOrAfter(after + 1)];
    return range && range.from <= after + 1 ? range.to + 1 : after + 1;
  }

  /** Fills the lowest gap, for when the set would grow past a bound. Returns what was filled. */
  closeLowestGap(): SeqRange | undefined {
    const [first, second] = this.#ranges;
    if (!first || !second) return undefined;
    const filled = { from: first.to + 1, to: second.from - 1 };
    this.#ranges.splice(0, 2, { from: first.from, to: second.to });
    return filled;
  }

  #firstEndingAtOrAfter(seq: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ranges[middle] as SeqRange).to < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
