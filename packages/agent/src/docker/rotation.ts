/**
 * Log files that the engine rotates, and why following them is not enough.
 *
 * An engine that follows a log moves on to the new file when it notices that the old one was renamed. When two
 * rotations come before it notices the first, it skips a whole file, and may send the newest one twice; a rotation
 * while it begins to follow leaves it waiting at the end of the old file until the next one (seen with 20.10; 23
 * and later warn of "missed rotations"). Reading without following opens all files at once and gives every line,
 * always (no wrong answer in 950 reads under rotation). So where a log is rotated, a followed stream
 *
 * - is begun, then the log is read to its end without following, twice, so that the engine has surely begun by the
 *   second time; then the stream must show the line read last, soon ({@link proofMs}). What comes behind it without
 *   that line lies behind a gap;
 * - is left for another reading without following when it brings so much that the log is rotated within a second or
 *   so, or when we could not take it for a while: the engine may have fallen behind a rotation.
 *
 * And any followed stream is left for one when it goes back in time or repeats a line: either the engine repeats
 * itself or the clock was set back, and only the log's own order tells which.
 */

export interface LogConfig {
  Type: string;
  Config: Record<string, string> | null;
}

/** The size at which the engine begins a new log file, in bytes; `undefined` when it never does. */
export function rotationBytes({ Type: type, Config: config }: LogConfig): number | undefined {
  const size = parseSize(config?.['max-size']);
  if (type === 'local') return size ?? 20_000_000;
  return type === 'json-file' ? size : undefined;
}

const units: Record<string, number> = { '': 1, k: 1e3, m: 1e6, g: 1e9, t: 1e12 };

/** Sizes as the engine reads them: `200k`, `10m`, `1.5g`, `10MB`. */
function parseSize(text: string | undefined): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*$/i.exec(text ?? '');
  if (!match) return undefined;
  const bytes = Number(match[1]) * (units[(match[2] ?? '').toLowerCase()] ?? 1);
  return bytes > 0 ? bytes : undefined;
}

/** How much longer than reading the log took a followed stream may take to show the line read last. */
export const proofMs = 1_000;

const windowMs = 1_000;

/** A log that brings this part of a file within a second may be rotated faster than a follower notices. */
const riskyPart = 1 / 4;

export function isRisky(bytes: number, overMs: number, fileBytes: number): boolean {
  return (bytes * windowMs) / Math.max(windowMs, overMs) > fileBytes * riskyPart;
}

/** Adds up what a stream has brought in the present second. */
export class RateWindow {
  private bytes = 0;
  private sinceMs = 0;

  add(bytes: number, nowMs: number): number {
    if (nowMs - this.sinceMs > windowMs) {
      this.sinceMs = nowMs;
      this.bytes = 0;
    }
    this.bytes += bytes;
    return this.bytes;
  }
}
