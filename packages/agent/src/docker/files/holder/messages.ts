import type { MessagePort } from 'node:worker_threads';

/**
 * What is said between the agent and the thread that holds files open for it:
 *
 *     agent ── orders ──► thread             hold a log, by a port of its own; stop
 *     agent ── the log's port ──► thread     the newest file that is open now; end
 *     agent ◄── the log's port ── thread     files that were opened, in order; ended
 *
 * Either may open what is new, but only one at a time: whoever has the log's lock. Before he looks he takes all that the
 * other has said, and before he gives it back he says what he has done; so none is opened twice, and their order is that
 * of what was said. A file descriptor belongs to the process, and so to whoever is told of it: the thread does not touch
 * it any more. Behind `ended` nothing comes.
 */
export interface ThreadStart {
  orders: MessagePort;
  /** Counts what was said to the thread, which waits for it to change. */
  wake: Int32Array;
  /** 1 as soon as the thread takes orders. Not a message: the agent may be at work for long until it gets one. */
  ready: Int32Array;
}

export type Order = HoldOrder | 'stop';

export interface HoldOrder {
  path: string;
  /** The newest file that is open. The agent keeps it open, so that no other can be taken for it. */
  knownIdentity: string;
  /** How many files there may be, where none is compressed. */
  plainFiles: number | undefined;
  /** How often the log is looked at. */
  everyMs: number;
  shared: Int32Array;
  port: MessagePort;
}

/** Places in {@link HoldOrder.shared}. */
export const lockAt = 0;
/** How many more files may be held: less by each that is opened, more by each that is closed. */
export const roomAt = 1;
/** When the thread looked last, by {@link microseconds}. */
export const lookedAt = 2;
export const sharedBytes = 12;

/** A clock that is the same for all threads, and begins anew after an hour. */
export function microseconds(): number {
  const [seconds, nanos] = process.hrtime();
  return ((seconds % 3600) * 1_000_000 + nanos / 1000) | 0;
}

export type ToThread = { knownIdentity: string } | 'end';

export interface HeldFiles {
  fds: number[];
  /** None is missing in front of the first. */
  isNext: boolean;
}

export type FromThread = HeldFiles | 'ended';

export function tryLock(shared: Int32Array): boolean {
  return Atomics.compareExchange(shared, lockAt, 0, 1) === 0;
}

export function unlock(shared: Int32Array): void {
  Atomics.store(shared, lockAt, 0);
}
