import { StoreError } from '../store/engine.ts';
import type { Retention } from '../store/retention-plan.ts';
import { encodeRows, type RowRun } from '../store/row-format.ts';
import type { Claim } from './claims.ts';

/** Rows of consecutive lines of one device and journal, ready for the store. */
export interface EncodedRun {
  device: string;
  journal: string;
  firstSeq: number;
  count: number;
  /** Belong to the flight: once that has committed, other rows are written there. */
  rows: Buffer;
  retention: Retention;
  /** The right by which they were admitted, where there are several processes. */
  claim?: Claim;
  /** How often the store refused these very rows: each time they are made plainer. */
  refusals: number;
}

export type FlightState = 'collecting' | 'queued' | 'committed' | 'abandoned';

/**
 * The rows that go to the store in one insert. Flights are committed in the order of their numbers, so whoever
 * waits for one knows that all earlier ones are on disk too.
 */
export class Flight {
  readonly number: number;
  /** Time of arrival of all its lines. No two flights of a process share one: it tells later which lines made it. */
  readonly receivedMs: number;
  /** Settles with the commit. Rejects only when ingest is closed before the store took it. */
  readonly done: Promise<void>;
  readonly #settle: PromiseWithResolvers<void>;
  readonly #arena: Buffer;
  /** True while the rows of all runs lie in the arena one behind the other. */
  #isWhole = true;
  runs: EncodedRun[] = [];
  bytes = 0;
  lines = 0;
  state: FlightState = 'collecting';

  /** @param options.arena where the rows go, as far as there is room */
  constructor(options: { number: number; receivedMs: number; arena: Buffer }) {
    this.#arena = options.arena;
    this.number = options.number;
    this.receivedMs = options.receivedMs;
    this.#settle = Promise.withResolvers<void>();
    this.done = this.#settle.promise;
    // Whoever waits gets the rejection; that nobody waits is no error.
    this.done.catch(() => undefined);
  }

  add(run: RowRun, retention: Retention, claim?: Claim): EncodedRun {
    const stamp = { receivedMs: this.receivedMs, retention };
    const rows = encodeRows(run, stamp, this.#isWhole ? this.#arena.subarray(this.bytes) : undefined);
    if (rows.buffer !== this.#arena.buffer) this.#isWhole = false;
    const { device, journal, firstSeq, count } = run;
    const encoded: EncodedRun = { device, journal, firstSeq, count, rows, retention, claim, refusals: 0 };
    this.runs.push(encoded);
    this.bytes += rows.length;
    this.lines += count;
    return encoded;
  }

  /** The rows of some of its runs, or of their parts, in one piece; a view where that can be had. */
  rowsOf(runs: readonly EncodedRun[]): Buffer {
    if (this.#isWhole && runs === this.runs) return this.#arena.subarray(0, this.bytes);
    return Buffer.concat(runs.map((run) => run.rows));
  }

  /** Returns the arena, which nobody reads any more; none when the flight was abandoned. */
  commit(): Buffer | undefined {
    if (this.state === 'abandoned') return undefined;
    this.state = 'committed';
    this.runs = [];
    this.#settle.resolve();
    return this.#arena;
  }

  abandon(): void {
    if (this.state === 'committed') return;
    this.state = 'abandoned';
    this.runs = [];
    this.#settle.reject(new StoreError('closed before the store took everything'));
  }
}

/** The later of two flights; either may be missing. */
export function later(a: Flight | undefined, b: Flight | undefined): Flight | undefined {
  if (!a || !b) return a ?? b;
  return a.number > b.number ? a : b;
}
