import { closeSync, openSync } from 'node:fs';
import type { Order, Report } from './messages.ts';
import { WatchedLog } from './watched-log.ts';

/*
 * Opens each file of the logs that it is told of as soon as it is there, and tells of it: see `messages.ts`. It is a
 * process of its own and does nothing else, so that nothing of the agent's can hold it up: no lock of an allocator or
 * of a compiler, no collection of garbage.
 */

const logs = new Map<number, WatchedLog>();
const sleeper = new Int32Array(new SharedArrayBuffer(4));
/** An order waits no longer than this. */
const longestSleepMs = 2;
let isTurning = false;

makeRoomForFiles();
// Who started it decides when it ends. A terminal or a service manager signals all processes at once.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
process.on('disconnect', () => process.exit());
process.on('message', (order) => obey(order as Order));
report({ told: 'ready' });

function obey(order: Order): void {
  if (order.do === 'hold') {
    logs.set(order.log, new WatchedLog(order, report));
    if (!isTurning) turn();
    return;
  }
  const log = logs.get(order.log);
  if (!log) return;
  if (order.do === 'taken') log.taken(order.files);
  else if (order.do === 'closed') log.closed(order.files);
  else if (order.do === 'look') {
    log.look();
    report({ told: 'looked', log: order.log, ask: order.ask });
  } else if (order.do === 'end') log.end();
  else log.discard();
}

/** Looks at what is due, sleeps until the next is, and lets orders come in. */
function turn(): void {
  const nowMs = performance.now();
  let nextMs = nowMs + longestSleepMs;
  for (const [number, log] of logs) {
    if (log.isDone) logs.delete(number);
    else nextMs = Math.min(nextMs, log.lookIfDue(nowMs));
  }
  isTurning = logs.size > 0;
  if (!isTurning) return;
  // Not a timer, which would be late by up to a millisecond.
  Atomics.wait(sleeper, 0, 0, Math.max(0, nextMs - performance.now()));
  setImmediate(turn);
}

function report(message: Report): void {
  process.send?.(message, undefined, undefined, (error) => {
    // The agent is gone.
    if (error) process.exit();
  });
}

/**
 * The kernel's table of open files is made larger now: whenever it grows it makes a process of several threads wait
 * until all processors have passed a certain point, for 6 to 20 ms when they are busy.
 */
function makeRoomForFiles(): void {
  const fds: number[] = [];
  try {
    while (fds.length < 1000) fds.push(openSync('/dev/null', 'r'));
  } catch {
    // There may not be as many.
  }
  for (const fd of fds) closeSync(fd);
}
