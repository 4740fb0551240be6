import { defaultLevel, levelRank } from '@millrace/wire';
import type { AssembledLine } from '../assemble/assembler.ts';
import { redacted } from './redacted.ts';
import type { Rules } from './rules.ts';

/** Why a line is not handed on. */
export const dropReasons = ['level', 'pattern', 'repeat', 'rate'] as const;
export type DropReason = (typeof dropReasons)[number];
export type DropCounts = Record<DropReason, number>;

export function noDrops(): DropCounts {
  return { level: 0, pattern: 0, repeat: 0, rate: 0 };
}

export function sumDrops(a: Readonly<DropCounts>, b: Readonly<DropCounts>): DropCounts {
  const sum = noDrops();
  for (const reason of dropReasons) sum[reason] = a[reason] + b[reason];
  return sum;
}

export interface ShaperOptions<Mark> {
  rules: Rules;
  /** Counted up for each line dropped; may be shared. */
  drops: DropCounts;
  /** Takes a line that is to be kept, or a summary of some that are not. A promise holds the caller back. */
  deliver(line: AssembledLine<Mark>): void | Promise<void>;
  /** A line was dropped for good: the source need not read it again. */
  skip(line: AssembledLine<Mark>): void;
}

/** How often what was dropped is summed up in a line, while more is being dropped. */
export const summaryMs = 10_000;

interface Run<Mark> {
  count: number;
  last: AssembledLine<Mark>;
}

/**
 * Applies a container's rules to its messages, in this order: the least level, the patterns to drop and to keep, what
 * is to be redacted, repeats, the rate. Redacted text exists nowhere behind this, on disk least of all.
 *
 * A repeat is not skipped before its summary is handed on: after a crash it is read again and counted again.
 */
export class Shaper<Mark> {
  private readonly options: ShaperOptions<Mark>;
  private readonly minRank: number;
  /** The line handed on last, per stream, if repeats are collapsed. */
  private readonly lastMessage: Partial<Record<'out' | 'err', string>> = {};
  private readonly repeats: Partial<Record<'out' | 'err', Run<Mark>>> = {};
  private limited: Run<Mark> | undefined;
  /** Behind the line that was dealt with last: a summary may come when many more have passed. */
  private readonly marks: Partial<Record<'out' | 'err', Mark>> = {};
  private tokens: number;
  private refilledMs = performance.now();
  private timer: NodeJS.Timeout | undefined;

  constructor(options: ShaperOptions<Mark>) {
    this.options = options;
    this.minRank = levelRank(options.rules.minLevel ?? 'debug');
    this.tokens = options.rules.rateLimit?.lines ?? 0;
  }

  take(line: AssembledLine<Mark>): void | Promise<void> {
    const { rules } = this.options;
    const level = line.level ?? defaultLevel(line.stream === 'err');
    this.marks[line.stream] = line.mark;
    if (levelRank(level) < this.minRank) return this.drop('level', line);
    const { message } = line;
    if (rules.drop.some((pattern) => pattern.matches(message))) return this.drop('pattern', line);
    if (rules.keep.length > 0 && !rules.keep.some((pattern) => pattern.matches(message))) {
      return this.drop('pattern', line);
    }
    const shown = rules.redact.length > 0 ? { ...line, message: redacted(message, rules.redact) } : line;
    const { stream } = line;
    if (rules.collapseRepeats && this.lastMessage[stream] === shown.message) return this.repeated(shown);
    const summed = this.endRepeats(stream);
    if (rules.rateLimit && !this.hasToken()) {
      this.limited = { count: (this.limited?.count ?? 0) + 1, last: shown };
      this.arm();
      this.drop('rate', shown);
      return summed;
    }
    if (rules.collapseRepeats) this.lastMessage[stream] = shown.message;
    const taken = this.options.deliver(shown);
    return summed && taken ? Promise.all([summed, taken]).then(() => undefined) : (summed ?? taken);
  }

  /** Sums up what was dropped and not said yet. The shaper can go on being used. */
  flush(): void | Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    const taken = [this.endRepeats('out'), this.endRepeats('err'), this.endLimited()].filter(
      (promise) => promise !== undefined,
    );
    if (taken.length > 0) return Promise.all(taken).then(() => undefined);
  }

  private drop(reason: DropReason, line: AssembledLine<Mark>): undefined {
    this.options.drops[reason]++;
    this.options.skip(line);
  }

  private repeated(line: AssembledLine<Mark>): undefined {
    this.options.drops.repeat++;
    this.repeats[line.stream] = { count: (this.repeats[line.stream]?.count ?? 0) + 1, last: line };
    this.arm();
  }

  private endRepeats(stream: 'out' | 'err'): void | Promise<void> {
    const run = this.repeats[stream];
    if (!run) return undefined;
    this.repeats[stream] = undefined;
    const message = `last message repeated ${run.count} ${run.count === 1 ? 'time' : 'times'}`;
    return this.options.deliver({ ...run.last, message });
  }

  private endLimited(): void | Promise<void> {
    const run = this.limited;
    if (!run) return undefined;
    this.limited = undefined;
    const { rateLimit } = this.options.rules;
    const message = `dropped ${run.count} ${run.count === 1 ? 'line' : 'lines'}: more than ${rateLimit?.text}`;
    const mark = this.marks[run.last.stream] ?? run.last.mark;
    return this.options.deliver({ ...run.last, message, level: 'warn', mark });
  }

  /** A bucket that fills evenly: after a pause a whole period's lines may come at once. */
  private hasToken(): boolean {
    const { rateLimit } = this.options.rules;
    if (!rateLimit) return true;
    const nowMs = performance.now();
    const refill = ((nowMs - this.refilledMs) * rateLimit.lines) / rateLimit.periodMs;
    this.tokens = Math.min(rateLimit.lines, this.tokens + refill);
    this.refilledMs = nowMs;
    if (this.tokens < 1) return false;
    this.tokens--;
    return true;
  }

  private arm(): void {
    this.timer ??= setTimeout(() => void this.flush(), summaryMs);
  }
}
