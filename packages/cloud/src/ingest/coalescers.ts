import { Coalescer, type CoalescerOptions, type CommitStats, type FlightStore } from './coalescer.ts';

/** Where a store keeps the lines of different devices apart, so that trouble with some does not delay the others. */
export interface Lanes {
  readonly lanes?: readonly FlightStore[];
  laneOf?(device: string): number;
}

/** A coalescer for each lane of the store. A device's lines always go by the same. */
export class Coalescers {
  readonly all: readonly Coalescer[];
  readonly #laneOf: (device: string) => number;

  constructor({ store, ...options }: Omit<CoalescerOptions, 'store'> & { store: FlightStore & Lanes }) {
    const lanes = store.lanes ?? [store];
    // Together they hold as much as one would, as long as each can hold a flight and the next.
    const maxWaitingBytes = Math.max(options.maxWaitingBytes / lanes.length, 2 * options.maxFlightBytes);
    const share = lanes.length === 1 ? options.maxWaitingBytes : maxWaitingBytes;
    this.all = lanes.map((lane) => new Coalescer({ ...options, store: lane, maxWaitingBytes: share }));
    this.#laneOf = (device) => store.laneOf?.(device) ?? 0;
  }

  of(device: string): Coalescer {
    const [only] = this.all;
    if (this.all.length === 1 && only) return only;
    return this.all[this.#laneOf(device)] as Coalescer;
  }

  get waitingBytes(): number {
    return this.all.reduce((sum, { waitingBytes }) => sum + waitingBytes, 0);
  }

  /** Resolves when everything that was added by now is committed. Rejects when it never will be. */
  async settled(): Promise<void> {
    await Promise.all(this.all.map((coalescer) => coalescer.settled()));
  }

  commits(): CommitStats {
    const sum: CommitStats = { flights: 0, lines: 0, failures: 0, lastMs: 0, maxMs: 0, totalMs: 0 };
    for (const { commits } of this.all) {
      sum.flights += commits.flights;
      sum.lines += commits.lines;
      sum.failures += commits.failures;
      sum.lastMs = commits.lastMs || sum.lastMs;
      sum.maxMs = Math.max(sum.maxMs, commits.maxMs);
      sum.totalMs += commits.totalMs;
    }
    return sum;
  }

  async close(timeoutMs: number): Promise<void> {
    await Promise.all(this.all.map((coalescer) => coalescer.close(timeoutMs)));
  }
}
