import { defaultLevel, encodeLine, type LogInput, levelRank } from '@millrace/wire';
import type { DeviceClock } from '../clock/device-clock.ts';
import type { EncodedLine, EncodedLog, PositionSource, SourcePosition } from '../logging/types.ts';
import { BatchBuilder } from './batch-builder.ts';
import type { LineListener } from './options.ts';

const errorRank = levelRank('error');

export interface IntakeOptions {
  clock: DeviceClock;
  nextSeq: number;
  /** Id of the journal that lines are added to at this moment. */
  journal(): string;
  /** Ends the open batch, since what comes next does not fit; calls {@link Intake.next}. */
  seal(): void;
  /** There is something to write. */
  schedule(isUrgent: boolean): void;
  ready(): Promise<void> | undefined;
}

/**
 * Where lines come in: gives each its seq and puts it into the open batch. Lines come one by one as objects, or the
 * short way, {@link encoded}, in runs of bytes.
 */
export class Intake {
  /** The batch that is open. */
  builder: BatchBuilder;
  nextSeq: number;
  /** Lines since the start of this process, and the bytes of their messages. */
  lines = 0;
  logBytes = 0;
  readonly listeners = new Set<LineListener>();
  readonly #options: IntakeOptions;
  /** An error came the short way and is not scheduled yet. */
  #hasUrgent = false;
  /** The clock was looked at since the last pause between lines that come the short way. */
  #hasChecked = false;

  constructor(options: IntakeOptions) {
    this.#options = options;
    this.nextSeq = options.nextSeq;
    this.builder = new BatchBuilder(options.nextSeq);
  }

  append(line: LogInput, position: SourcePosition | undefined): number {
    const { clock, journal, seal, schedule } = this.#options;
    const level = line.level ?? defaultLevel(line.isStdErr ?? false);
    this.logBytes += Buffer.byteLength(line.message) + 1;
    // First, so that a step of the clock ends the open batch: all lines of one share a clock.
    clock.check();
    const { timestamp } = line;
    const present = timestamp === undefined ? undefined : clock.present(timestamp);
    const text = encodeLine(present === timestamp ? line : { ...line, timestamp: present });
    if (this.builder.isFullFor(text, position)) seal();
    const seq = this.nextSeq++;
    this.builder.add(text, level);
    if (position) this.builder.move(position);
    this.lines++;
    for (const listener of this.listeners) listener(text, journal(), seq);
    schedule(level === 'error');
    return seq;
  }

  /** Saves where a source stands when no line goes with it. */
  move(position: SourcePosition): void {
    if (this.builder.isFullFor('', position)) this.#options.seal();
    this.builder.move(position);
    this.#options.schedule(false);
  }

  /** The short way in, for lines that are encoded already. */
  readonly encoded: EncodedLog = {
    present: (timestampMs) => {
      const { clock } = this.#options;
      // First, so that a step of the clock ends the open batch: all lines of one share a clock.
      if (!this.#hasChecked) clock.check();
      this.#hasChecked = true;
      return clock.present(timestampMs);
    },
    add: (line, source) => this.#addEncoded(line, source),
    flush: () => {
      this.#hasChecked = false;
      if (!this.builder.isEmpty) this.#options.schedule(this.#hasUrgent);
      this.#hasUrgent = false;
      return this.#options.ready();
    },
  };

  /** The open batch is sealed: what comes goes into another, in the same memory. */
  next(): void {
    this.builder = new BatchBuilder(this.nextSeq, this.builder);
  }

  /** The open batch goes into another journal, in which it begins with `first`. */
  renumber(first: number): void {
    this.builder.first = first;
    this.nextSeq = first + this.builder.count;
  }

  #addEncoded(line: EncodedLine, source: PositionSource): void {
    if (this.builder.isFullForEncoded(line, source)) this.#options.seal();
    const seq = this.nextSeq++;
    this.builder.addEncoded(line, source);
    this.lines++;
    this.logBytes += line.messageBytes + 1;
    this.#hasUrgent ||= line.level === errorRank;
    if (this.listeners.size === 0) return;
    const text = line.bytes.toString('utf8', line.start, line.end - 1);
    for (const listener of this.listeners) listener(text, this.#options.journal(), seq);
  }
}
