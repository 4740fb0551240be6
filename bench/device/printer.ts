import { closeSync, openSync, writeSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { webEntry } from './web-log.ts';

export interface PrintOptions {
  /** The log of the container that prints. */
  logPath: string;
  lines: number;
  intervalMs: number;
  /** When, by the lines' own times, each is printed; by the clock if left out. */
  timeOf?: (n: number) => number;
}

/** Writes an entry at a time, as the engine does for a container that prints a line every `intervalMs`. */
export async function print({ logPath, lines, intervalMs, timeOf }: PrintOptions): Promise<void> {
  const log = openSync(logPath, 'a');
  const startMs = performance.now();
  try {
    for (let n = 0; n < lines; n++) {
      const aheadMs = startMs + n * intervalMs - performance.now();
      // What is a little late is caught up with; the rate is what counts.
      if (aheadMs > 1) await pause(aheadMs);
      writeSync(log, webEntry(n, timeOf?.(n) ?? Date.now()));
    }
  } finally {
    closeSync(log);
  }
}
