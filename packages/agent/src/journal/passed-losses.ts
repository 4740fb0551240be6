import { type LevelCounts, sumLevels } from '@millrace/wire';
import { linePosition, splitPosition } from './segment.ts';

/** Lines that a reader will never get. */
export interface Loss {
  count: number;
  /** By level, where that is known. */
  levels?: LevelCounts;
  /** Seqs, inclusive: of the first and the last line lost. Lines in between may have been delivered. */
  first: number;
  last: number;
  epoch: number;
  cause: PassedGap['cause'] | 'refused';
}

/** Neighbouring lines that a reader has passed without getting them. Positions, both included. */
export interface PassedGap {
  first: number;
  last: number;
  levels?: LevelCounts;
  /** `shed` one by one, `dropped` with all around them. */
  cause: 'shed' | 'dropped' | 'damaged';
}

/** Positions, both included. */
interface Span {
  from: number;
  to: number;
}

// Lines that were shed further apart than this make two records.
const maxApart = 2000;
// A longer stretch makes several: after a crash it is read again as far as it is not on record.
const maxStretchLines = 50_000;

/**
 * What a reader has passed and will never get, until it is on record. A gap is *passed* when it was read over; it is
 * *final* when everything in front of it is confirmed. Only then it is recorded: a reader that starts again behind
 * what was confirmed reads anew what is missing by then. Records are few: final gaps are gathered into one for as
 * long as more follow nearby.
 *
 * So that a crash makes a record neither missing nor double, the place that is saved for the reader stays in front of
 * what is gathered ({@link savedPosition}) until the record is in the journal.
 */
export class PassedLosses {
  #passed: PassedGap[] = [];
  #gathered: (Loss & { lastPosition: number }) | undefined;
  /** Lines lost, on record or not. */
  lines = 0;

  pass(gap: PassedGap): void {
    this.#passed.push(gap);
    this.lines += linesOf(gap);
  }

  /** The reader starts again behind `confirmed`, but does not read what lies in `islands`. */
  rewind(confirmed: number, islands: readonly Span[]): void {
    this.#keep((gap) => gap.last <= confirmed || islands.some((island) => isWithin(gap, island)));
  }

  /** An island is read again after all. */
  forget(island: Span | undefined): void {
    if (island) this.#keep((gap) => !isWithin(gap, island));
  }

  /** Takes over what a lane has passed up to `confirmed`. */
  adopt(lane: PassedLosses, confirmed: number): void {
    for (const gap of lane.#passed) if (gap.last <= confirmed) this.pass(gap);
    this.#passed.sort((a, b) => a.first - b.first);
  }

  /** Everything up to `position` is confirmed. Returns what is to be put on record, in order. */
  confirm(position: number): Loss[] {
    const due: Loss[] = [];
    let final = 0;
    for (const gap of this.#passed) {
      if (gap.last > position) break;
      due.push(...this.#gather(gap));
      final++;
    }
    if (final > 0) this.#passed = this.#passed.slice(final);
    const loss = this.#gathered;
    if (!loss) return due;
    const isOver = position - loss.lastPosition > maxApart || loss.last - loss.first > maxStretchLines;
    return isOver ? [...due, ...this.settle()] : due;
  }

  /** What was gathered is to be put on record now: the reader is at the end, or time is up. */
  settle(): Loss[] {
    if (!this.#gathered) return [];
    const { lastPosition: _, ...loss } = this.#gathered;
    this.#gathered = undefined;
    return [loss];
  }

  /** Where a reader must start after a crash that has confirmed everything up to `confirmed`. */
  savedPosition(confirmed: number): number {
    const loss = this.#gathered;
    return loss ? Math.min(confirmed, linePosition(loss.epoch, loss.first - 1)) : confirmed;
  }

  #keep(stays: (gap: PassedGap) => boolean): void {
    this.#passed = this.#passed.filter((gap) => {
      if (stays(gap)) return true;
      this.lines -= linesOf(gap);
      return false;
    });
  }

  /** Adds to what was gathered; returns that when the gap does not belong to it. */
  #gather(gap: PassedGap): Loss[] {
    const { cause, levels } = gap;
    const first = splitPosition(gap.first);
    const last = splitPosition(gap.last).seq;
    const loss = this.#gathered;
    const isNear = loss && gap.first - loss.lastPosition <= maxApart;
    if (isNear && isOneStretch(loss.cause, cause) && !loss.levels === !levels) {
      loss.count += linesOf(gap);
      loss.last = last;
      loss.lastPosition = gap.last;
      if (cause === 'dropped') loss.cause = cause;
      if (loss.levels && levels) loss.levels = sumLevels(loss.levels, levels);
      return [];
    }
    const due = this.settle();
    this.#gathered = {
      ...{ count: linesOf(gap), first: first.seq, last, epoch: first.epoch, cause },
      ...(levels && { levels }),
      lastPosition: gap.last,
    };
    return due;
  }
}

/** Where lines are shed one by one, before long whole segments go. Each damage is on record by itself. */
function isOneStretch(a: Loss['cause'], b: Loss['cause']): boolean {
  return a !== 'damaged' && b !== 'damaged';
}

function isWithin({ first, last }: PassedGap, { from, to }: Span): boolean {
  return first >= from && last <= to;
}

function linesOf({ first, last }: PassedGap): number {
  return last - first + 1;
}
