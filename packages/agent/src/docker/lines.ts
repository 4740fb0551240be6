import { limits } from '@millrace/wire';
import { FrameSplitter } from './frames.ts';
import type { LogStream } from './position.ts';
import { type Nanos, nanosOf, parseNanos, TimestampReader, timeOf } from './timestamp.ts';

/** One whole line of a container. Its text is `source[start..end)`, without the line's end. */
export interface LogLine {
  stream: LogStream;
  /** Its time: seconds since 1970, and nanoseconds within the second. */
  second: number;
  nano: number;
  source: Buffer;
  start: number;
  end: number;
  /** How much longer the line was; not exact for a terminal's, whose timestamps between pieces count as well. */
  cutBytes: number;
  /** The line has no newline yet: what a container that has ended left behind. */
  isUnfinished: boolean;
}

/** A line that has begun and waits for its newline. */
interface OpenLine {
  second: number;
  nano: number;
  pieces: Buffer[];
  bytes: number;
  cutBytes: number;
}

/** The engine broke off the log with a message of its own, for example over a damaged log file. */
export class EngineLogError extends Error {}

const grabbing = 'Error grabbing logs: ';

/**
 * Makes lines of a log stream with timestamps. A piece is `timestamp SP text`; the engine cuts a line longer than
 * 16 KB into several, each but the last without a newline and all with the timestamp of the first. A piece with
 * another timestamp therefore begins a new line, even where the one before was never ended (its process died).
 *
 * Of a line longer than `maxLineBytes` the beginning is kept and the rest passed over, so that at most twice
 * that is held per stream.
 */
export class LineReader {
  /** Where the stream is one of a terminal, lines end with CR LF and both outputs are one. */
  get isTerminal(): boolean {
    return this.frames.isRaw === true;
  }

  /**
   * When the container's process before the present one ended, and when the present one was started. A terminal's
   * line that the former never ended is followed by the latter's first with only a timestamp between them. It is
   * parted there: where a line from before the start holds a timestamp in the engine's form that is later than its
   * own and not before that end. Text looks like that only by intent.
   */
  restart: { endedAt: Nanos; startedAt: Nanos } | undefined;

  private readonly frames: FrameSplitter;
  private readonly clock = new TimestampReader();
  private readonly maxLineBytes: number;
  private readonly open: Record<LogStream, OpenLine | undefined> = { out: undefined, err: undefined };
  private waiting: LogLine | undefined;

  constructor({ maxLineBytes = limits.maxReceivedLineBytes }: { maxLineBytes?: number } = {}) {
    this.maxLineBytes = maxLineBytes;
    this.frames = new FrameSplitter({ maxPieceBytes: maxLineBytes });
  }

  push(chunk: Buffer): void {
    this.frames.push(chunk);
  }

  /**
   * The next whole line, or `undefined` when more bytes are needed.
   *
   * @throws EngineLogError when the engine reports that it cannot read the log
   */
  next(): LogLine | undefined {
    if (this.waiting) {
      const line = this.waiting;
      this.waiting = undefined;
      return line;
    }
    while (this.frames.next()) {
      const line = this.take();
      if (line) return line;
    }
    return undefined;
  }

  /** The time of the line that has begun on a stream and is not ended yet. */
  openSince(stream: LogStream): Nanos | undefined {
    const open = this.open[stream];
    return open && nanosOf(open.second, open.nano);
  }

  /** The unfinished lines at the end of the stream, oldest first. Only for a container that has ended. */
  unfinished(): LogLine[] {
    const lines: LogLine[] = [];
    if (this.frames.takeRest()) {
      const line = this.take();
      if (line) lines.push(line);
      if (this.waiting) lines.push(this.waiting);
      this.waiting = undefined;
    }
    for (const stream of ['out', 'err'] as const) {
      const open = this.open[stream];
      if (open) lines.push(this.close(stream, open, true));
    }
    return lines.sort((a, b) => a.second - b.second || a.nano - b.nano);
  }

  private take(): LogLine | undefined {
    const { frames, clock } = this;
    const { source, end, endsLine } = frames;
    if (frames.stream === 3) throw new EngineLogError(source.toString('utf8', frames.start, end).trim());
    const stream: LogStream = frames.stream === 2 ? 'err' : 'out';
    let open = this.open[stream];
    const text = clock.read(source, frames.start, end);
    if (text < 0) {
      if (this.isTerminal && source.toString('latin1', frames.start, end).startsWith(grabbing)) {
        throw new EngineLogError(source.toString('utf8', frames.start, end).trim());
      }
      return this.withoutTime(stream, open);
    }
    if (this.isTerminal) return this.terminalLine(text);
    const { second, nano } = clock;
    const isOther = open !== undefined && (open.second !== second || open.nano !== nano);
    const before = open && isOther ? this.close(stream, open, false) : undefined;
    if (before) open = undefined;
    let line: LogLine | undefined;
    if (!open && endsLine) {
      line = {
        stream,
        second,
        nano,
        source,
        start: text,
        end: withoutNewline(source, text, end),
        cutBytes: this.passedOver(),
        isUnfinished: false,
      };
    } else {
      open ??= { second, nano, pieces: [], bytes: 0, cutBytes: 0 };
      this.open[stream] = open;
      this.append(open, source, text, end);
      if (endsLine) line = this.close(stream, open, false);
    }
    if (before) this.waiting = line;
    return before ?? line;
  }

  private terminalLine(text: number): LogLine {
    const { frames, clock } = this;
    const { second, nano } = clock;
    let { source, end } = frames;
    let start = text;
    if (end - start > pieceBytes) {
      // A terminal's pieces follow each other with nothing between them but the timestamp, which is the line's
      // own to the nanosecond: no program can print that.
      const stamp = source.subarray(frames.start, text);
      source = without(source.subarray(start, end), stamp);
      start = 0;
      end = source.length;
    }
    if (frames.endsLine) {
      end = withoutNewline(source, start, end);
      if (end > start && source[end - 1] === 0x0d) end--;
    }
    const cutBytes = this.passedOver();
    const line: LogLine = {
      ...{ stream: 'out', second, nano, source, start, end, cutBytes },
      isUnfinished: !frames.endsLine,
    };
    if (this.restart && nanosOf(second, nano) < this.restart.startedAt) this.part(line, this.restart.endedAt);
    return line;
  }

  /** Cuts `line` off where another run's begins; that one waits to be the next. */
  private part(line: LogLine, endedAt: Nanos): void {
    const { source, start, end } = line;
    const own = nanosOf(line.second, line.nano);
    for (const match of source.toString('latin1', start, end).matchAll(engineStamp)) {
      const nanos = parseNanos(match[0].trimEnd());
      if (nanos === undefined || nanos <= own || nanos < endedAt) continue;
      const at = start + match.index;
      const [second, nano] = timeOf(nanos);
      this.waiting = { ...line, second, nano, start: at + match[0].length };
      line.end = at;
      line.cutBytes = 0;
      line.isUnfinished = false;
      return;
    }
  }

  /** A piece that has no timestamp cannot come from the engine as we know it; its text is kept all the same. */
  private withoutTime(stream: LogStream, open: OpenLine | undefined): LogLine | undefined {
    const { frames } = this;
    const { second, nano } = this.clock;
    const line = open ?? { second, nano, pieces: [], bytes: 0, cutBytes: 0 };
    if (line.second < 0) throw new EngineLogError('the log has no timestamps');
    this.open[stream] = line;
    this.append(line, frames.source, frames.start, frames.end);
    return frames.endsLine || this.isTerminal ? this.close(stream, line, !frames.endsLine) : undefined;
  }

  /** Bytes of the frame's text that were passed over. */
  private passedOver(): number {
    const { passedOver, endsLine } = this.frames;
    return passedOver > 0 && endsLine ? passedOver - 1 : passedOver;
  }

  private append(open: OpenLine, source: Buffer, start: number, end: number): void {
    const kept = Math.min(end, start + this.maxLineBytes - open.bytes);
    const textEnd = withoutNewline(source, start, end);
    open.cutBytes += Math.max(0, textEnd - kept) + this.passedOver();
    if (kept <= start) return;
    // A copy: the source is a buffer of the socket's, many times as large.
    const piece = Buffer.from(source.subarray(start, kept));
    open.pieces.push(piece);
    open.bytes += piece.length;
  }

  private close(stream: LogStream, open: OpenLine, isUnfinished: boolean): LogLine {
    this.open[stream] = undefined;
    const source = open.pieces.length === 1 ? (open.pieces[0] as Buffer) : Buffer.concat(open.pieces);
    const end = withoutNewline(source, 0, source.length);
    const { second, nano, cutBytes } = open;
    return { stream, second, nano, source, start: 0, end, cutBytes, isUnfinished };
  }
}

/** The engine's piece of a long line; measured after it replaced invalid characters, so a piece may be longer. */
const pieceBytes = 16 * 1024;

const engineStamp = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z /g;

function withoutNewline(source: Buffer, start: number, end: number): number {
  return end > start && source[end - 1] === 0x0a ? end - 1 : end;
}

function without(text: Buffer, stamp: Buffer): Buffer {
  const parts: Buffer[] = [];
  let from = 0;
  for (let at = text.indexOf(stamp); at >= 0; at = text.indexOf(stamp, from)) {
    parts.push(text.subarray(from, at));
    from = at + stamp.length;
  }
  if (from === 0) return text;
  parts.push(text.subarray(from));
  return Buffer.concat(parts);
}
