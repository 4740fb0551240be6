import { gunzipSync, gzipSync } from 'node:zlib';
import {
  type BatchHeader,
  completeMessage,
  encodeHeader,
  forEachLine,
  type LevelCounts,
  type LogMessage,
  levelRank,
} from '@millrace/wire';
import type { FeedBatch } from './types.ts';

export interface EncodedBatchOptions {
  header: BatchHeader;
  /** The encoded lines, each ended by a newline, without the header line. */
  lines: Buffer;
  /** Header line and lines as one gzip member, where it lies ready. */
  member?: Buffer;
}

/** A batch in memory, encoded as it goes onto the wire. */
export class EncodedBatch implements FeedBatch {
  readonly header: BatchHeader;
  readonly linesBytes: number;
  #lines: Buffer | undefined;
  #member: Buffer | undefined;

  constructor({ header, lines, member }: EncodedBatchOptions) {
    this.header = header;
    this.linesBytes = lines.length;
    this.#lines = lines;
    this.#member = member;
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
    if (this.#member) this.#lines = undefined;
  }

  gzip(): Buffer {
    this.#member ??= gzipSync(Buffer.concat([Buffer.from(encodeHeader(this.header)), this.lines]));
    return this.#member;
  }

  /** Takes over what {@link gzip} would make. */
  keepGzip(member: Buffer): void {
    this.#member = member;
  }

  messages(): LogMessage[] {
    const { journal, first, sealed } = this.header;
    const out: LogMessage[] = [];
    forEachLine(this.lines, (line, index) => {
      const text = Buffer.from(line.buffer, line.byteOffset, line.byteLength).toString();
      out.push(completeMessage(parseLine(text, sealed), journal, first + index));
    });
    return out;
  }
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
  const { header, lines } = batch;
  const half = Math.ceil(header.count / 2);
  const messages = batch.messages();
  let offset = 0;
  for (let i = 0; i < half; i++) offset = lines.indexOf(10, offset) + 1;
  return [
    new EncodedBatch({
      header: { ...header, count: half, levels: countLevels(messages.slice(0, half)) },
      lines: lines.subarray(0, offset),
    }),
    new EncodedBatch({
      header: {
        ...header,
        first: header.first + half,
        count: header.count - half,
        levels: countLevels(messages.slice(half)),
      },
      lines: lines.subarray(offset),
    }),
  ];
}

/** Lines per level. */
export function countLevels(lines: readonly Pick<LogMessage, 'level'>[]): LevelCounts {
  const counts: LevelCounts = [0, 0, 0, 0];
  for (const { level } of lines) counts[levelRank(level)] = (counts[levelRank(level)] ?? 0) + 1;
  return counts;
}
