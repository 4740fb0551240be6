import { type AssembledLine, Assembler } from '../../assemble/assembler.ts';
import { levelOf, levelOfEscaped } from '../../classify/level.ts';
import { countGap, type Gap, gapLine } from '../../logging/gap.ts';
import type { Json, PositionSource } from '../../logging/types.ts';
import type { Rules } from '../../shape/rules.ts';
import { noDrops, Shaper } from '../../shape/shaper.ts';
import { Mark } from '../mark.ts';
import type { DockerPosition, LogStream } from '../position.ts';
import type { ServiceFields } from '../services.ts';
import { ShortWay } from '../short-way.ts';
import { isLater, msOf } from '../timestamp.ts';
import { isAlone } from './alone.ts';
import type { FileCursorOptions } from './cursor-options.ts';
import { type EntryReader, textOf } from './entry.ts';
import type { LogFile } from './log-file.ts';
import { OpenLine } from './open-line.ts';
import { PassedLines } from './passed-lines.ts';
import type { FilePoint } from './point.ts';
import { pointBehind, StreamProgress } from './progress.ts';

/** Where a stream stands behind a line that may be held. */
interface LineMark {
  mark: Mark;
  index: number;
}

/**
 * Where we are in one container's log files: joins pieces, passes over what was read before, and hands on each line
 * that is new, joined with others where they are one message.
 *
 * What is handed on and what was read differ by the lines that are not ended yet, or that wait for others to join
 * them. The position is that of what is handed on: it points to the first line that is not, and counts those behind
 * it that are.
 */
export class FileCursor implements PositionSource {
  readonly key: string;
  /** Lines handed on. */
  lines = 0;
  private readonly options: FileCursorOptions;
  private readonly out: StreamProgress;
  private readonly err: StreamProgress;
  private readonly open: Record<LogStream, OpenLine | undefined> = { out: undefined, err: undefined };
  private readonly assembler: Assembler<LineMark>;
  private shaper: Shaper<LineMark> | undefined;
  private movedMs = performance.now();
  private readonly short: ShortWay | undefined;
  private fields: ServiceFields;
  /** Behind the last entry that has ended a line. */
  private file: LogFile | undefined;
  private at = 0;
  private order = 0;
  private readonly passed = new PassedLines();
  /** Lies in front of the next entry. */
  private gap: Gap | undefined;

  constructor(options: FileCursorOptions) {
    this.options = options;
    this.key = options.key;
    this.fields = options.fields;
    const { encoded, multiline, fields } = options;
    this.short = encoded && new ShortWay({ encoded, multiline, fields });
    this.out = new StreamProgress('out', options.saved?.out);
    this.err = new StreamProgress('err', options.saved?.err);
    this.assembler = new Assembler({
      multiline: options.multiline,
      release: (line) => (this.shaper ? this.shaper.take(line) : this.handOn(line)),
    });
    this.shape(options.rules);
  }

  /** From now on these rules hold. */
  shape(rules: Rules | undefined): void {
    void this.shaper?.flush();
    this.shaper =
      rules &&
      new Shaper({
        rules,
        drops: this.options.drops ?? noDrops(),
        deliver: (line) => this.handOn(line),
        skip: (line) => this.skip(line),
      });
  }

  identify(fields: ServiceFields): void {
    this.fields = fields;
    this.short?.identify(fields);
  }

  /** The marks of both streams; `undefined` before the first line. */
  get marks(): DockerPosition | undefined {
    const out = this.out.saved();
    const err = this.err.saved();
    return out || err ? { ...(out && { out }), ...(err && { err }) } : undefined;
  }

  /** Where reading has to go on if it ended now; `undefined` before the first line of this process. */
  get point(): FilePoint | undefined {
    return pointBehind(this.out, this.err, this.file, this.at);
  }

  get position(): Json {
    const { marks, point } = this;
    return { ...marks, ...(point && { file: point }) } as unknown as Json;
  }

  /** Reading begins at `point`, of `file`: everything from there is new but for what the point says. */
  beginAt(file: LogFile, { at, past }: FilePoint): void {
    this.restart(past);
    this.file = file;
    this.at = at;
  }

  /** Reading begins with the oldest that is kept: what is older than `since`, or the marks say was read, is passed over. */
  beginByMarks(since: string, rotated?: ReadonlySet<LogStream>): void {
    this.restart();
    this.file = undefined;
    this.passed.beginByMarks(this.marks, since, rotated);
  }

  /**
   * The end of what is kept has been reached: what comes now is new. Returns the streams whose line read last was
   * not there.
   */
  caughtUp(): LogStream[] {
    for (const name of ['out', 'err'] as const) {
      const open = this.open[name];
      // It may have been read as the last line of a container that had ended.
      if (open && !open.isOld) open.isOld = this.passed.wasRead(name, open.second, open.nano);
    }
    const unmatched = this.passed.unmatched();
    this.passed.clear();
    return unmatched;
  }

  /**
   * Takes an entry, `bytes` being what it was read from, at `[from, to)` of `file`. Returns a promise when whoever
   * gets the line wants us to wait.
   *
   * @param next the entry behind it, where {@link asksForNext} and it is there
   */
  take(
    entry: EntryReader,
    bytes: Buffer,
    file: LogFile,
    from: number,
    to: number,
    next?: EntryReader,
  ): void | Promise<void> {
    const stream = entry.isStdErr ? this.err : this.out;
    const open = this.open[stream.name];
    if (this.gap) this.tellGap(this.gap, entry, file, from);
    if (!open && entry.endsLine) {
      if (this.isPassed(stream, entry.second, entry.nano)) return this.pass(stream, file, to);
      if (this.addEncoded(stream, entry, bytes, next)) return this.settle(stream, file, to);
      this.begin(stream, entry, file, from);
      return this.end(stream, entry, textOf(entry, bytes), file, to);
    }
    if (open && (open.second !== entry.second || open.nano !== entry.nano)) {
      // The process that began it is gone; this is what the next one writes.
      const taken = this.endOpen(stream, open, file, from, false);
      const then = () => this.take(entry, bytes, file, from, to, next);
      return taken ? taken.then(then) : then();
    }
    const line = this.append(stream, entry, textOf(entry, bytes), file, from);
    return entry.endsLine ? this.endOpen(stream, line, file, to, false) : undefined;
  }

  /** Whether what is done with an entry may depend on the one behind it. */
  asksForNext({ parsed, endsLine, start }: EntryReader, bytes: Buffer): boolean {
    const { short } = this;
    return endsLine && parsed === undefined && !this.shaper && short?.admitsWithNext(bytes[start]) === true;
  }

  /** In front of the next entry there were lines that nobody could read. */
  expectGap(gap: Gap | undefined): void {
    this.gap = gap;
  }

  /** To be called after some entries. */
  added(): void | Promise<void> {
    return this.short?.flush();
  }

  /** Text that is no entry is kept as a line of its own. It has no time, so the marks stay. */
  takeDamaged(text: string, file: LogFile, to: number): void | Promise<void> {
    this.file = file;
    this.at = to;
    this.lines++;
    const line = { ...this.fields, message: text, timestamp: Date.now(), isStdErr: false };
    return this.options.deliver(line, { key: this.key, value: this.position });
  }

  /** Ends what was left without a newline by a container that has ended, and hands on what waits. */
  async endAll(file: LogFile | undefined, at: number): Promise<void> {
    const lines = [this.out, this.err].flatMap((stream) => {
      const open = this.open[stream.name];
      return open ? [{ stream, open }] : [];
    });
    lines.sort((a, b) => (isLater(a.open.second, a.open.nano, b.open.second, b.open.nano) ? 1 : -1));
    for (const { stream, open } of lines) if (file) await this.endOpen(stream, open, file, at, true);
    await this.flush();
  }

  /** Hands on what waits for a line that could be joined to it, and the summaries of what was dropped. */
  async flush(): Promise<void> {
    await this.assembler.flush();
    await this.shaper?.flush();
  }

  private restart(past: FilePoint['past'] = {}): void {
    this.open.out = this.open.err = undefined;
    this.out.restart(past.out ?? 0);
    this.err.restart(past.err ?? 0);
    this.passed.clear();
    this.gap = undefined;
  }

  /** Adds the line as it lies, if nothing is to be done to it; `false` when it must go the long way. */
  private addEncoded(
    stream: StreamProgress,
    entry: EntryReader,
    bytes: Buffer,
    next: EntryReader | undefined,
  ): boolean {
    const { short, assembler } = this;
    const { start, end, second, nano } = entry;
    if (!short || this.shaper || entry.parsed !== undefined || this.options.isTerminal) return false;
    if (!next && (assembler.isHolding(stream.name) || !short.admits(bytes[start], second, nano)))
      return false;
    const level = levelOfEscaped(bytes, start, end);
    if (
      next &&
      !(short.admitsTime(second, nano) && isAlone(assembler, stream.name, level, entry, next, bytes))
    )
      return false;
    if (!short.addEscaped(bytes, start, end, second, nano, stream === this.err, level, this)) return false;
    this.lines++;
    stream.read.advance(second, nano, undefined);
    return true;
  }

  /** A line that is handed on, or needs not be, has ended at `to`. */
  private settle(stream: StreamProgress, file: LogFile, to: number): undefined {
    stream.ended++;
    this.file = file;
    this.at = to;
    stream.handedOn.copyFrom(stream.read);
    stream.settled = stream.ended;
  }

  private pass(stream: StreamProgress, file: LogFile, to: number): undefined {
    stream.ended++;
    this.file = file;
    this.at = to;
    stream.settleBefore(stream.ended);
  }

  private begin(
    stream: StreamProgress,
    { second, nano }: { second: number; nano: number },
    file: LogFile,
    at: number,
  ): void {
    const other = stream === this.out ? this.err : this.out;
    stream.begin({ file, at, second, nano, otherEnded: other.ended, order: this.order++ });
  }

  private append(
    stream: StreamProgress,
    entry: EntryReader,
    text: string,
    file: LogFile,
    at: number,
  ): OpenLine {
    let open = this.open[stream.name];
    if (!open) {
      open = new OpenLine(entry, stream.past === 0 && this.passed.isTooOld(stream, entry.second, entry.nano));
      this.open[stream.name] = open;
      this.begin(stream, entry, file, at);
    }
    open.add(text);
    return open;
  }

  private endOpen(
    stream: StreamProgress,
    open: OpenLine,
    file: LogFile,
    at: number,
    isLeft: boolean,
  ): void | Promise<void> {
    this.open[stream.name] = undefined;
    if (open.isOld || this.isPassed(stream, open.second, open.nano)) return this.pass(stream, file, at);
    return this.end(stream, open, open.text, file, at, isLeft && this.options.isTerminal);
  }

  private end(
    stream: StreamProgress,
    { second, nano }: { second: number; nano: number },
    text: string,
    file: LogFile,
    at: number,
    isPart = false,
  ): void | Promise<void> {
    stream.ended++;
    this.file = file;
    this.at = at;
    stream.read.advance(second, nano, isPart ? Buffer.byteLength(text) : undefined);
    const message = this.options.isTerminal && text.endsWith('\r') ? text.slice(0, -1) : text;
    const bytes = Buffer.from(message);
    const mark = new Mark();
    mark.copyFrom(stream.read);
    const line = {
      stream: stream.name,
      message,
      timestampMs: msOf(second, nano),
      level: levelOf(bytes, 0, bytes.length),
      mark: { mark, index: stream.ended },
    };
    return this.assembler.push(line, bytes, 0, bytes.length);
  }

  private handOn({
    stream: name,
    message,
    timestampMs,
    level,
    mark,
  }: AssembledLine<LineMark>): void | Promise<void> {
    this.leaveBehind(name, mark);
    this.lines++;
    const isStdErr = name === 'err';
    return this.options.deliver(
      { ...this.fields, message, timestamp: timestampMs, isStdErr, ...(level && { level }) },
      { key: this.key, value: this.position },
    );
  }

  /** A line is not handed on. Its place is saved with the next one that is, or after a while by itself. */
  private skip({ stream, mark }: AssembledLine<LineMark>): void {
    this.leaveBehind(stream, mark);
    const nowMs = performance.now();
    if (nowMs - this.movedMs < moveIntervalMs) return;
    this.movedMs = nowMs;
    this.options.move({ key: this.key, value: this.position });
  }

  private leaveBehind(name: LogStream, { mark, index }: LineMark): void {
    const stream = name === 'err' ? this.err : this.out;
    stream.handedOn.copyFrom(mark);
    stream.settleBefore(index);
  }

  /** Whether a line that has ended was handed on by an earlier process, or is not wanted. To be asked once for each. */
  private isPassed(stream: StreamProgress, second: number, nano: number): boolean {
    const { passed } = this;
    const hadJumped = passed.hasJumped;
    const isPassed = passed.has(stream, second, nano);
    if (passed.hasJumped && !hadJumped) this.record({ reason: 'rotated', ...this.between(second, nano) });
    return isPassed;
  }

  private tellGap(gap: Gap, { second, nano }: EntryReader, file: LogFile, from: number): void {
    this.gap = undefined;
    // Behind it, so that it is not told again after a restart.
    this.file = file;
    this.at = from;
    this.record({ ...gap, ...this.between(second, nano) });
  }

  /** From the line read last to one of this time. */
  private between(second: number, nano: number): { fromMs?: number; toMs: number } {
    const fromMs = Math.max(this.out.read.ms, this.err.read.ms);
    return { ...(fromMs >= 0 && { fromMs }), toMs: msOf(second, nano) };
  }

  private record(gap: Gap): void {
    if (this.options.gaps) countGap(this.options.gaps, gap);
    // It is one line: what comes next is held back, should it have to be.
    void this.options.deliver(gapLine(gap, this.fields), { key: this.key, value: this.position });
  }
}

/** How much is read again after a crash when nothing of it was wanted. */
const moveIntervalMs = 5_000;
