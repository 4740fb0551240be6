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
  runs: EncodedRun[] = [];
  bytes = 0;
  lines = 0;
  state: FlightState = 'collecting';

  constructor(options: { number: number; receivedMs: number }) {
    this.number = options.number;
    this.receivedMs = options.receivedMs;
    this.#settle = Promise.withResolvers<void>();
    this.done = this.#settle.promise;
    // Whoever waits gets the rejection; that nobody waits is no error.
    this.done.catch(() => undefined);
  }

  add(run: RowRun, retention: Retention, claim?: Claim): EncodedRun {
    const rows = encodeRows(run, { receivedMs: this.receivedMs, retention });
    const { device, journal, firstSeq, count } = run;
    const encoded: EncodedRun = { device, journal, firstSeq, count, rows, retention, claim, refusals: 0 };
    this.runs.push(encoded);
    this.bytes += rows.length;
    this.lines += count;
    return encoded;
  }

  commit(): void {
    if (this.state === 'abandoned') return;
    this.state = 'committed';
    this.runs = [];
    this.#settle.resolve();
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
