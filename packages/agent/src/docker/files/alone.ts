import type { Level } from '@millrace/wire';
import type { Assembler, TextSpan } from '../../assemble/assembler.ts';
import { unescapeInto } from '../../classify/unescape.ts';
import type { LogStream } from '../position.ts';
import type { EntryReader } from './entry.ts';

/** Of a line with escapes that is longer the text is not looked at in advance. */
const maxSpanBytes = 4 * 1024;
const [lineSpan, nextSpan] = [newSpan(), newSpan()];

function newSpan(): TextSpan & { room: Buffer } {
  const room = Buffer.alloc(maxSpanBytes);
  return { room, bytes: room, start: 0, end: 0 };
}

/** The text of an entry as it was written: where it lies, or a copy without escapes. `false` when that has no room. */
function readSpan(
  span: TextSpan & { room: Buffer },
  { start, end, escapeAt }: EntryReader,
  bytes: Buffer,
): boolean {
  const isPlain = escapeAt >= end;
  span.bytes = isPlain ? bytes : span.room;
  span.start = isPlain ? start : 0;
  span.end = isPlain ? end : unescapeInto(span.room, bytes, start, end);
  return span.end >= 0;
}

/**
 * Whether the line of an entry that is none of JSON is a message by itself, as the next of its stream shows. Both lie in
 * `bytes`. No objects are made for it: every line of text passes through here.
 *
 * @param level what the line names itself
 */
export function isAlone(
  assembler: Assembler<unknown>,
  stream: LogStream,
  level: Level | undefined,
  entry: EntryReader,
  next: EntryReader,
  bytes: Buffer,
): boolean {
  if (next.isStdErr !== entry.isStdErr || next.parsed !== undefined || !next.endsLine) return false;
  if (!readSpan(lineSpan, entry, bytes) || !readSpan(nextSpan, next, bytes)) return false;
  return assembler.isAlone(stream, level, lineSpan, nextSpan);
}
