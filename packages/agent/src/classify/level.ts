import type { Level } from '@millrace/wire';
import { jsonLevel } from './json-level.ts';
import { escapedTextLevel, textLevel } from './text-level.ts';
import { unescapeHead } from './unescape.ts';

/**
 * The level that a line names itself, or `undefined` when it names none (then its stream decides, see
 * `defaultLevel`). Reads bytes and makes no objects: every line of a device passes through here.
 *
 * The line is `bytes[start..end)`, UTF-8 without its newline. In JSON objects the level is the value of a key that
 * names one; in other text it is looked for only at the beginning, where loggers put it, behind times, names and
 * brackets (`text-level.ts`): words like "error" in a sentence, a path or a string do not count.
 */
export function levelOf(bytes: Buffer, start: number, end: number): Level | undefined {
  const at = skipSpace(bytes, start, end);
  if (bytes[at] === 0x7b && at < end) return jsonLevel(bytes, at, end, false);
  return textLevel(bytes, at, end);
}

/**
 * The same for a line that still lies inside a JSON string, as in a file of Docker's `json-file` driver:
 * `bytes[start..end)` is what stands between the quotes of `"log":"…"`, with or without the `\n` at its end.
 */
export function levelOfEscaped(bytes: Buffer, start: number, end: number): Level | undefined {
  const at = skipSpace(bytes, start, end);
  if (bytes[at] === 0x7b && at < end) return jsonLevel(bytes, at, end, true);
  const found = escapedTextLevel(bytes, at, textEnd(bytes, at, end));
  if (found !== 'escaped') return found;
  const head = unescapeHead(bytes, at, end);
  return textLevel(head.bytes, 0, head.length);
}

function skipSpace(bytes: Buffer, start: number, end: number): number {
  let at = start;
  while (at < end && bytes[at] === 0x20) at++;
  return at;
}

/** Without the newline that ends most of the strings. */
function textEnd(bytes: Buffer, start: number, end: number): number {
  return end - start >= 2 && bytes[end - 1] === 0x6e && bytes[end - 2] === 0x5c ? end - 2 : end;
}
