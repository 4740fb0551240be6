import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import { StoreError } from '../store/engine.ts';
import type { JournalSeqs } from '../store/marks.ts';
import type { Retention } from '../store/retention-plan.ts';
import type { RowRun } from '../store/row-format.ts';
import type { Claim } from './claims.ts';
import { plainerLine, sliceRun, withoutStored } from './encoded-run.ts';
import { type EncodedRun, Flight } from './flight.ts';
import { RowArenas } from './row-arenas.ts';

/** What the coalescer needs of the store. */
export interface FlightStore {
  append(
    rows: Buffer,
    options: { rows: number; token: string; claims?: ReadonlyMap<number, number> },
  ): Promise<void>;
  storedAt(receivedMs: number): Promise<JournalSeqs[]>;
  /** The newest claim on each slot; where claims are given along, only. */
  fences?(): Promise<Map<number, number>>;
}

export interface CoalescerOptions {
  store: FlightStore;
  log: Logger;
  /** A flight this large leaves at once. */
  maxFlightBytes: number;
  /** How long the first line after a quiet spell waits for company. */
  lingerMs: number;
  /** Past so many bytes on their way {@link Coalescer.room} makes senders wait. */
  maxWaitingBytes: number;
  /** Pause after a failure; doubled each time, up to `retryMaxMs`. */
  retryMinMs: number;
  retryMaxMs: number;
  /** Called with each flight that was committed: how long that took. */
  onCommit?: (tookMs: number) => void;
}

export interface CommitStats {
  flights: number;
  lines: number;
  failures: number;
  lastMs: number;
  maxMs: number;
  totalMs: number;
}

/** What most runs become as rows: a slice of a stream, and some more for each line's columns. */
const runBytes = 128 * 1024;

/**
 * Collects the rows of all devices into flights and commits one after the other.
 *
 *   collecting ── large or old enough ──► queued ── insert succeeds ─────────────────────────► committed
 *                                           │ ▲                                                    ▲
 *                                  it fails ▼ │ some are missing: after a pause, those again       │
 *                                        checking ── all are stored after all ─────────────────────┘
 *
 * Checking asks the store which lines carry the flight's time of arrival. So neither an insert that reported
 * failure and yet happened, nor half of one, leads to a line stored twice or not at all. Rows that the store
 * refuses are divided until the line at fault is alone, and that one is made plainer. Rows that were admitted under a
 * claim that another process has taken over are dropped: it will get them again, since nobody acknowledges them here.
 * All this repeats for as long as it takes. Only {@link close} gives up: what it abandons was never acknowledged.
 */
export class Coalescer {
  readonly #options: CoalescerOptions;
  readonly #instance = randomBytes(6).toString('hex');
  readonly #queue: Flight[] = [];
  readonly #arenas: RowArenas;
  readonly #waiters: (() => void)[] = [];
  readonly #closing = new AbortController();
  #current: Flight | undefined;
  #busy = false;
  #linger: NodeJS.Timeout | undefined;
  #flights = 0;
  #tokens = 0;
  #lastReceivedMs = 0;
  #waitingBytes = 0;
  readonly commits: CommitStats = { flights: 0, lines: 0, failures: 0, lastMs: 0, maxMs: 0, totalMs: 0 };

  constructor(options: CoalescerOptions) {
    this.#options = options;
    // One is being filled while another is inserted. A flight is full once it is past its limit, by a run at most.
    this.#arenas = new RowArenas({ bytes: options.maxFlightBytes + runBytes, most: 2 });
  }

  /** Past so many bytes senders wait. */
  get maxWaitingBytes(): number {
    return this.#options.maxWaitingBytes;
  }

  /** Bytes of rows that are not committed yet. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Takes rows. Never waits: ask {@link room} first. */
  add(run: RowRun, retention: Retention, claim?: Claim): { flight: Flight; run: EncodedRun } {
    const flight = this.#collecting();
    const encoded = flight.add(run, retention, claim);
    this.#waitingBytes += encoded.rows.length;
    if (flight.bytes >= this.#options.maxFlightBytes) this.#seal();
    return { flight, run: encoded };
  }

  /** `undefined` when there is room, else a promise for when there is. Rejects when closed. */
  room(): Promise<void> | undefined {
    if (this.#closing.signal.aborted) return Promise.reject(new StoreError('ingest is closed'));
    if (this.#waitingBytes < this.#options.maxWaitingBytes) return undefined;
    return new Promise((resolve, reject) => {
      this.#waiters.push(() => {
        if (this.#closing.signal.aborted) reject(new StoreError('ingest is closed'));
        else resolve();
      });
    });
  }

  /** Resolves when everything that was added by now is committed. Rejects when it never will be. */
  async settled(): Promise<void> {
    await (this.#current ?? this.#queue.at(-1))?.done;
  }

  /** Commits what is held; gives up after `timeoutMs`, which rejects the flights left. */
  async close(timeoutMs: number): Promise<void> {
    this.#seal();
    const left = [...this.#queue];
    const timeout = new AbortController();
    const committed = Promise.allSettled(left.map((flight) => flight.done));
    await Promise.race([
      committed,
      pause(timeoutMs, undefined, { signal: timeout.signal }).catch(() => undefined),
    ]);
    timeout.abort();
    this.#closing.abort();
    for (const flight of [...this.#queue, ...(this.#current ? [this.#current] : [])]) flight.abandon();
    this.#wake();
  }

  #collecting(): Flight {
    if (this.#current) return this.#current;
    const closed = this.#closing.signal.aborted;
    this.#lastReceivedMs = Math.max(Date.now(), this.#lastReceivedMs + 1);
    const flight = new Flight({
      number: ++this.#flights,
      receivedMs: this.#lastReceivedMs,
      arena: this.#arenas.take(),
    });
    if (closed) {
      flight.abandon();
      return flight;
    }
    this.#current = flight;
    if (!this.#busy) this.#linger = setTimeout(() => this.#seal(), this.#options.lingerMs);
    return flight;
  }

  #seal(): void {
    clearTimeout(this.#linger);
    if (!this.#current) return;
    this.#current.state = 'queued';
    this.#queue.push(this.#current);
    this.#current = undefined;
    if (!this.#busy) void this.#work();
  }

  async #work(): Promise<void> {
    this.#busy = true;
    try {
      while (this.#queue[0] && !this.#closing.signal.aborted) {
        const flight = this.#queue[0];
        await this.#commit(flight);
        this.#queue.shift();
        // What collected meanwhile has waited long enough.
        if (this.#queue.length === 0) this.#seal();
      }
    } catch (error) {
      // Only closing ends the retries; close() abandons what is left.
      if (!this.#closing.signal.aborted) throw error;
    } finally {
      this.#busy = false;
    }
  }

  async #commit(flight: Flight): Promise<void> {
    const { bytes, lines } = flight;
    const start = performance.now();
    await this.#store(flight, flight.runs);
    const tookMs = performance.now() - start;
    const { commits } = this;
    commits.flights++;
    commits.lines += lines;
    commits.lastMs = tookMs;
    commits.maxMs = Math.max(commits.maxMs, tookMs);
    commits.totalMs += tookMs;
    this.#options.onCommit?.(tookMs);
    this.#waitingBytes -= bytes;
    const arena = flight.commit();
    if (arena) this.#arenas.give(arena);
    this.#wake();
  }

  async #store(flight: Flight, runs: EncodedRun[]): Promise<void> {
    let left = runs;
    let token = this.#token();
    for (let attempt = 0; left.length > 0; attempt++) {
      const claims = claimsOf(left);
      try {
        await this.#options.store.append(flight.rowsOf(left), {
          rows: left.reduce((sum, run) => sum + run.count, 0),
          token,
          ...(claims && { claims }),
        });
        return;
      } catch (error) {
        this.commits.failures++;
        if (error instanceof StoreError && error.fenced) {
          left = await this.#stillClaimed(left);
          token = this.#token();
          continue;
        }
        const refused = error instanceof StoreError && error.rowsRefused;
        this.#options.log.warn(
          { attempt, lines: flight.lines, refused, reason: errorText(error) },
          'log store: insert failed; nothing is lost, it is tried again',
        );
        const missing = await this.#missing(flight, left);
        // The same rows go under the same token, which guards once more against storing them twice.
        if (missing.length !== left.length || missing.some((run, i) => run !== left[i]))
          token = this.#token();
        left = missing;
        if (refused && left.length > 0) {
          const halves = divide(left);
          for (const half of halves) await this.#store(flight, half);
          if (halves.length > 0) return;
          left = [this.#plainer(left[0] as EncodedRun, flight)];
          token = this.#token();
        }
        if (!refused || (left[0]?.refusals ?? 0) > 2) await this.#pause(attempt);
      }
    }
  }

  #plainer(run: EncodedRun, flight: Flight): EncodedRun {
    this.#options.log.warn(
      { device: run.device, journal: run.journal, seq: run.firstSeq },
      'log store: a line was refused; it is kept in a plainer form',
    );
    return plainerLine(run, flight);
  }

  /** These runs without those whose claims are over. */
  async #stillClaimed(runs: EncodedRun[]): Promise<EncodedRun[]> {
    for (let attempt = 0; ; attempt++) {
      try {
        const newest = await this.#options.store.fences?.();
        for (const { claim } of runs) {
          if (claim && (newest?.get(claim.slot) ?? 0) > claim.epoch) claim.lose();
        }
        const left = runs.filter(({ claim }) => claim?.state !== 'lost');
        const dropped = runs.filter(({ claim }) => claim?.state === 'lost');
        const lines = dropped.reduce((sum, { count }) => sum + count, 0);
        this.#options.log.warn({ lines }, 'another process took devices over: their lines come again, there');
        return left;
      } catch (error) {
        this.#options.log.warn({ attempt, reason: errorText(error) }, 'log store: does not answer');
        await this.#pause(attempt);
      }
    }
  }

  /** Of these runs, what the store does not have. Asks until it answers. */
  async #missing(flight: Flight, runs: EncodedRun[]): Promise<EncodedRun[]> {
    for (let attempt = 0; ; attempt++) {
      try {
        const stored = new Map<string, Set<number>>();
        for (const { device, journal, seqs } of await this.#options.store.storedAt(flight.receivedMs)) {
          stored.set(`${journal} ${device}`, new Set(seqs));
        }
        return runs.flatMap((run) => {
          const seqs = stored.get(`${run.journal} ${run.device}`);
          return seqs ? withoutStored(run, seqs) : [run];
        });
      } catch (error) {
        this.#options.log.warn({ attempt, reason: errorText(error) }, 'log store: does not answer');
        await this.#pause(attempt);
      }
    }
  }

  /** @throws StoreError when closing */
  async #pause(attempt: number): Promise<void> {
    const { retryMinMs, retryMaxMs } = this.#options;
    const ms = Math.min(retryMinMs * 2 ** Math.min(attempt, 20), retryMaxMs);
    const { signal } = this.#closing;
    await pause(ms, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) throw new StoreError('ingest is closed');
  }

  #token(): string {
    return `${this.#instance}-${++this.#tokens}`;
  }

  /** Lets waiting senders go on, only as many as there is likely room for: each adds up to about a MiB. */
  #wake(): void {
    const free = this.#options.maxWaitingBytes - this.#waitingBytes;
    const count = this.#closing.signal.aborted ? this.#waiters.length : Math.ceil(free / 1_048_576);
    for (const waiter of this.#waiters.splice(0, Math.max(0, count))) waiter();
    // Those may have had nothing to add after all, and then no commit would come to wake the rest.
    if (this.#waiters.length > 0 && count > 0) setImmediate(() => this.#wake());
  }
}

/** By slot the earliest claim that some runs were admitted under. */
function claimsOf(runs: readonly EncodedRun[]): Map<number, number> | undefined {
  let claims: Map<number, number> | undefined;
  for (const { claim } of runs) {
    if (!claim) continue;
    claims ??= new Map();
    claims.set(claim.slot, Math.min(claim.epoch, claims.get(claim.slot) ?? claim.epoch));
  }
  return claims;
}

/** Two halves of some runs; none when only one line is left. */
function divide(runs: EncodedRun[]): EncodedRun[][] {
  const [only] = runs;
  if (!only) return [];
  if (runs.length > 1) {
    const middle = Math.ceil(runs.length / 2);
    return [runs.slice(0, middle), runs.slice(middle)];
  }
  if (only.count === 1) return [];
  const middle = Math.ceil(only.count / 2);
  return [[sliceRun(only, 0, middle)], [sliceRun(only, middle, only.count - middle)]];
}
