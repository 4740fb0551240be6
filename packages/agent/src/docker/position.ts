import type { Json } from '../logging/types.ts';
import { isNanos, minusMs, type Nanos } from './timestamp.ts';

/**
 * How far a container has been read. Saved with every line under the key `docker:<container id>`, as
 *
 *     {"out": {"last": "1763642485567969173", "n": 1}, "err": {…}}
 *
 * The engine gives lines no numbers, only times, and two goroutines copy a container's two streams into one log.
 * So within a stream times never decrease, unless the clock was stepped back; across streams the log's order and
 * the times' order differ a little. Hence one mark per stream, which says: the line read last has the time
 * `last`, and is the `n`-th of that time.
 *
 * To resume, the engine is asked for the lines `since` (inclusive) the smaller `last`, and each stream passes over
 * what it has had, see {@link Resume}. Engines differ in what `since` means: 20.10 leaves out every line that is
 * older, 23 and later only those before the first that is not. Both are right here as long as no unread line is
 * older than `since`:
 *
 * - In a stream that has a mark an unread line is not older than `last`, unless the clock was stepped back after
 *   it; {@link clockMarginMs} covers small steps, and {@link resumeFrom} sees large ones.
 * - A stream without a mark has had no line yet. Its first line comes behind the other stream's `last` in the log
 *   but may carry an older time: it waited for the log while the other stream wrote. {@link skewMs} is far more
 *   than that ever takes. If the line was already begun (its first 16 KB were written, its newline was not), it is
 *   older still: then the stream gets a mark with the time of that beginning and `n` 0.
 *
 * One case is not covered: the clock is set forward, by more than {@link skewMs}, in the very moment in which the
 * first line of a stream waits for the log, the other stream overtakes it, and the agent ends between the two.
 */
export interface DockerPosition {
  out?: StreamMark;
  err?: StreamMark;
}

export interface StreamMark {
  /** Time of the line read last. */
  last: Nanos;
  /** How many lines of exactly that time have been read; 0 when the first line of the stream has only begun. */
  n: number;
  /** The latest time of the stream, when it is later than `last`: the clock was stepped back in between. */
  max?: Nanos;
  /**
   * The line read last is the first `part` bytes of a terminal's line: it was left unfinished when its process
   * ended, and what the next process writes continues it in the log.
   */
  part?: number;
}

export type LogStream = 'out' | 'err';

const streams = ['out', 'err'] as const;

/** How far back the clock may be stepped while nobody reads without a line being missed. */
export const clockMarginMs = 60_000;

/** Longest time that a line of one stream waits for the log while lines of the other overtake it. */
export const skewMs = 10_000;

const keyPrefix = 'docker:';

export function positionKey(containerId: string): string {
  return keyPrefix + containerId;
}

/** What all keys of this source begin with. */
export const positionKeyPrefix = keyPrefix;

/** Reads a saved position; `undefined` when there is none or it is not one of ours. */
export function parsePosition(value: Json | undefined): DockerPosition | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const position: DockerPosition = {};
  for (const stream of streams) {
    const saved = value[stream];
    if (saved === undefined) continue;
    const mark = parseMark(saved);
    if (!mark) return undefined;
    position[stream] = mark;
  }
  return position.out || position.err ? position : undefined;
}

function parseMark(value: Json): StreamMark | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const { last, n, max, part } = value;
  if (!isNanos(last) || !isCount(n)) return undefined;
  return {
    last,
    n,
    ...(isNanos(max) && { max }),
    ...(isCount(part) && { part }),
  };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/**
 * The position after one more line. Never changes its argument, so that a backend may keep it.
 *
 * @param part for a terminal's unfinished line: how much of it has been read
 */
export function advance(
  position: DockerPosition,
  stream: LogStream,
  nanos: Nanos,
  part?: number,
): DockerPosition {
  const mark = advanceMark(position[stream], nanos, part);
  return stream === 'out' ? { ...position, out: mark } : { ...position, err: mark };
}

function advanceMark(mark: StreamMark | undefined, nanos: Nanos, part: number | undefined): StreamMark {
  const next = nextMark(mark, nanos);
  if (part !== undefined) next.part = part;
  return next;
}

function nextMark(mark: StreamMark | undefined, nanos: Nanos): StreamMark {
  if (!mark) return { last: nanos, n: 1 };
  const { last, n, max, part } = mark;
  if (nanos === last) {
    // What continues a part belongs to the line that was counted with it.
    const next: StreamMark = { last, n: part === undefined ? n + 1 : n };
    if (max !== undefined) next.max = max;
    return next;
  }
  const latest = max ?? last;
  return latest > nanos ? { last: nanos, n: 1, max: latest } : { last: nanos, n: 1 };
}

/** The position when a line has begun on a stream that has had none. */
export function begin(position: DockerPosition, stream: LogStream, nanos: Nanos): DockerPosition {
  return { ...position, [stream]: { last: nanos, n: 0 } };
}

export interface ResumePoint {
  /** What to ask the engine for. */
  since: Nanos;
  /**
   * The clock was stepped back around the position. Times alone cannot tell then whether a line that has been
   * read is still in the log, so it must be read to its end once: see {@link Resume.unmatched}.
   */
  isUncertain: boolean;
}

/**
 * Where to go on reading.
 *
 * @param options.start where a container without a position is read from
 * @param options.now the present time; a position behind it was saved by a clock that has since been set back
 * @param options.marginMs how much earlier to begin, see {@link clockMarginMs}
 */
export function resumeFrom(
  position: DockerPosition | undefined,
  { start, now, marginMs }: { start: Nanos; now: Nanos; marginMs: number },
): ResumePoint {
  const marks = position ? streams.flatMap((stream) => position[stream] ?? []) : [];
  const [first, second] = marks;
  if (!first) return { since: start, isUncertain: false };
  const earliest = second && second.last < first.last ? second.last : first.last;
  const latest = second && second.last > first.last ? second.last : first.last;
  if (latest > now) return { since: '0'.repeat(latest.length), isUncertain: true };
  const margin = minusMs(earliest, second ? marginMs : Math.max(marginMs, skewMs));
  // Not before `start`: the stream without a mark would show lines that were left out on purpose.
  const bounded = margin < start ? start : margin;
  return {
    since: bounded < earliest ? bounded : earliest,
    isUncertain: marks.some(({ max }) => max !== undefined),
  };
}

/**
 * Tells which of the lines that the engine sends after a {@link resumeFrom} have been read before. One per
 * response. In each stream:
 *
 * - lines of the time `last` are counted; the `n`-th is the one read last, and everything behind it is new;
 * - a line later than `last` and `max` shows that the log was rotated and ours is gone: it and the rest are new;
 * - any other line was read before.
 */
export class Resume {
  /** A stream went on behind our line without showing it. */
  hasJumped = false;
  private readonly pending: Record<LogStream, StreamMark | undefined>;
  private readonly counted: Record<LogStream, number> = { out: 0, err: 0 };

  /** @param rotated streams whose line read last is known to be gone, so that everything is new */
  constructor(position: DockerPosition | undefined, rotated: ReadonlySet<LogStream> = new Set()) {
    const pendingOf = (stream: LogStream) => {
      const mark = position?.[stream];
      return mark && mark.n > 0 && !rotated.has(stream) ? mark : undefined;
    };
    this.pending = { out: pendingOf('out'), err: pendingOf('err') };
  }

  /** How many bytes of the line were read before: 0 means that it is new, `Infinity` all of it. */
  readBefore(stream: LogStream, nanos: Nanos): number {
    const mark = this.pending[stream];
    if (mark === undefined) return 0;
    if (nanos === mark.last) {
      if (++this.counted[stream] < mark.n) return Number.POSITIVE_INFINITY;
      this.pending[stream] = undefined;
      return mark.part ?? Number.POSITIVE_INFINITY;
    }
    if (nanos < mark.last || (mark.max !== undefined && nanos <= mark.max)) return Number.POSITIVE_INFINITY;
    this.pending[stream] = undefined;
    this.hasJumped = true;
    return 0;
  }

  /** Whether all that comes of a stream is new. */
  isPassed(stream: LogStream): boolean {
    return this.pending[stream] === undefined;
  }

  /** The streams whose line read last has not been seen. At the end of the log: it is there no longer. */
  unmatched(): LogStream[] {
    return streams.filter((stream) => this.pending[stream] !== undefined);
  }
}
