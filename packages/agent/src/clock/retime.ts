import { forEachLine } from '@millrace/wire';
import type { ClockStamp } from './history.ts';

/** Lines as wire's `encodeLine` writes them begin with their time. */
const head = Buffer.from('{"timestamp":');
const zero = 0x30;
const slackMs = 5000;

/** What a clock showed from its boot until a batch was sealed: no other times can be its own. */
interface ClockSpan {
  stamp: ClockStamp;
  sealedMs: number;
}

/**
 * Moves the times of lines that were stamped by a wrong clock. Others are left as they are: what the engine had
 * kept from an earlier boot, or an engine on another machine has stamped.
 */
export function shiftLines(lines: Buffer, span: ClockSpan, deltaMs: number): Buffer {
  return rewritten(lines, span, (line, timestampMs, end) =>
    Buffer.concat([head, Buffer.from(String(timestampMs + deltaMs)), line.subarray(end)]),
  );
}

/** Marks the lines that were stamped by a clock that was never set, `fields.clock: "unset"`. */
export function markLines(lines: Buffer, span: ClockSpan): Buffer {
  return rewritten(lines, span, (line) => {
    const value = JSON.parse(line.toString()) as { fields?: object };
    return Buffer.from(JSON.stringify({ ...value, fields: { ...value.fields, clock: 'unset' } }));
  });
}

const newline = Buffer.from('\n');

function rewritten(
  lines: Buffer,
  { stamp, sealedMs }: ClockSpan,
  rewrite: (line: Buffer, timestampMs: number, end: number) => Buffer,
): Buffer {
  const pieces: Buffer[] = [];
  forEachLine(lines, (bytes) => {
    const line = bytes as Buffer;
    const time = readTime(line);
    const isOwn =
      time !== undefined &&
      time.timestampMs >= stamp.offset - slackMs &&
      time.timestampMs <= sealedMs + slackMs;
    pieces.push(isOwn ? rewrite(line, time.timestampMs, time.end) : line, newline);
  });
  return Buffer.concat(pieces);
}

function readTime(line: Buffer): { timestampMs: number; end: number } | undefined {
  if (line.compare(head, 0, head.length, 0, Math.min(head.length, line.length)) !== 0) return undefined;
  let timestampMs = 0;
  let end = head.length;
  for (; end < line.length; end++) {
    const digit = (line[end] as number) - zero;
    if (digit < 0 || digit > 9) break;
    timestampMs = timestampMs * 10 + digit;
  }
  return end > head.length && Number.isSafeInteger(timestampMs) ? { timestampMs, end } : undefined;
}
