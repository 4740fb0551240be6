import type { Level } from '@millrace/wire';
import { hasClock, holds, isDigit, isLetter, tokenEnd } from '../classify/tokens.ts';
import { readWord, word, wordLevel } from '../classify/words.ts';

/**
 * What a group of lines is so far, which decides what may join it.
 *
 * - `single`: nothing may follow (JSON).
 * - `text`: any other line; indented lines may follow.
 * - `report`: names itself a warning or an error; a trace may follow.
 * - `trace`: the stack trace of Java, .NET, Ruby, PHP, JavaScript, or what looks like it.
 * - `python`: between "Traceback" and the exception; `raised`: behind it, where another traceback may follow.
 * - `go`: a panic with its goroutines.
 * - `source`: Node.js shows the line of source that threw; the error follows.
 * - `jul`: the first of the two lines that java.util.logging writes; the level and the message follow.
 * - `rust`: the head of a panic; its message follows. Then it is a `trace`.
 */
export type GroupKind =
  | 'single'
  | 'text'
  | 'report'
  | 'trace'
  | 'python'
  | 'raised'
  | 'go'
  | 'source'
  | 'jul'
  | 'rust';

/** Kinds that are certain to be a trace, or to begin one. */
export function isTrace(kind: GroupKind): boolean {
  return kind !== 'single' && kind !== 'text' && kind !== 'report' && kind !== 'jul';
}

/** What a line begins that joins no group. The line is `bytes[start..end)`; `level` is what it names itself. */
export function kindOfHead(bytes: Buffer, start: number, end: number, level: Level | undefined): GroupKind {
  if (start >= end) return 'single';
  const first = bytes[start] as number;
  if (first === 0x7b) return 'single';
  // A syntax error has no other head.
  if (holds(bytes, start, end, 'Traceback (most recent') || holds(bytes, start, end, '  File "'))
    return 'python';
  if (isGoHead(bytes, start, end)) return 'go';
  if (isRustHead(bytes, start, end)) return bytes[end - 1] === 0x3a ? 'rust' : 'trace';
  if (holds(bytes, start, end, 'Exception in thread ') || holds(bytes, start, end, 'Unhandled exception'))
    return 'trace';
  if (isException(bytes, start, end) || isRubyPlace(bytes, start, end)) return 'trace';
  if (isSourcePlace(bytes, start, end)) return 'source';
  if (isJulHead(bytes, start, end)) return 'jul';
  return level === 'error' || level === 'warn' ? 'report' : 'text';
}

/**
 * What a group becomes with the line `bytes[start..end)`, or `undefined` when the line does not belong to it.
 *
 * @param lines how many the group has
 */
export function kindWith(
  kind: GroupKind,
  lines: number,
  bytes: Buffer,
  start: number,
  end: number,
): GroupKind | undefined {
  if (kind === 'single') return undefined;
  if (start >= end) return kind === 'go' || kind === 'source' || kind === 'raised' ? kind : undefined;
  const isIndented = isBlank(bytes[start]);
  switch (kind) {
    case 'text':
      // Go's net/http reports a panic in a line that names no level.
      if (lines === 1 && bytes[start] === 0x67 && isGoHead(bytes, start, end)) return 'go';
      if (!isIndented || startsAnew(bytes, start, end) || isPythonPlace(bytes, start, end)) return undefined;
      return isFrame(bytes, start, end) ? 'trace' : 'text';
    case 'python':
      if (isIndented) return 'python';
      // A group of exceptions draws its frame with bars.
      return bytes[start] === 0x7c || bytes[start] === 0x2b ? 'python' : 'raised';
    case 'raised':
      if (holds(bytes, start, end, 'During handling of') || holds(bytes, start, end, 'The above exception'))
        return 'raised';
      return holds(bytes, start, end, 'Traceback (most recent') ? 'python' : undefined;
    case 'go':
      if (isIndented) return startsAnew(bytes, start, end) ? undefined : 'go';
      return isGoFrame(bytes, start, end) ? 'go' : undefined;
    case 'source':
      // The source itself, and the mark below it.
      if (lines <= 2) return 'source';
      if (isIndented) return startsAnew(bytes, start, end) ? undefined : 'source';
      return isException(bytes, start, end) || isThrown(bytes, start, end)
        ? 'source'
        : closes(kind, bytes, start, end);
    case 'jul':
      readWord(bytes, start, end);
      return word.capitals === word.letters && bytes[word.end] === 0x3a && wordLevel() ? 'report' : undefined;
    case 'rust':
      return 'trace';
    case 'report':
      if (isIndented) return startsAnew(bytes, start, end) ? undefined : 'trace';
      if (holds(bytes, start, end, 'Traceback (most recent')) return 'python';
      if (isGoHead(bytes, start, end) && bytes[start] === 0x67) return 'go';
      // One line, or the two of java.util.logging.
      return lines <= 2 && isException(bytes, start, end) ? 'trace' : joinsTrace(bytes, start, end);
    case 'trace':
      if (isIndented) return startsAnew(bytes, start, end) ? undefined : 'trace';
      return joinsTrace(bytes, start, end);
  }
}

/** `Jan 01, 2026 12:00:00 AM com.example.Main run` */
function isJulHead(bytes: Buffer, start: number, end: number): boolean {
  if (end - start < 30 || bytes[start + 3] !== 0x20 || !isDigit(bytes[start + 4])) return false;
  return julHead.test(bytes.toString('latin1', start, Math.min(end, start + 32)));
}

const julHead = /^[A-Z][a-z]{2} \d{1,2}, \d{4},? \d{1,2}:\d\d:\d\d [AP]M \w/;

export function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x09;
}

/** An indented line that is a message of its own: some loggers pad what stands in front. */
function startsAnew(bytes: Buffer, start: number, end: number): boolean {
  let at = start;
  while (at < end && isBlank(bytes[at])) at++;
  if (at === end || bytes[at] === 0x7b) return at === end;
  if (isDigit(bytes[at]) && hasClock(bytes, at, tokenEnd(bytes, at, end))) return true;
  readWord(bytes, at, end);
  return word.capitals === word.letters && bytes[word.end] === 0x20 && wordLevel() !== undefined;
}

/**
 * An indented `at run (/app/index.js:12:11)`, `at a.B.c(B.java:3)`, `at A.B() in C.cs:line 3`: what seemed to be a line
 * like any other was the head of a trace, such as `Cannot connect: Error: x`.
 */
export function isFrame(bytes: Buffer, start: number, end: number): boolean {
  let at = start;
  while (at < end && isBlank(bytes[at])) at++;
  if (!holds(bytes, at, end, 'at ')) return false;
  // Behind it the values of an object may begin (Node.js), or stand the archive and its version (logback, Log4j).
  let last = bytes[end - 1] === 0x7b ? end - 3 : end - 1;
  if (bytes[last] === 0x5d) {
    const archive = bytes.lastIndexOf('[', last);
    if (archive > at) last = archive - (bytes[archive - 1] === 0x7e ? 3 : 2);
  }
  const hasParameters = bytes[last] === 0x29;
  if (hasParameters) last--;
  let digits = last;
  while (digits > at && isDigit(bytes[digits])) digits--;
  if (digits < last) return bytes[digits] === 0x3a || holds(bytes, digits - 4, end, 'line ');
  // `at A.B()`, `at A.B(String[] args)`: a name with dots in front of its parameters.
  if (!hasParameters) return false;
  for (let i = at + 3, hasDot = false; i < end && bytes[i] !== 0x20; i++) {
    if (bytes[i] === 0x28) return hasDot;
    hasDot ||= bytes[i] === 0x2e;
  }
  return false;
}

/** What stands at the beginning of a line within a trace, or behind one. */
function joinsTrace(bytes: Buffer, start: number, end: number): GroupKind | undefined {
  return traceLines.some((text) => holds(bytes, start, end, text)) ||
    (bytes[start] === 0x23 && isDigit(bytes[start + 1]))
    ? 'trace'
    : closes('trace', bytes, start, end);
}

const traceLines = [
  'Caused by: ',
  'Suppressed: ',
  'Wrapped by: ',
  '... ',
  'at ',
  '--- End of ',
  'Stack trace:',
  'stack backtrace:',
  'note: ',
  // Node.js, of a module that is not found
  'Require stack:',
  '- /',
  '[CIRCULAR REFERENCE:',
];

/** The brackets that end an object printed over several lines. */
function closes(kind: GroupKind, bytes: Buffer, start: number, end: number): GroupKind | undefined {
  const byte = bytes[start];
  return end - start <= 2 && (byte === 0x7d || byte === 0x5d || byte === 0x29) ? kind : undefined;
}

/** Where a syntax error is; it has no other head. */
function isPythonPlace(bytes: Buffer, start: number, end: number): boolean {
  return holds(bytes, start, end, '  File "');
}

function isGoHead(bytes: Buffer, start: number, end: number): boolean {
  switch (bytes[start]) {
    case 0x70: // p
      return holds(bytes, start, end, 'panic: ');
    case 0x66: // f
      return holds(bytes, start, end, 'fatal error: ');
    case 0x67: // g
      return holds(bytes, start, end, 'goroutine ') && isDigit(bytes[start + 10]);
    default:
      return false;
  }
}

/** `main.main()`, `net/http.(*conn).serve(0xc0, {0x1})`, and what stands between them. */
function isGoFrame(bytes: Buffer, start: number, end: number): boolean {
  if (isGoHead(bytes, start, end) || goLines.some((text) => holds(bytes, start, end, text))) return true;
  if (!isLetter(bytes[start]) || bytes[end - 1] !== 0x29) return false;
  for (let at = start; at < end; at++) {
    if (bytes[at] === 0x28) return at > start;
    if (bytes[at] === 0x20) return false;
  }
  return false;
}

const goLines = [
  '[signal ',
  'created by ',
  'exit status ',
  '...additional frames',
  'runtime stack:',
  'rax ',
  'PC=',
];

function isRustHead(bytes: Buffer, start: number, end: number): boolean {
  if (!holds(bytes, start, end, "thread '")) return false;
  const to = Math.min(end, start + 100);
  for (let at = start + 8; at < to; at++) if (holds(bytes, at, to, ' panicked at ')) return true;
  return false;
}

/** `java.io.IOException: …`, `TypeError: …`, `KeyError`: a name that ends so, alone or with a colon behind it. */
export function isException(bytes: Buffer, start: number, end: number): boolean {
  if (!isLetter(bytes[start])) {
    return holds(bytes, start, end, '[Error: ') || holds(bytes, start, end, '[UnhandledPromiseRejection: ');
  }
  let at = start;
  if (holds(bytes, at, end, 'Uncaught ')) at += 9;
  const from = at;
  for (; at < end; at++) {
    const byte = bytes[at] as number;
    if (!isLetter(byte) && !isDigit(byte) && byte !== 0x2e && byte !== 0x5f && byte !== 0x24) break;
  }
  const isName = endsWith(bytes, from, at, 'Error') || endsWith(bytes, from, at, 'Exception');
  // `Error [ERR_X]: ` is Node's form of an error with a code.
  return isName && (at === end || bytes[at] === 0x3a || holds(bytes, at, end, ' ['));
}

function endsWith(bytes: Buffer, from: number, to: number, text: string): boolean {
  return to - from >= text.length && holds(bytes, to - text.length, to, text);
}

/** `app.rb:12:in 'run': broken (RuntimeError)` */
export function isRubyPlace(bytes: Buffer, start: number, end: number): boolean {
  const to = tokenEnd(bytes, start, end);
  for (let at = start; at < to; at++) {
    if (bytes[at] === 0x2e && holds(bytes, at, to, '.rb:') && isDigit(bytes[at + 4])) {
      return endsWith(bytes, start, to, ':in');
    }
  }
  return false;
}

/** `/app/index.js:12`, alone on its line. */
function isSourcePlace(bytes: Buffer, start: number, end: number): boolean {
  const isPath =
    bytes[start] === 0x2f || holds(bytes, start, end, 'file:///') || holds(bytes, start, end, 'node:');
  if (!isPath || !isDigit(bytes[end - 1])) return false;
  let at = end - 1;
  while (at > start && isDigit(bytes[at])) at--;
  return bytes[at] === 0x3a && tokenEnd(bytes, start, end) === end && isLetter(bytes[at - 1]);
}

/** What else Node.js prints when an error ends it. */
function isThrown(bytes: Buffer, start: number, end: number): boolean {
  return (
    holds(bytes, start, end, 'Node.js v') || holds(bytes, start, end, 'Thrown at:') || bytes[start] === 0x5e
  );
}
