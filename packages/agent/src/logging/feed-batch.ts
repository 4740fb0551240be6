import { gunzipSync, gzipSync } from 'node:zlib';
import {
  type BatchHeader,
  completeMessage,
  countOf,
  defaultLevel,
  encodeHeader,
  forEachLine,
  isLevel,
  type LevelCounts,
  type LogMessage,
  levelRank,
  noLevels,
} from '@millrace/wire';
import type { FeedBatch, Run } from './types.ts';

export interface EncodedBatchOptions {
  header: BatchHeader;
  /** The encoded lines, each ended by a newline, without header lines. */
  lines: Buffer;
  /** Where the lines stand, when they are not all neighbours. */
  runs?: readonly Run[];
  /** The batch as gzip, where it lies ready. */
  member?: Buffer;
}

// What a run's header line takes, about.
const runHeaderBytes = 128;

/** A batch in memory, encoded as it goes onto the wire. */
export class EncodedBatch implements FeedBatch {
  readonly header: BatchHeader;
  readonly linesBytes: number;
  readonly runs: readonly Run[];
  #lines: Buffer | undefined;
  #member: Buffer | undefined;

  constructor({ header, lines, runs, member }: EncodedBatchOptions) {
    this.header = header;
    this.linesBytes = lines.length;
    this.#lines = lines;
    this.runs = runs ?? [{ first: header.first, count: header.count, shed: noLevels() }];
    this.#member = member;
  }

  get lastSeq(): number {
    const last = this.runs.at(-1);
    return last ? last.first + last.count - 1 : this.header.first - 1;
  }

  /** Bytes that {@link encoded} takes, at most. */
  get encodedBytes(): number {
    return this.linesBytes + Math.max(1, this.runs.length) * runHeaderBytes;
  }

  encoded(): Buffer {
    const { header, lines, runs } = this;
    if (this.#isPlain) {
      return Buffer.concat([Buffer.from(encodeHeader(header)), lines]);
    }
    const { journal, sealed, overlaps } = header;
    const pieces: Buffer[] = [];
    let from = 0;
    for (const { first, count, shed } of runs) {
      const end = lineOffset(lines, from, count);
      pieces.push(
        Buffer.from(encodeHeader({ journal, first, count, sealed, overlaps, shed })),
        lines.subarray(from, end),
      );
      from = end;
    }
    return Buffer.concat(pieces);
  }

  /** All neighbours, under one header line. */
  get #isPlain(): boolean {
    const [only] = this.runs;
    return this.runs.length === 1 && only !== undefined && countOf(only.shed) === 0;
  }

  get lines(): Buffer {
    if (this.#lines) return this.#lines;
    const content = gunzipSync(this.gzip());
    return content.subarray(content.indexOf(10) + 1);
  }

  /** What it takes of memory. */
  get heldBytes(): number {
    return (this.#lines?.length ?? 0) + (this.#member?.length ?? 0);
  }

  /** Lets go of all but the compressed form, where there is one: who asks for the lines gets them out of that. */
  pack(): void {
    if (this.#member && this.#isPlain) this.#lines = undefined;
  }

  gzip(): Buffer {
    this.#member ??= gzipSync(this.encoded());
    return this.#member;
  }

  /** Takes over what {@link gzip} would make. */
  keepGzip(member: Buffer): void {
    this.#member = member;
  }

  messages(): LogMessage[] {
    const { journal, sealed } = this.header;
    const seqs = this.seqs();
    const out: LogMessage[] = [];
    forEachLine(this.lines, (line, index) => {
      out.push(completeMessage(parseLine(textOf(line), sealed), journal, seqs[index]));
    });
    return out;
  }

  /** The seq of each line. */
  seqs(): number[] {
    return this.runs.flatMap(({ first, count }) => Array.from({ length: count }, (_, i) => first + i));
  }
}

/** The level of each encoded line, as its position in a header's counts. */
export function ranksOf(lines: Buffer): number[] {
  const out: number[] = [];
  forEachLine(lines, (line) => {
    const { level, isStdErr } = parseLine(textOf(line), 0);
    out.push(levelRank(isLevel(level) ? level : defaultLevel(isStdErr === true)));
  });
  return out;
}

function textOf(line: Uint8Array): string {
  return Buffer.from(line.buffer, line.byteOffset, line.byteLength).toString();
}

/** A line that is no object (a damaged store) is shown as text: it must not hold up those behind it. */
function parseLine(text: string, sealed: number): Partial<LogMessage> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  } catch {
    // Falls through to raw text.
  }
  return { message: text, timestamp: sealed };
}

/** Cuts a batch of several lines in two halves. */
export function halve(batch: FeedBatch): [FeedBatch, FeedBatch] {
  const half = Math.ceil(batch.header.count / 2);
  return [linesOf(batch, 0, half), linesOf(batch, half, batch.header.count)];
}

/** A batch in pieces of at most `most` runs each; itself when it has no more. */
export function inRuns(batch: FeedBatch, most: number): FeedBatch[] {
  const { runs } = batch;
  if (runs.length <= most) return [batch];
  const out: FeedBatch[] = [];
  let from = 0;
  for (let i = 0; i < runs.length; i += most) {
    const count = runs.slice(i, i + most).reduce((sum, run) => sum + run.count, 0);
    out.push(linesOf(batch, from, from + count));
    from += count;
  }
  return out;
}

/** The lines of a batch from the one at `from` to the one before `to`. */
function linesOf(batch: FeedBatch, from: number, to: number): FeedBatch {
  const runs: Run[] = [];
  let at = 0;
  for (const { first, count, shed } of batch.runs) {
    const begin = Math.max(from, at);
    const end = Math.min(to, at + count);
    const isWhole = begin === at;
    if (end > begin) {
      runs.push({ first: first + begin - at, count: end - begin, shed: isWhole ? shed : noLevels() });
    }
    at += count;
  }
  const start = lineOffset(batch.lines, 0, from);
  const lines = batch.lines.subarray(start, lineOffset(batch.lines, start, to - from));
  const header = { ...batch.header, first: runs[0]?.first ?? batch.header.first, count: to - from };
  const levels = countLevels(batch.messages().slice(from, to));
  return new EncodedBatch({ header: { ...header, levels }, lines, runs });
}

/** Where the line after `count` more lines begins. */
export function lineOffset(lines: Buffer, from: number, count: number): number {
  let at = from;
  for (let i = 0; i < count; i++) at = lines.indexOf(10, at) + 1;
  return at;
}

/** Lines per level. */
export function countLevels(lines: readonly Pick<LogMessage, 'level'>[]): LevelCounts {
  const counts: LevelCounts = [0, 0, 0, 0];
  for (const { level } of lines) counts[levelRank(level)] = (counts[levelRank(level)] ?? 0) + 1;
  return counts;
}
