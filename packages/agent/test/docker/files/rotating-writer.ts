import { workerData } from 'node:worker_threads';
import { LogWriter } from './log-writer.ts';

/** What the thread that writes is told. */
export interface RotatingWriterStart {
  folder: string;
  id: string;
  files: number;
  maxFiles: number;
  pauseMs: number;
}

// Writes files of one line each, and rotates them as fast as it is told to.
const { folder, id, files, maxFiles, pauseMs } = workerData as RotatingWriterStart;
const writer = new LogWriter(folder, id);
const cell = new Int32Array(new SharedArrayBuffer(4));
writer.pass(3_600_000_000_000);
for (let n = 0; n < files; n++) {
  writer.pass(1_000_000);
  writer.write('stdout', `fast ${n}\n`);
  writer.rotate({ maxFiles });
  Atomics.wait(cell, 0, 0, pauseMs);
}
