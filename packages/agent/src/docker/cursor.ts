import { type LogInput, limits, truncateUtf8 } from '@millrace/wire';
import { type AssembledLine, Assembler, type Multiline } from '../assemble/assembler.ts';
import { levelOf } from '../classify/level.ts';
import { countGap, type GapCounts, gapLine } from '../logging/gap.ts';
import type { Json, SourcePosition } from '../logging/types.ts';
import type { Rules } from '../shape/rules.ts';
import { type DropCounts, noDrops, Shaper } from '../shape/shaper.ts';
import type { LineReader, LogLine } from './lines.ts';
import {
  advance,
  begin,
  type DockerPosition,
  type LogStream,
  parsePosition,
  positionKey,
  type Resume,
  type ResumePoint,
  resumeFrom,
  type StreamMark,
} from './position.ts';
import { type ContainerIdentity, type ServiceFields, serviceOf } from './services.ts';
import { nanosOfMs, TimestampReader } from './timestamp.ts';

/** One response of the engine, while it is read. */
export interface Pass {
  /** The engine goes on sending what is written, instead of ending at the log's end. */
  readonly isFollowed: boolean;
  /** The log is rotated: a followed stream must prove itself, see `rotation.ts`. */
  readonly isRotated: boolean;
  readonly lines: LineReader;
  readonly resume: Resume;
  /** Lines that had not been read before. */
  newLines: number;
  /** About what they take in the engine's log. */
  newBytes: number;
  /** A followed stream can no longer be trusted, see `rotation.ts`. */
  isDoubtful: boolean;
  /** That the line read last is gone, and maybe others behind it, is on record. */
  isGapTold: boolean;
  /** Why it ended before its end. */
  failure?: unknown;
}

export interface LogCursorOptions {
  container: ContainerIdentity;
  /** The position saved before, if any. */
  saved: Json | undefined;
  /** Where reading begins without a position, in ms since 1970; asked at each attempt. */
  startMs(): number;
  /** How lines become messages. Default: traces are joined. */
  multiline?: Multiline;
  /** What is done to messages before they are handed on. */
  rules?: Rules;
  /** Counts what the rules drop; may be shared. */
  drops?: DropCounts;
  /** Counts what could not be read; may be shared. */
  gaps?: GapCounts;
  /** Takes a message; a promise holds the container's stream back until it is settled. */
  deliver(line: LogInput, position: SourcePosition): void | Promise<void>;
  /** Takes a position now and then while rules drop every line. */
  move?(position: SourcePosition): void;
}

/**
 * Where we are in one container's log: hands on each line that is new, joined with others where they are one message,
 * and with the position behind it.
 *
 * There are two positions. One is behind the line read last, and tells what is new. The other is what is handed on:
 * of each stream the mark behind the last line that was. A stream whose first lines are still held has the mark of
 * one that has begun (`n` 0), so that a message of the other stream cannot hide them. After a crash the held lines
 * are therefore read again, and nothing else is.
 */
export class LogCursor {
  readonly key: string;
  fields: ServiceFields;
  private readonly options: LogCursorOptions;
  private position: DockerPosition | undefined;
  private handedOn: DockerPosition;
  private readonly assembler: Assembler<StreamMark>;
  private shaper: Shaper<StreamMark> | undefined;
  private movedMs = performance.now();
  private readonly lastMessage: Partial<Record<LogStream, string>> = {};

  constructor(options: LogCursorOptions) {
    this.options = options;
    this.key = positionKey(options.container.id);
    this.fields = serviceOf(options.container);
    this.position = parsePosition(options.saved);
    this.handedOn = this.position ?? {};
    this.assembler = new Assembler({
      multiline: options.multiline ?? 'traces',
      release: (line) => (this.shaper ? this.shaper.take(line) : this.handOn(line)),
    });
    this.shape(options.rules);
  }

  get current(): DockerPosition | undefined {
    return this.position;
  }

  /** Where reading begins without a position, in ms since 1970. */
  get startMs(): number {
    return this.options.startMs();
  }

  identify(container: ContainerIdentity): void {
    this.fields = serviceOf(container);
  }

  resumePoint(nowMs: number, marginMs: number): ResumePoint {
    return resumeFrom(this.position, { start: nanosOfMs(this.startMs), now: nanosOfMs(nowMs), marginMs });
  }

  /** Hands on a line, unless it was read before or makes the pass doubtful. */
  take(line: LogLine, pass: Pass): void | Promise<void> {
    const { stream, nanos, source, start, end } = line;
    const readBefore = pass.resume.readBefore(stream, nanos);
    if (pass.resume.hasJumped && !pass.isGapTold) this.tellGap(line.ms, pass);
    const length = end - start;
    if (readBefore > length || (readBefore === length && readBefore > 0)) return undefined;
    const { textStart, ms } =
      readBefore > 0 ? continued(line, start + readBefore) : { textStart: start, ms: line.ms };
    const text = source.toString('utf8', textStart, end);
    const message = line.cutBytes > 0 ? truncateUtf8(text, limits.maxMessageBytes, line.cutBytes) : text;
    if (pass.isFollowed && readBefore === 0 && this.isDoubtful(line, message, pass)) {
      pass.isDoubtful = true;
      return undefined;
    }
    this.lastMessage[stream] = message;
    pass.newLines++;
    pass.newBytes += length + entryBytes;
    const part = line.isUnfinished && pass.lines.isTerminal ? length : undefined;
    const level = levelOf(source, textStart, end);
    const position = this.withBegun(advance(this.position ?? {}, stream, nanos, part), stream, pass);
    this.position = position;
    this.handedOn = this.withBegun(this.handedOn, stream, pass);
    if (this.handedOn[stream] === undefined) this.handedOn = begin(this.handedOn, stream, nanos);
    const mark = position[stream] as StreamMark;
    return this.assembler.push({ stream, message, timestampMs: ms, level, mark }, source, textStart, end);
  }

  /** From now on these rules hold. */
  shape(rules: Rules | undefined): void {
    void this.shaper?.flush();
    const { drops = noDrops() } = this.options;
    this.shaper =
      rules &&
      new Shaper({
        rules,
        drops,
        deliver: (line) => this.handOn(line),
        skip: (line) => this.skip(line),
      });
  }

  /** Hands on what waits for a line that could be joined to it, and the summaries of what was dropped. */
  async flush(): Promise<void> {
    await this.assembler.flush();
    await this.shaper?.flush();
  }

  /** A line is not handed on. Its mark is saved with the next one that is, or after a while by itself. */
  private skip(line: AssembledLine<StreamMark>): void {
    this.pass(line);
    const nowMs = performance.now();
    if (nowMs - this.movedMs < moveIntervalMs) return;
    this.movedMs = nowMs;
    this.options.move?.({ key: this.key, value: this.handedOn as unknown as Json });
  }

  private pass({ stream, mark }: AssembledLine<StreamMark>): void {
    this.handedOn = { ...this.handedOn, [stream]: mark };
  }

  private handOn(line: AssembledLine<StreamMark>): void | Promise<void> {
    const { stream, message, timestampMs, level } = line;
    this.pass(line);
    return this.options.deliver(
      {
        ...this.fields,
        message,
        timestamp: timestampMs,
        isStdErr: stream === 'err',
        ...(level && { level }),
      },
      { key: this.key, value: this.handedOn as unknown as Json },
    );
  }

  private isDoubtful({ stream, nanos }: LogLine, message: string, pass: Pass): boolean {
    if (pass.isRotated && pass.resume.hasJumped) return true;
    const last = this.position?.[stream]?.last;
    if (last === undefined || nanos > last) return false;
    // Equal times are usual where the clock is coarse; equal times and texts hardly.
    return nanos < last || message === this.lastMessage[stream];
  }

  /** A followed stream that goes on elsewhere is read once more, and only what is missing then is gone. */
  private tellGap(toMs: number, pass: Pass): void {
    if (pass.isFollowed && pass.isRotated) return;
    pass.isGapTold = true;
    const { gaps, deliver } = this.options;
    const lasts = [this.position?.out?.last, this.position?.err?.last].filter((last) => last !== undefined);
    const fromMs = Math.max(...lasts.map((last) => Math.floor(Number(last) / 1e6)));
    const gap = { reason: 'rotated' as const, fromMs, toMs };
    if (gaps) countGap(gaps, gap);
    // It is one line: what comes next is held back, should it have to be.
    void deliver(gapLine(gap, this.fields), { key: this.key, value: this.handedOn as unknown as Json });
  }

  private withBegun(position: DockerPosition, stream: LogStream, pass: Pass): DockerPosition {
    const other = stream === 'out' ? 'err' : 'out';
    if (position[other] !== undefined) return position;
    const begun = pass.lines.openSince(other);
    return begun === undefined ? position : begin(position, other, begun);
  }
}

/** How much is read again after a crash when nothing of it was wanted. */
const moveIntervalMs = 5_000;

/** What an entry of a log file has around its text: names, stream, time. */
const entryBytes = 80;

/** The rest of a line whose beginning was taken for a line of its own: what a later process wrote, with its stamp. */
function continued(line: LogLine, from: number): { textStart: number; ms: number } {
  const own = new TimestampReader();
  const text = own.read(line.source, from, line.end);
  return text < 0 ? { textStart: from, ms: line.ms } : { textStart: text, ms: own.ms };
}
