import type { LogStream, StreamMark } from '../position.ts';
import { nanosOf } from './entry.ts';
import type { LogFile } from './log-file.ts';
import type { FilePoint } from './point.ts';

/**
 * How far a stream has been read; see `../position.ts`. Numbers, since text for each line would cost more than all
 * else that is done with it.
 */
export class Mark {
  second = -1;
  nano = -1;
  n = 0;
  private maxSecond = -1;
  private maxNano = -1;
  private part: number | undefined;

  static of(saved: StreamMark | undefined): Mark {
    const mark = new Mark();
    if (!saved) return mark;
    [mark.second, mark.nano] = timeOf(saved.last);
    mark.n = saved.n;
    mark.part = saved.part;
    if (saved.max !== undefined) [mark.maxSecond, mark.maxNano] = timeOf(saved.max);
    return mark;
  }

  get isEmpty(): boolean {
    return this.second < 0;
  }

  /** Its time, in ms since 1970; negative when it is empty. */
  get ms(): number {
    return this.second * 1000 + Math.floor(this.nano / 1e6);
  }

  /** What `advance` of `../position.ts` does. */
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

  copyFrom(other: Mark): void {
    this.second = other.second;
    this.nano = other.nano;
    this.n = other.n;
    this.maxSecond = other.maxSecond;
    this.maxNano = other.maxNano;
    this.part = other.part;
  }

  /** As it is saved; `undefined` before the first line. */
  saved(): StreamMark | undefined {
    if (this.isEmpty) return undefined;
    return {
      last: nanosOf(this.second, this.nano),
      n: this.n,
      ...(this.maxSecond >= 0 && { max: nanosOf(this.maxSecond, this.maxNano) }),
      ...(this.part !== undefined && { part: this.part }),
    };
  }
}

export function timeOf(nanos: string): [second: number, nano: number] {
  return [Number(nanos.slice(0, -9)), Number(nanos.slice(-9))];
}

export function isLater(second: number, nano: number, thanSecond: number, thanNano: number): boolean {
  return second > thanSecond || (second === thanSecond && nano > thanNano);
}

/** Where a line begins that is not handed on yet. */
interface Pending {
  file: LogFile;
  at: number;
  second: number;
  nano: number;
  /** Which line of its stream it is. */
  index: number;
  /** How many lines of the other stream had ended in front of it. */
  otherEnded: number;
  /** Grows with the place in the log. */
  order: number;
}

/** One stream of a container: what has been read of it, and what of that is handed on. */
export class StreamProgress {
  readonly name: LogStream;
  readonly read: Mark;
  readonly handedOn = new Mark();
  /** Lines that have ended, and those of them that are handed on, or need not be. */
  ended = 0;
  settled = 0;
  /** Lines to pass over: they were handed on by an earlier process. */
  past = 0;
  private readonly pending: Pending[] = [];

  constructor(name: LogStream, saved: StreamMark | undefined) {
    this.name = name;
    this.read = Mark.of(saved);
    this.handedOn.copyFrom(this.read);
  }

  /** The first line that is not handed on. */
  get waiting(): Pending | undefined {
    return this.pending[0];
  }

  /** A line begins whose end, or whose release, is still to come. */
  begin(place: Omit<Pending, 'index'>): void {
    this.pending.push({ ...place, index: this.ended });
  }

  /** Lines before `index` are handed on, or need not be. */
  settleBefore(index: number): void {
    this.settled = Math.max(this.settled, index);
    while (this.pending[0] && this.pending[0].index < index) this.pending.shift();
  }

  /** Reading begins anew with what is not handed on. */
  restart(past: number): void {
    this.pending.length = 0;
    this.settled = this.ended = 0;
    this.past = past;
    this.read.copyFrom(this.handedOn);
  }

  saved(): StreamMark | undefined {
    const { waiting } = this;
    // A line that has begun and is the stream's first: nothing of it is older.
    return this.handedOn.saved() ?? (waiting && { last: nanosOf(waiting.second, waiting.nano), n: 0 });
  }
}

/**
 * Where reading has to go on if it ended now: at the first line that is not handed on, or else at `at` of `file`, behind
 * the last that ended. `undefined` where that file is not known by its beginning yet.
 */
export function pointBehind(
  out: StreamProgress,
  err: StreamProgress,
  file: LogFile | undefined,
  at: number,
): FilePoint | undefined {
  const isOut =
    (out.waiting?.order ?? Number.POSITIVE_INFINITY) < (err.waiting?.order ?? Number.POSITIVE_INFINITY);
  const waiting = isOut ? out.waiting : err.waiting;
  const { head, ino } = (waiting ? waiting.file : file) ?? {};
  if (!head || ino === undefined) return undefined;
  const since = (stream: StreamProgress, isOther: boolean) =>
    stream.past + (waiting && isOther ? Math.max(0, stream.settled - waiting.otherEnded) : 0);
  const pastOut = since(out, !isOut);
  const pastErr = since(err, isOut);
  const past = { ...(pastOut > 0 && { out: pastOut }), ...(pastErr > 0 && { err: pastErr }) };
  return { head, ino, at: waiting ? waiting.at : at, ...(pastOut + pastErr > 0 && { past }) };
}
