import { closeSync, fstatSync, openSync, readlinkSync } from 'node:fs';
import { setPriority } from 'node:os';
import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { identityAt, identityOf, openNewer } from '../newer.ts';
import {
  type FromThread,
  type HoldOrder,
  lookedAt,
  microseconds,
  type Order,
  roomAt,
  type ThreadStart,
  type ToThread,
  tryLock,
  unlock,
} from './messages.ts';

/*
 * Opens each file of the logs that it is told of as soon as it is there, and hands it on: see `messages.ts`. It does
 * nothing else and never turns an event loop: it looks, and waits for the time of the next look or for being woken.
 */

interface Log extends HoldOrder {
  nextMs: number;
}

/** Before all that computes: a look takes some microseconds, and what comes too late is lost. */
const niceness = -20;

const { orders, wake, ready } = workerData as ThreadStart;
const logs = new Set<Log>();

hurry();
Atomics.store(ready, 0, 1);
run();

function run(): void {
  for (;;) {
    const told = Atomics.load(wake, 0);
    for (const order of received<Order>(orders)) {
      if (order === 'stop') {
        for (const log of logs) end(log);
        return;
      }
      logs.add({ ...order, nextMs: 0 });
    }
    const nowMs = performance.now();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const log of logs) {
      if (nowMs >= log.nextMs) attend(log, nowMs);
      nextMs = Math.min(nextMs, log.nextMs);
    }
    Atomics.wait(wake, 0, told, Math.max(0, nextMs - performance.now()));
  }
}

function attend(log: Log, nowMs: number): void {
  const { shared } = log;
  log.nextMs = nowMs + log.everyMs;
  // The agent is looking itself.
  if (!tryLock(shared)) return;
  try {
    if (!look(log)) end(log);
  } catch {
    // The agent meets it, too, and says what it is.
    end(log);
  } finally {
    unlock(shared);
  }
}

/** Opens what is new. `false` when that is over. */
function look(log: Log): boolean {
  const { path, shared, port } = log;
  Atomics.store(shared, lookedAt, microseconds());
  for (const message of received<ToThread>(port)) {
    if (message === 'end') return false;
    log.knownIdentity = message.knownIdentity;
  }
  if (Atomics.load(shared, roomAt) <= 0) return true;
  const identity = identityAt(path);
  // Where there is none, a rotation is under way.
  if (identity === undefined || identity === log.knownIdentity) return true;
  const newer = openNewer(path, log.knownIdentity, open, log.plainFiles);
  if (newer === undefined) return true;
  const newest = newer.files.at(-1);
  if (!newest) return true;
  log.knownIdentity = newest.identity;
  Atomics.sub(shared, roomAt, newer.files.length);
  say(log, { fds: newer.files.map(({ fd }) => fd), isNext: newer.isNext });
  return true;
}

function open(path: string): { fd: number; identity: string; close(): void } {
  const fd = openSync(path, 'r');
  return { fd, identity: identityOf(fstatSync(fd, { bigint: true })), close: () => closeSync(fd) };
}

function end(log: Log): void {
  logs.delete(log);
  say(log, 'ended');
}

function say({ port }: Log, message: FromThread): void {
  port.postMessage(message);
}

function* received<T>(port: MessagePort): Generator<T> {
  for (let got = receiveMessageOnPort(port); got; got = receiveMessageOnPort(port)) yield got.message as T;
}

/** On Linux a priority is that of a thread. It takes a privilege to raise it, which an agent need not have. */
function hurry(): void {
  try {
    const [, id] = /\/task\/(\d+)$/.exec(readlinkSync('/proc/thread-self')) ?? [];
    if (id) setPriority(Number(id), niceness);
  } catch {
    // Then it is one among others.
  }
}
