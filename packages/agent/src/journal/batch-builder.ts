import { type Level, type LevelCounts, levelRank, limits, noLevels } from '@millrace/wire';
import type { EncodedLine, Json, PositionSource, SourcePosition } from '../logging/types.ts';
import { maxHeaderJsonBytes } from './member.ts';

// Room for the batch's header line and for the rest of a member's header JSON.
const maxLineBytes = limits.maxBatchBytes - limits.maxHeaderLineBytes;
const maxPositionBytes = maxHeaderJsonBytes - 16 * 1024;
/** Kept free in front of the lines for the batch's header line, so that both lie in one piece. */
const headroomBytes = limits.maxHeaderLineBytes;

/** Lines on their way into one batch, and the source positions after the last of them. */
export class BatchBuilder {
  /** Seq of its first line. */
  first: number;
  count = 0;
  levels: LevelCounts = noLevels();
  readonly positions = new Map<string, Json>();
  #bytes: Buffer;
  /** Where the lines end. */
  #end = headroomBytes;
  #positionBytes = 0;
  /** Sources to be asked for their positions. */
  readonly #sources = new Map<string, PositionSource>();
  #lastSource: PositionSource | undefined;

  /** @param before the builder whose memory this one takes over; it must not be used any more */
  constructor(first: number, before?: BatchBuilder) {
    this.first = first;
    // A new buffer for each batch would be most of the garbage that the agent makes.
    this.#bytes = before ? before.#bytes : Buffer.allocUnsafeSlow(8 * 1024);
  }

  /** True when a line of `text` with this position no longer fits. */
  isFullFor(text: string, position: SourcePosition | undefined): boolean {
    if (this.count === 0 && this.positions.size === 0) return false;
    if (this.count >= limits.maxBatchLines) return true;
    if (this.#positionBytes + positionCost(position) > maxPositionBytes) return true;
    const bytes = this.byteLength + text.length + 1;
    // Only near the limit is it worth counting the bytes exactly: a UTF-16 unit takes up to three.
    return (
      bytes + 2 * text.length > maxLineBytes && this.byteLength + Buffer.byteLength(text) + 1 > maxLineBytes
    );
  }

  /** Adds an encoded line (no newline). */
  add(text: string, level: Level): void {
    this.#reserve(text.length * 3 + 1);
    this.#end += this.#bytes.write(text, this.#end, 'utf8');
    this.#bytes[this.#end++] = 10;
    this.levels[levelRank(level)] = (this.levels[levelRank(level)] ?? 0) + 1;
    this.count++;
  }

  /** True when an encoded line of this source no longer fits. */
  isFullForEncoded({ start, end }: EncodedLine, source: PositionSource): boolean {
    if (this.count >= limits.maxBatchLines || this.byteLength + end - start > maxLineBytes)
      return !this.isEmpty;
    return source !== this.#lastSource && this.#positionBytes + maxPositionCost > maxPositionBytes;
  }

  /** Adds a line that is encoded already. Its source is asked for the position when the batch is sealed. */
  addEncoded({ bytes, start, end, level }: EncodedLine, source: PositionSource): void {
    this.#reserve(end - start);
    bytes.copy(this.#bytes, this.#end, start, end);
    this.#end += end - start;
    this.levels[level] = (this.levels[level] ?? 0) + 1;
    this.count++;
    if (source === this.#lastSource) return;
    this.#lastSource = source;
    if (!this.#sources.has(source.key)) this.#positionBytes += maxPositionCost;
    this.#sources.set(source.key, source);
  }

  /** Asks the sources where they stand. To be called once, when nothing more will be added. */
  askSources(): void {
    for (const [key, source] of this.#sources) this.positions.set(key, source.position);
    this.#sources.clear();
    this.#lastSource = undefined;
  }

  move(position: SourcePosition): void {
    this.#sources.delete(position.key);
    this.#lastSource = undefined;
    if (!this.positions.has(position.key)) this.#positionBytes += positionCost(position);
    this.positions.set(position.key, position.value);
  }

  get byteLength(): number {
    return this.#end - headroomBytes;
  }

  get isEmpty(): boolean {
    return this.count === 0 && this.positions.size === 0;
  }

  /** The lines so far, each ended by a newline. A copy of the exact size. */
  lines(): Buffer {
    return copyOf(this.#bytes.subarray(headroomBytes, this.#end));
  }

  /**
   * The lines behind a header line. Not a copy: valid until the memory of this builder goes to another.
   *
   * @throws RangeError when the header line is longer than a header line may be
   */
  linesBehind(headerLine: Buffer): Buffer {
    this.#bytes.set(headerLine, headroomBytes - headerLine.length);
    return this.#bytes.subarray(headroomBytes - headerLine.length, this.#end);
  }

  #reserve(bytes: number): void {
    if (this.#end + bytes <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#end + bytes));
    this.#bytes.copy(grown, 0, 0, this.#end);
    this.#bytes = grown;
  }
}

/** Shares its memory with nothing that lives longer. */
export function copyOf(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}

// A position's JSON is a small object; this covers a container with both streams seen and its place in a file.
const maxPositionCost = 400;

function positionCost(position: SourcePosition | undefined): number {
  if (!position) return 0;
  return position.key.length + (typeof position.value === 'object' ? maxPositionCost : 40);
}
