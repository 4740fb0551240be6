import type { Level } from '@millrace/wire';
import { holds, isDigit, isLetter } from './tokens.ts';
import { packed, readWord, wordLevel } from './words.ts';

/** How the reports of runtimes and shells begin that something went wrong. */
const failures = [
  'Traceback (most recent',
  'Exception in thread ',
  'Unhandled exception',
  'Unhandled rejection',
  'Uncaught ',
  'Fatal error',
  'fatal error',
  'Parse error',
  'Segmentation fault',
  'goroutine ',
  'Caused by: ',
];

const timeNames = new Set(
  [
    ...['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun', 'am', 'pm', 'utc', 'gmt', 'cet', 'cest'],
    ...['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'],
  ].map(packed),
);

/** A day, a month, a half of the day or a zone, given as `word.head`. */
export function isNameOfTime(head: number, letters: number): boolean {
  return letters <= 4 && timeNames.has(head);
}

/** Whether the report of a failure begins at `at`. */
export function saysFailure(bytes: Buffer, at: number, end: number): boolean {
  switch (bytes[at]) {
    case 0x54: // T
    case 0x45: // E
    case 0x55: // U
    case 0x46: // F
    case 0x66: // f
    case 0x50: // P
    case 0x53: // S
    case 0x43: // C
      return failures.some((text) => holds(bytes, at, end, text));
    case 0x67: // g
      return holds(bytes, at, end, 'goroutine ') && isDigit(bytes[at + 10]);
    case 0x74: // t
      return holds(bytes, at, end, "thread '") && panics(bytes, at, end);
    default:
      return false;
  }
}

/** Rust: thread 'main' panicked at … */
function panics(bytes: Buffer, at: number, end: number): boolean {
  const to = Math.min(end, at + 100);
  for (let i = at + 8; i < to; i++) if (holds(bytes, i, to, ' panicked at')) return true;
  return false;
}

/**
 * The level that the end of a name tells, given without its colon: `production.ERROR:`, `java.io.IOException:`,
 * `TypeError:`, `DeprecationWarning:`.
 */
export function suffixLevel(bytes: Buffer, from: number, to: number): Level | undefined {
  let at = to;
  while (at > from && isLetter(bytes[at - 1])) at--;
  if (at > from && (bytes[at - 1] === 0x2e || bytes[at - 1] === 0x3a)) {
    readWord(bytes, at, to);
    const found = wordLevel();
    if (found && isCapital(bytes[at]) && isCapital(bytes[to - 1])) return found;
  }
  if (endsWith(bytes, at, to, 'Error') || endsWith(bytes, at, to, 'Exception')) return 'error';
  return endsWith(bytes, at, to, 'Warning') ? 'warn' : undefined;
}

function isCapital(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x41 && byte <= 0x5a;
}

function endsWith(bytes: Buffer, from: number, to: number, text: string): boolean {
  return to - from >= text.length && holds(bytes, to - text.length, to, text);
}
