import { type Level, limits } from '@millrace/wire';
import { confirms, mayContinueMessage, opensMessage } from './messages.ts';
import { type GroupKind, isTrace, kindOfHead, kindWith } from './traces.ts';

/** A line of a container, or several that are one message. */
export interface AssembledLine<Mark> {
  stream: 'out' | 'err';
  message: string;
  /** Milliseconds since 1970, of the first line. */
  timestampMs: number;
  level: Level | undefined;
  /** Where the stream stands behind the last line. */
  mark: Mark;
}

/** A line's text, `bytes[start..end)`. */
export interface TextSpan {
  bytes: Buffer;
  start: number;
  end: number;
}

/** How the lines of a container become messages: traces are joined, nothing is, or what lies between two starts. */
export type Multiline = 'traces' | 'off' | { startsMessage(line: string): boolean };

export interface AssemblerOptions<Mark> {
  multiline: Multiline;
  /** Takes what is whole; a promise holds the caller back until it is settled. */
  release(line: AssembledLine<Mark>): void | Promise<void>;
}

/** How long a line that could be continued waits for the next: what is written at once arrives within this. */
export const lingerMs = 5;
/** How long a trace waits for its next line. */
export const traceMs = 100;
/** How long any group waits, from its first line. */
export const maxGroupMs = 1_000;
export const maxGroupLines = 2_000;
export const maxGroupBytes = limits.maxMessageBytes;
/** How many lines behind the first an exception's message may have. */
export const maxDoubtfulLines = 10;

/** A trace that was released because of its age, while its lines were still coming. */
interface CutTrace {
  kind: GroupKind;
  level: Level | undefined;
  /** What comes later does not belong to it. */
  untilMs: number;
}

interface Group<Mark> {
  first: AssembledLine<Mark>;
  texts: string[];
  bytes: number;
  kind: GroupKind;
  mark: Mark;
  sinceMs: number;
  dueMs: number;
  /** The line that came last begins a message that may have more lines, see `messages.ts`. */
  isOpen: boolean;
  /** Lines behind it that are part of the group if its trace follows, and messages of their own if not. */
  doubtful: { line: AssembledLine<Mark>; bytes: number }[];
  doubtfulBytes: number;
}

/**
 * Joins lines that are one message: stack traces, and indented lines with the line before. One for each container,
 * whose two streams are joined each by itself.
 *
 * Only what can be continued is held, and a line of JSON cannot: any other line for {@link lingerMs} or until the
 * next one comes, a trace for {@link traceMs} after each of its lines. Time is monotonic. A group that grows too
 * large or too old is released, and what follows begins another.
 *
 * Lines that are held are nowhere but here, so their positions must not be saved: a line is released together with
 * the mark behind its last, and until then the source must be able to read it again.
 */
export class Assembler<Mark> {
  private readonly options: AssemblerOptions<Mark>;
  private readonly groups: Record<'out' | 'err', Group<Mark> | undefined> = {
    out: undefined,
    err: undefined,
  };
  private readonly cut: Record<'out' | 'err', CutTrace | undefined> = { out: undefined, err: undefined };
  private timer: NodeJS.Timeout | undefined;
  private timerDueMs = Number.POSITIVE_INFINITY;
  /** Releases that are not settled: until then no timer hands on more. */
  private unsettled = 0;

  constructor(options: AssemblerOptions<Mark>) {
    this.options = options;
  }

  /** Whether lines of a stream wait for others that may be joined to them, or may be about to. */
  isHolding(stream: 'out' | 'err'): boolean {
    return this.groups[stream] !== undefined;
  }

  /**
   * Whether a line is a message by itself, now that the one behind it on its stream is known: it joins nothing that is
   * held, which is released for it, and the next does not join it. Only where traces are joined; the line is not kept.
   */
  isAlone(stream: 'out' | 'err', level: Level | undefined, line: TextSpan, next: TextSpan): boolean {
    const kind = kindOfHead(line.bytes, line.start, line.end, level);
    if (isTrace(kind) || this.cut[stream] || opensMessage(kind, undefined, line.bytes, line.start, line.end))
      return false;
    if (kindWith(kind, 1, next.bytes, next.start, next.end)) return false;
    const group = this.groups[stream];
    if (!group) return true;
    if (group.isOpen) return false;
    if (kindWith(group.kind, group.texts.length, line.bytes, line.start, line.end)) return false;
    // It may ask to wait; whoever adds lines that need not be held asks by himself.
    void this.releaseGroup(group);
    this.arm();
    return true;
  }

  /** Takes the next line of a stream, whose text is `bytes[start..end)`. */
  push(line: AssembledLine<Mark>, bytes: Buffer, start: number, end: number): void | Promise<void> {
    const { multiline } = this.options;
    const group = this.groups[line.stream];
    if (multiline === 'off') return this.release(line);
    if (multiline === 'traces') {
      // Most lines of most devices: nothing is held and nothing may follow.
      if (bytes[start] === 0x7b && !group) return this.release(line);
      const kind = group && kindWith(group.kind, group.texts.length, bytes, start, end);
      if (group && group.doubtful.length > 0 && !(kind && this.settles(group, bytes, start, end))) {
        if (this.doubts(group, line, bytes, start, end)) return undefined;
        const taken = this.releaseGroup(group);
        return both(taken, this.push(line, bytes, start, end));
      }
      if (group && kind) {
        const isOpen = opensMessage(kind, group.kind, bytes, start, end);
        return this.join(group, line, kind, end - start, isOpen);
      }
      if (group?.isOpen && this.doubts(group, line, bytes, start, end)) return undefined;
      const cut = group ? undefined : this.cut[line.stream];
      if (cut) {
        this.cut[line.stream] = undefined;
        const further = performance.now() < cut.untilMs && kindWith(cut.kind, 3, bytes, start, end);
        if (further) return this.begin({ ...line, level: cut.level }, further, end - start);
      }
      const before = group && this.releaseGroup(group);
      const head = kindOfHead(bytes, start, end, line.level);
      const isOpen = opensMessage(head, undefined, bytes, start, end);
      return both(before, this.begin(line, head, end - start, isOpen));
    }
    if (group && !multiline.startsMessage(line.message)) return this.join(group, line, 'trace', end - start);
    return both(group && this.releaseGroup(group), this.begin(line, 'trace', end - start));
  }

  /** Releases all that is held. */
  flush(): void | Promise<void> {
    const taken: (void | Promise<void>)[] = [];
    // A group may leave another behind, of the lines that were doubtful.
    while (this.groups.out || this.groups.err) {
      const { out, err } = this.groups;
      const isErrFirst = !out || (err && err.first.timestampMs < out.first.timestampMs);
      taken.push(this.releaseGroup((isErrFirst ? err : out) as Group<Mark>));
    }
    this.arm();
    return taken.reduce(both, undefined);
  }

  /** Holds a line that is part of the message before it if a trace follows. */
  private doubts(
    group: Group<Mark>,
    line: AssembledLine<Mark>,
    bytes: Buffer,
    start: number,
    end: number,
  ): boolean {
    if (group.doubtful.length >= maxDoubtfulLines || line.level !== undefined) return false;
    if (!mayContinueMessage(bytes, start, end)) return false;
    group.doubtful.push({ line, bytes: end - start });
    group.doubtfulBytes += end - start + 1;
    return true;
  }

  /** Makes the lines that were doubtful part of the group if the line `bytes[start..end)` shows that they are. */
  private settles(group: Group<Mark>, bytes: Buffer, start: number, end: number): boolean {
    const { doubtful } = group;
    const isFull =
      performance.now() > group.sinceMs + maxGroupMs ||
      group.texts.length + doubtful.length >= maxGroupLines ||
      group.bytes + group.doubtfulBytes + end - start + 1 > maxGroupBytes;
    if (isFull || !confirms(group.kind, bytes, start, end)) return false;
    for (const { line } of doubtful) group.texts.push(line.message);
    group.bytes += group.doubtfulBytes;
    group.mark = (doubtful.at(-1) as (typeof doubtful)[number]).line.mark;
    group.doubtful = [];
    group.doubtfulBytes = 0;
    return true;
  }

  private begin(
    line: AssembledLine<Mark>,
    kind: GroupKind,
    bytes: number,
    isOpen = false,
  ): void | Promise<void> {
    if (kind === 'single') return this.release(line);
    const nowMs = performance.now();
    const level = line.level ?? (isTrace(kind) && this.options.multiline === 'traces' ? 'error' : undefined);
    const group: Group<Mark> = {
      first: level === line.level ? line : { ...line, level },
      texts: [line.message],
      bytes,
      kind,
      mark: line.mark,
      sinceMs: nowMs,
      dueMs: nowMs + (isTrace(kind) || isOpen ? traceMs : lingerMs),
      isOpen,
      doubtful: [],
      doubtfulBytes: 0,
    };
    this.groups[line.stream] = group;
    this.arm();
  }

  private join(
    group: Group<Mark>,
    line: AssembledLine<Mark>,
    kind: GroupKind,
    bytes: number,
    isOpen = false,
  ): void | Promise<void> {
    const nowMs = performance.now();
    const isFull = group.texts.length >= maxGroupLines || group.bytes + bytes + 1 > maxGroupBytes;
    if (isFull || nowMs > group.sinceMs + maxGroupMs) {
      const taken = this.releaseGroup(group);
      return both(
        taken,
        this.begin({ ...line, level: line.level ?? group.first.level }, kind, bytes, isOpen),
      );
    }
    group.texts.push(line.message);
    group.bytes += bytes + 1;
    // What seemed to be a line like any other was the head of a trace.
    if (group.kind === 'text' && isTrace(kind)) group.first.level ??= 'error';
    if (group.kind === 'jul') group.first.level ??= line.level;
    group.kind = kind;
    group.isOpen = isOpen;
    group.mark = line.mark;
    // Several lines are one message already, so more may come.
    group.dueMs = Math.min(nowMs + traceMs, group.sinceMs + maxGroupMs);
  }

  /** Releases a group, and takes the lines that turned out not to be part of it as any others. */
  private releaseGroup(group: Group<Mark>): void | Promise<void> {
    const { first, texts, mark, doubtful } = group;
    this.groups[first.stream] = undefined;
    let taken =
      texts.length === 1 ? this.release(first) : this.release({ ...first, message: texts.join('\n'), mark });
    for (const { line } of doubtful) {
      const bytes = Buffer.from(line.message);
      taken = both(taken, this.push(line, bytes, 0, bytes.length));
    }
    return taken;
  }

  private release(line: AssembledLine<Mark>): void | Promise<void> {
    const taken = this.options.release(line);
    if (!taken) return undefined;
    this.unsettled++;
    return taken.finally(() => {
      this.unsettled--;
      this.arm();
    });
  }

  /** Sets the timer to the group that is due first. A line may have moved that: then the timer is set again. */
  private arm(): void {
    const { out, err } = this.groups;
    const dueMs = Math.min(out?.dueMs ?? Number.POSITIVE_INFINITY, err?.dueMs ?? Number.POSITIVE_INFINITY);
    if (this.timer && this.timerDueMs <= dueMs && dueMs !== Number.POSITIVE_INFINITY) return;
    clearTimeout(this.timer);
    this.timer = undefined;
    if (dueMs === Number.POSITIVE_INFINITY || this.unsettled > 0) return;
    this.timerDueMs = dueMs;
    this.timer = setTimeout(() => this.releaseDue(), Math.max(1, dueMs - performance.now()));
  }

  private releaseDue(): void {
    this.timer = undefined;
    const nowMs = performance.now();
    for (const stream of ['out', 'err'] as const) {
      const group = this.groups[stream];
      // Half a millisecond: timers are no finer.
      if (!group || group.dueMs > nowMs + 0.5 || this.unsettled > 0) continue;
      const { kind, first, sinceMs } = group;
      const isOld = group.dueMs === sinceMs + maxGroupMs;
      if (isOld) this.cut[stream] = { kind, level: first.level, untilMs: nowMs + traceMs };
      void this.releaseGroup(group);
    }
    this.arm();
  }
}

function both(first: void | Promise<void>, second: void | Promise<void>): void | Promise<void> {
  if (!first || !second) return first || second;
  return Promise.all([first, second]).then(() => undefined);
}
