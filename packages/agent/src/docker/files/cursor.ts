import { type LogInput, limits } from '@millrace/wire';
import type { Json, SourcePosition } from '../../logging/types.ts';
import { type DockerPosition, type LogStream, Resume, type StreamMark } from '../position.ts';
import type { ServiceFields } from '../services.ts';
import { type EntryReader, nanosOf } from './entry.ts';
import type { LogFile } from './log-file.ts';
import type { FilePoint } from './point.ts';

/** A line that has begun and waits for its newline. */
interface OpenLine {
  second: number;
  nano: number;
  pieces: string[];
  bytes: number;
  /** Where its first piece begins. */
  file: LogFile;
  at: number;
  /** Lines of the other stream that have ended since. */
  past: number;
  /** Something behind its beginning has been handed on or passed over. */
  isBehind: boolean;
  /** It was read before, or is older than what is wanted. */
  isOld: boolean;
}

/** How far a stream has been read; see `../position.ts`. Numbers, since text for each line would cost more than the line. */
class StreamState {
  readonly name: LogStream;
  n = 0;
  open: OpenLine | undefined;
  private second = -1;
  private nano = -1;
  private maxSecond = -1;
  private maxNano = -1;
  private part: number | undefined;

  constructor(name: LogStream, mark: StreamMark | undefined) {
    this.name = name;
    if (!mark) return;
    [this.second, this.nano] = timeOf(mark.last);
    this.n = mark.n;
    this.part = mark.part;
    if (mark.max !== undefined) [this.maxSecond, this.maxNano] = timeOf(mark.max);
  }

  get isEmpty(): boolean {
    return this.second < 0;
  }

  /** What {@link advance} of positions does. */
  advance(second: number, nano: number, part: number | undefined): void {
    if (second === this.second && nano === this.nano) {
      if (this.part === undefined) this.n++;
    } else {
      if (isLater(this.second, this.nano, this.maxSecond, this.maxNano)) {
        this.maxSecond = this.second;
        this.maxNano = this.nano;
      }
      this.second = second;
      this.nano = nano;
      this.n = 1;
      if (!isLater(this.maxSecond, this.maxNano, second, nano)) this.maxSecond = this.maxNano = -1;
    }
    this.part = part;
  }

  mark(): StreamMark | undefined {
    const { open } = this;
    // A line that has begun and is the stream's first: nothing of it is older.
    if (this.isEmpty) return open && { last: nanosOf(open.second, open.nano), n: 0 };
    return {
      last: nanosOf(this.second, this.nano),
      n: this.n,
      ...(this.maxSecond >= 0 && { max: nanosOf(this.maxSecond, this.maxNano) }),
      ...(this.part !== undefined && { part: this.part }),
    };
  }
}

function timeOf(nanos: string): [second: number, nano: number] {
  return [Number(nanos.slice(0, -9)), Number(nanos.slice(-9))];
}

function isLater(second: number, nano: number, thanSecond: number, thanNano: number): boolean {
  return second > thanSecond || (second === thanSecond && nano > thanNano);
}

export interface FileCursorOptions {
  key: string;
  saved: DockerPosition | undefined;
  /** A terminal's lines end with CR LF. */
  isTerminal: boolean;
  fields(): ServiceFields;
  deliver(line: LogInput, position: SourcePosition): void | Promise<void>;
}

/**
 * Where we are in one container's log files: joins pieces, passes over what was read before, and hands on each line
 * that is new, with the position behind it.
 */
export class FileCursor {
  isTerminal: boolean;
  /** Lines handed on. */
  lines = 0;
  private readonly options: FileCursorOptions;
  private readonly out: StreamState;
  private readonly err: StreamState;
  /** Right behind the entry that ended the line handed on last. */
  private file: LogFile | undefined;
  private at = 0;
  /** Lines to pass over after going back to the beginning of one that is not ended. */
  private pastOut = 0;
  private pastErr = 0;
  private resume: Resume | undefined;
  private sinceSecond = 0;
  private sinceNano = 0;

  constructor(options: FileCursorOptions) {
    this.options = options;
    this.isTerminal = options.isTerminal;
    this.out = new StreamState('out', options.saved?.out);
    this.err = new StreamState('err', options.saved?.err);
  }

  /** The marks of both streams; `undefined` before the first line. */
  get marks(): DockerPosition | undefined {
    const out = this.out.mark();
    const err = this.err.mark();
    return out || err ? { ...(out && { out }), ...(err && { err }) } : undefined;
  }

  /** Where reading has to go on if it ended now; `undefined` before the first line of this process. */
  get point(): FilePoint | undefined {
    const { out, err } = this;
    // Never both: the stream of the line handed on last has no open line from before it.
    const open = [out.open, err.open].find((line) => line?.isBehind);
    const { head, ino } = (open ? open.file : this.file) ?? {};
    if (!this.file || !head || ino === undefined) return undefined;
    if (!open) return { head, ino, at: this.at };
    const past = open === out.open ? { err: open.past } : { out: open.past };
    return { head, ino, at: open.at, ...(open.past > 0 && { past }) };
  }

  get position(): Json {
    const { marks, point } = this;
    return { ...marks, ...(point && { file: point }) } as unknown as Json;
  }

  /** Reading begins at `point`, of `file`: everything from there is new but for what the point says. */
  beginAt(file: LogFile, { at, past }: FilePoint): void {
    this.forgetOpen();
    this.file = file;
    this.at = at;
    this.pastOut = past?.out ?? 0;
    this.pastErr = past?.err ?? 0;
    this.resume = undefined;
    this.sinceSecond = this.sinceNano = 0;
  }

  /** Reading begins with the oldest that is kept: what is older than `since`, or the marks say was read, is passed over. */
  beginByMarks(since: string, rotated?: ReadonlySet<LogStream>): void {
    this.forgetOpen();
    this.file = undefined;
    this.pastOut = this.pastErr = 0;
    const { marks } = this;
    this.resume = marks && new Resume(marks, rotated);
    [this.sinceSecond, this.sinceNano] = timeOf(since);
  }

  /**
   * The end of what is kept has been reached: what comes now is new. Returns the streams whose line read last was
   * not there, and whether one went on without it.
   */
  caughtUp(): { unmatched: LogStream[]; hasJumped: boolean } {
    const { resume } = this;
    for (const { name, open } of [this.out, this.err]) {
      // It may have been read as the last line of a container that had ended.
      if (open && resume && !open.isOld)
        open.isOld = resume.readBefore(name, nanosOf(open.second, open.nano)) > 0;
    }
    this.resume = undefined;
    this.sinceSecond = this.sinceNano = 0;
    return { unmatched: resume?.unmatched() ?? [], hasJumped: resume?.hasJumped ?? false };
  }

  /**
   * Takes an entry, `bytes` being what it was read from, at `[from, to)` of `file`. Returns a promise when whoever
   * gets the line wants us to wait.
   */
  take(entry: EntryReader, bytes: Buffer, file: LogFile, from: number, to: number): void | Promise<void> {
    const stream = entry.isStdErr ? this.err : this.out;
    const { open } = stream;
    if (!open && entry.endsLine) return this.end(stream, entry, this.textOf(entry, bytes), file, to);
    if (open && (open.second !== entry.second || open.nano !== entry.nano)) {
      // The process that began it is gone; this is what the next one writes.
      const taken = this.endOpen(stream, open, file, from, false);
      const then = () => this.take(entry, bytes, file, from, to);
      return taken ? taken.then(then) : then();
    }
    this.append(stream, entry, this.textOf(entry, bytes), file, from);
    return entry.endsLine && stream.open ? this.endOpen(stream, stream.open, file, to, false) : undefined;
  }

  /** Text that is no entry is kept as a line of its own. It has no time, so the marks stay. */
  takeDamaged(text: string, file: LogFile, to: number): void | Promise<void> {
    for (const { open } of [this.out, this.err]) if (open) open.isBehind = true;
    this.file = file;
    this.at = to;
    return this.handOn(this.out, text, Date.now());
  }

  /** Ends what was left without a newline by a container that has ended. */
  async endAll(file: LogFile, at: number): Promise<void> {
    const lines = [this.out, this.err].flatMap((stream) =>
      stream.open ? [{ stream, open: stream.open }] : [],
    );
    lines.sort((a, b) => (isLater(a.open.second, a.open.nano, b.open.second, b.open.nano) ? 1 : -1));
    for (const { stream, open } of lines) await this.endOpen(stream, open, file, at, true);
  }

  private forgetOpen(): void {
    this.out.open = undefined;
    this.err.open = undefined;
  }

  private textOf({ parsed, start, end }: EntryReader, bytes: Buffer): string {
    if (parsed !== undefined) return parsed;
    const text = bytes.toString('utf8', start, end);
    return text.includes('\\') ? (JSON.parse(`"${text}"`) as string) : text;
  }

  private append(stream: StreamState, entry: EntryReader, text: string, file: LogFile, at: number): void {
    const { second, nano } = entry;
    stream.open ??= {
      ...{ second, nano, file, at },
      ...{ pieces: [], bytes: 0, past: 0, isBehind: false },
      isOld: this.isTooOld(stream, second, nano),
    };
    const { open } = stream;
    if (open.bytes >= limits.maxReceivedLineBytes) return;
    open.pieces.push(text);
    open.bytes += text.length;
  }

  private endOpen(
    stream: StreamState,
    open: OpenLine,
    file: LogFile,
    at: number,
    isLeft: boolean,
  ): void | Promise<void> {
    stream.open = undefined;
    if (open.isOld) {
      this.passOther(stream);
      return undefined;
    }
    const text = open.pieces.join('');
    return this.end(stream, open, text, file, at, isLeft && this.isTerminal);
  }

  private end(
    stream: StreamState,
    { second, nano }: { second: number; nano: number },
    text: string,
    file: LogFile,
    at: number,
    isPart = false,
  ): void | Promise<void> {
    this.passOther(stream);
    if (this.isPassed(stream) || this.isOld(stream, second, nano)) return undefined;
    this.file = file;
    this.at = at;
    stream.advance(second, nano, isPart ? Buffer.byteLength(text) : undefined);
    const line = this.isTerminal && text.endsWith('\r') ? text.slice(0, -1) : text;
    return this.handOn(stream, line, second * 1000 + Math.floor(nano / 1e6));
  }

  private handOn(stream: StreamState, message: string, timestamp: number): void | Promise<void> {
    this.lines++;
    const { options } = this;
    return options.deliver(
      { ...options.fields(), message, timestamp, isStdErr: stream === this.err },
      { key: options.key, value: this.position },
    );
  }

  /** A line of `stream` has ended behind the beginning of the other's, if that has one. */
  private passOther(stream: StreamState): void {
    const { open } = stream === this.out ? this.err : this.out;
    if (!open) return;
    open.past++;
    open.isBehind = true;
  }

  private isOld(stream: StreamState, second: number, nano: number): boolean {
    if (this.isTooOld(stream, second, nano)) return true;
    return this.resume !== undefined && this.resume.readBefore(stream.name, nanosOf(second, nano)) > 0;
  }

  private isTooOld(stream: StreamState, second: number, nano: number): boolean {
    return isLater(this.sinceSecond, this.sinceNano, second, nano) && (stream.isEmpty || !this.resume);
  }

  private isPassed(stream: StreamState): boolean {
    if (stream === this.out ? this.pastOut === 0 : this.pastErr === 0) return false;
    if (stream === this.out) this.pastOut--;
    else this.pastErr--;
    return true;
  }
}
