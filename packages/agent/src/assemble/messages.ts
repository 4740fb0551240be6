import { hasClock, holds, isDigit } from '../classify/tokens.ts';
import { type GroupKind, isBlank, isException, isFrame, isRubyPlace, kindOfHead } from './traces.ts';

/*
 * Messages of exceptions that have several lines:
 *
 *     java.lang.IllegalStateException: cannot start:
 *     the disk is full
 *         at com.example.Main.start(Main.java:12)
 *
 * Nothing tells the second line from a message of its own but the trace behind it. So it is held in doubt, and is part
 * of the first only if that trace comes: what it looks like depends on what printed it. All lines here are
 * `bytes[start..end)`.
 */

/**
 * Whether a line of a group ends with an exception's message, which may go on.
 *
 * @param kind what the group is with the line
 * @param before what it was without
 */
export function opensMessage(
  kind: GroupKind,
  before: GroupKind | undefined,
  bytes: Buffer,
  start: number,
  end: number,
): boolean {
  switch (kind) {
    case 'report':
      return uncaught.some((text) => holds(bytes, start, end, text));
    case 'raised':
      return before === 'python';
    case 'go':
      return bytes[start] === 0x70 && holds(bytes, start, end, 'panic: ');
    case 'trace':
    case 'source':
      return before === 'rust' || reports(bytes, start, end);
    default:
      return false;
  }
}

/** PHP */
const uncaught = ['PHP Fatal error:  Uncaught ', 'Fatal error: Uncaught ', 'PHP Fatal error: Uncaught '];
const reporting = [
  'Exception in thread ',
  'Unhandled exception',
  'Caused by: ',
  'Suppressed: ',
  'Wrapped by: ',
  '---> ',
];

function reports(bytes: Buffer, start: number, end: number): boolean {
  const at = indentEnd(bytes, start, end);
  if (reporting.some((text) => holds(bytes, at, end, text))) return true;
  return at === start && (isException(bytes, start, end) || isRubyPlace(bytes, start, end));
}

/** Whether a line that joins nothing may be a further line of a message. It names no level. */
export function mayContinueMessage(bytes: Buffer, start: number, end: number): boolean {
  // A time in front is what loggers write; one anywhere in a head is that of an access log.
  if (hasClock(bytes, start, Math.min(end, start + maxHeadBytes))) return false;
  const at = indentEnd(bytes, start, end);
  if (at === end || at > start) return at === end || bytes[at] !== 0x7b;
  return kindOfHead(bytes, start, end, undefined) === 'text';
}

const maxHeadBytes = 64;

/** Whether a line can only follow the message of an exception, so that what lies between is part of that. */
export function confirms(kind: GroupKind, bytes: Buffer, start: number, end: number): boolean {
  const at = indentEnd(bytes, start, end);
  switch (kind) {
    case 'report':
      return holds(bytes, start, end, 'Stack trace:');
    case 'raised':
      return (
        holds(bytes, start, end, 'During handling of') || holds(bytes, start, end, 'The above exception')
      );
    case 'go':
      return holds(bytes, start, end, 'goroutine ') || holds(bytes, start, end, '[signal ');
    case 'trace':
    case 'source':
      if (at === start) return rustEnds.some((text) => holds(bytes, start, end, text));
      return isFrame(bytes, start, end) || holds(bytes, at, end, '---> ') || isRubyFrame(bytes, at, end);
    default:
      return false;
  }
}

const rustEnds = ['stack backtrace:', 'note: run with `RUST_BACKTRACE'];

/** `from app.rb:5:in '<main>'` */
function isRubyFrame(bytes: Buffer, at: number, end: number): boolean {
  if (!holds(bytes, at, end, 'from ')) return false;
  for (let i = at + 5; i < end; i++) if (holds(bytes, i, end, ':in ') && isDigit(bytes[i - 1])) return true;
  return false;
}

function indentEnd(bytes: Buffer, start: number, end: number): number {
  let at = start;
  while (at < end && isBlank(bytes[at])) at++;
  return at;
}
