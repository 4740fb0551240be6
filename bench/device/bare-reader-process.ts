/*
 * As little as Node can do with a container's log: takes what there is into one buffer and counts lines. From the log's
 * file it reads every 20 ms; from the engine's API as the agent does, with a rest after what is little.
 *
 * It says that it is ready, gets its task as a message of the parent process (bare-reader.ts), and sends it back when all
 * lines are there.
 */
import { openSync, readSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import type { BareTask } from './bare-reader.ts';

const buffer = Buffer.allocUnsafeSlow(256 * 1024);
const newline = 0x0a;
const carriageReturn = 0x0d;
const tickMs = 20;
const fewBytes = 16 * 1024;
const restMs = 4;

let lines = 0;
let lastByte = 0;

process.once('message', async (task: BareTask) => {
  if (task.source === 'files') await readFile(task);
  else await readApi(task);
  process.send?.(task);
});
process.send?.('ready');

/** Those of HTTP's chunks end with CR LF, those of the log with LF alone. */
function count(length: number): void {
  for (let at = buffer.indexOf(newline); at >= 0 && at < length; at = buffer.indexOf(newline, at + 1)) {
    if ((at === 0 ? lastByte : buffer[at - 1]) !== carriageReturn) lines++;
  }
  lastByte = buffer[length - 1] ?? lastByte;
}

async function readFile(task: BareTask): Promise<void> {
  const file = openSync(task.logPath, 'r');
  for (let offset = 0; lines < task.lines; await pause(tickMs)) {
    for (let length = buffer.length; length === buffer.length; offset += length) {
      length = readSync(file, buffer, 0, buffer.length, offset);
      count(length);
    }
  }
}

function readApi({ socketPath, containerId, lines: wanted }: BareTask): Promise<void> {
  return new Promise((resolve) => {
    let isResting = false;
    const socket = connect({
      path: socketPath,
      onread: {
        buffer,
        callback: (length) => {
          count(length);
          if (lines >= wanted) resolve();
          if (length >= fewBytes || isResting) return !isResting;
          isResting = true;
          setTimeout(() => {
            isResting = false;
            socket.resume();
          }, restMs);
          return false;
        },
      },
    });
    const path = `/containers/${containerId}/logs?stdout=true&stderr=true&timestamps=true&follow=true`;
    socket.write(`GET ${path} HTTP/1.1\r\nHost: engine\r\n\r\n`);
  });
}
