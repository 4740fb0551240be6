import { type LevelCounts, levels } from './levels.ts';
import { limits } from './limits.ts';
import { completeMessage, type LogMessage } from './message.ts';

/**
 * Batch encoding: NDJSON.
 *
 *   {"batch":{"journal":"k3v…","first":101,"count":2,"levels":[0,2,0,0],"sealed":1696195200000}}
 *   {"timestamp":1696195200000,"message":"one","serviceName":"web","containerId":"…"}
 *   {"timestamp":1696195200001,"message":"two","serviceName":"web","containerId":"…"}
 *
 * A header counts the lines that follow it; line i of them has seq `first + i`. Lines before any header, or
 * beyond its count, have no seq (balena devices send only such lines). Blank lines are heartbeats and count
 * for nothing. Readers ignore unknown keys. Batches follow one another in the same stream.
 *
 * A journal that was started because its predecessor was damaged, or could not be written, has
 * `"overlaps":[["<journal>",from],…]` in each header: its sources may have been read again from where those lines
 * began, so some of its lines may be the same as some of those.
 *
 * A device that had to shed lines sends what is left as batches of neighbours, whose headers may be as short as
 * `{"batch":{"journal":"k3v…","first":104,"count":1,"sealed":1696195200000,"shed":[2,0,0,0]}}`.
 */
export interface BatchHeader {
  /** Random id of the journal that the lines come from. */
  journal: string;
  /** Seq of the first line. */
  first: number;
  /** Number of lines. */
  count: number;
  levels: LevelCounts;
  /** When the batch was sealed, in ms since 1970 by the device's clock. */
  sealed: number;
  /** Lines of other journals of this device that this journal's lines may repeat; see {@link Overlap}. */
  overlaps?: readonly Overlap[];
  /** Lines right before `first` that the device shed for want of room and will never send. */
  shed?: LevelCounts;
}

/** The lines of another journal from this seq on. At most `limits.maxOverlaps` in a header, the latest journal first. */
export type Overlap = readonly [journal: string, from: number];

const headerStart = '{"batch":';
const headerStartBytes = new TextEncoder().encode(headerStart);
const newline = 10;

/** The header line, newline included. Whoever receives it can do without `levels`. */
export function encodeHeader(header: Omit<BatchHeader, 'levels'> & { levels?: LevelCounts }): string {
  const { journal, first, count, levels: counts, sealed, overlaps, shed } = header;
  // `undefined` leaves the key out.
  return `${JSON.stringify({ batch: { journal, first, count, levels: counts, sealed, overlaps, shed } })}\n`;
}

/** Reads a header line; `undefined` when it is not one (then it is a log line like any other). */
export function parseHeader(text: string): BatchHeader | undefined {
  if (!text.startsWith(headerStart)) return undefined;
  let batch: Record<string, unknown> | undefined;
  try {
    batch = JSON.parse(text).batch;
  } catch {
    return undefined;
  }
  if (typeof batch !== 'object' || batch === null) return undefined;
  const { journal, first, count, levels: counts, sealed, shed } = batch;
  if (!isJournal(journal)) return undefined;
  if (!isWhole(first) || first < 1 || !isWhole(count) || !Number.isSafeInteger(first + count))
    return undefined;
  const overlaps = parseOverlaps(batch.overlaps);
  return {
    journal,
    first,
    count,
    levels: countsOf(counts),
    sealed: isWhole(sealed) ? sealed : 0,
    ...(overlaps.length > 0 && { overlaps }),
    ...(shed !== undefined && { shed: countsOf(shed) }),
  };
}

/** What is no overlap is left out: to be told less costs a line stored twice, to refuse the batch would cost more. */
export function parseOverlaps(value: unknown): Overlap[] {
  if (!Array.isArray(value)) return [];
  return value
    .filter(isOverlap)
    .slice(0, limits.maxOverlaps)
    .map(([journal, from]) => [journal, from]);
}

function isOverlap(value: unknown): value is Overlap {
  if (!Array.isArray(value)) return false;
  const [journal, from] = value as unknown[];
  return isJournal(journal) && isWhole(from) && from > 0;
}

function isJournal(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9a-z]{8,40}$/.test(value);
}

function countsOf(value: unknown): LevelCounts {
  const perLevel = Array.isArray(value) ? value : [];
  return levels.map((_, i) => (isWhole(perLevel[i]) ? perLevel[i] : 0)) as LevelCounts;
}

function isWhole(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/** A run of whole lines as they lay in the stream. */
export interface BatchPart {
  /** The batch that the lines belong to, or `null` for lines without one. */
  header: BatchHeader | null;
  /** Seq of the first line of this part, or `null` without a batch. */
  firstSeq: number | null;
  /** Number of lines in `bytes`. */
  count: number;
  /** The lines, each ended by a newline. A view into the chunk when it could be: use it before the next push. */
  bytes: Uint8Array;
  /** Set when the part is one line that was longer than the limit: `bytes` is its beginning. */
  oversized: boolean;
  /** True when the part ends the batch of `header`. */
  last: boolean;
}

export interface BatchDecoderOptions {
  /** Longest line that is kept whole, in bytes. */
  maxLineBytes?: number;
}

/**
 * Splits a byte stream, cut anywhere, into runs of whole lines under their headers. Holds at most one
 * unfinished line. No object is made per line.
 */
export class BatchDecoder {
  readonly #maxLineBytes: number;
  #carry: Uint8Array[] = [];
  #carryBytes = 0;
  /** The rest of an oversized line is passed over until its newline. */
  #skipping = false;
  #header: BatchHeader | null = null;
  #seen = 0;

  constructor(options: BatchDecoderOptions = {}) {
    this.#maxLineBytes = options.maxLineBytes ?? limits.maxReceivedLineBytes;
  }

  /** Takes the next bytes of the stream and returns the parts that are whole by now. */
  push(chunk: Uint8Array): BatchPart[] {
    const parts: BatchPart[] = [];
    let rest = chunk;
    if (this.#skipping) {
      const end = rest.indexOf(newline);
      if (end < 0) return parts;
      this.#skipping = false;
      rest = rest.subarray(end + 1);
    }
    const lastEnd = rest.lastIndexOf(newline);
    if (lastEnd < 0) {
      this.#keep(rest, parts);
      return parts;
    }
    let region = rest.subarray(0, lastEnd + 1);
    if (this.#carryBytes > 0) {
      // Only the line that straddles the chunks is copied.
      const end = region.indexOf(newline) + 1;
      const straddling = concat([...this.#carry, region.subarray(0, end)]);
      this.#carry = [];
      this.#carryBytes = 0;
      this.#scan(straddling, parts);
      region = region.subarray(end);
    }
    this.#scan(region, parts);
    this.#keep(rest.subarray(lastEnd + 1), parts);
    return parts;
  }

  /**
   * Ends the stream. A last line without its newline is returned when it is a whole JSON object or plain
   * text; a torn one (an object cut short) is dropped, since its sender will send it again.
   */
  end(): BatchPart[] {
    const parts: BatchPart[] = [];
    if (this.#carryBytes > 0) {
      const line = concat([...this.#carry, new Uint8Array([newline])]);
      this.#carry = [];
      this.#carryBytes = 0;
      if (!isTorn(line)) this.#scan(line, parts);
    }
    return parts;
  }

  #keep(bytes: Uint8Array, parts: BatchPart[]): void {
    if (bytes.length === 0) return;
    // The caller may reuse its chunk, so what we hold on to is a copy. (`slice` of a Buffer would be a view.)
    this.#carry.push(new Uint8Array(bytes));
    this.#carryBytes += bytes.length;
    if (this.#carryBytes > this.#maxLineBytes) {
      const line = concat(this.#carry);
      this.#carry = [];
      this.#carryBytes = 0;
      this.#skipping = true;
      this.#oversized(line, parts);
    }
  }

  #oversized(line: Uint8Array, parts: BatchPart[]): void {
    const bytes = new Uint8Array(this.#maxLineBytes + 1);
    bytes.set(line.subarray(0, this.#maxLineBytes));
    bytes[Math.min(line.length, this.#maxLineBytes)] = newline;
    this.#emit(bytes.subarray(0, Math.min(line.length, this.#maxLineBytes) + 1), 1, true, parts);
  }

  /** Cuts a region of whole lines at headers, oversized lines and the ends of batches. */
  #scan(region: Uint8Array, parts: BatchPart[]): void {
    let start = 0;
    let count = 0;
    let position = 0;
    const flush = (upTo: number) => {
      if (count > 0) this.#emit(region.subarray(start, upTo), count, false, parts);
      start = upTo;
      count = 0;
    };
    while (position < region.length) {
      const end = region.indexOf(newline, position);
      const length = end - position;
      // Length first: how a line is judged must not depend on where the stream was cut, and one that grows past
      // the limit between two chunks is judged before its end is seen.
      if (length > this.#maxLineBytes) {
        flush(position);
        this.#oversized(region.subarray(position, end), parts);
        start = end + 1;
      } else if (isBlank(region, position, end)) {
        flush(position);
        start = end + 1;
      } else if (startsWith(region, position, headerStartBytes)) {
        const header = parseHeader(new TextDecoder().decode(region.subarray(position, end)));
        if (header) {
          flush(position);
          this.#header = header.count > 0 ? header : null;
          this.#seen = 0;
          start = end + 1;
        } else count++;
      } else count++;
      if (this.#header && this.#seen + count === this.#header.count) flush(end + 1);
      position = end + 1;
    }
    flush(region.length);
  }

  #emit(bytes: Uint8Array, count: number, oversized: boolean, parts: BatchPart[]): void {
    const header = this.#header;
    if (!header) {
      parts.push({ header: null, firstSeq: null, count, bytes, oversized, last: false });
      return;
    }
    const firstSeq = header.first + this.#seen;
    this.#seen += count;
    const last = this.#seen >= header.count;
    if (last) this.#header = null;
    parts.push({ header, firstSeq, count, bytes, oversized, last });
  }
}

/** Calls `each` with every line of a part, newline left out. */
export function forEachLine(bytes: Uint8Array, each: (line: Uint8Array, index: number) => void): void {
  let position = 0;
  for (let index = 0; position < bytes.length; index++) {
    let end = bytes.indexOf(newline, position);
    if (end < 0) end = bytes.length;
    each(bytes.subarray(position, end), index);
    position = end + 1;
  }
}

/** The LogMessages of a part that one of our encoders wrote. Throws a SyntaxError on anything else. */
export function decodePart(part: BatchPart): LogMessage[] {
  const out: LogMessage[] = [];
  const text = new TextDecoder();
  forEachLine(part.bytes, (line, index) => {
    const seq = part.firstSeq === null ? undefined : part.firstSeq + index;
    out.push(completeMessage(JSON.parse(text.decode(line)), part.header?.journal, seq));
  });
  return out;
}

function isTorn(line: Uint8Array): boolean {
  if (line[0] !== 0x7b) return false;
  try {
    JSON.parse(new TextDecoder().decode(line));
    return false;
  } catch {
    return true;
  }
}

function isBlank(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) {
    const byte = bytes[i];
    if (byte !== 0x20 && byte !== 0x09 && byte !== 0x0d) return false;
  }
  return true;
}

function startsWith(bytes: Uint8Array, from: number, prefix: Uint8Array): boolean {
  if (bytes.length - from < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) if (bytes[from + i] !== prefix[i]) return false;
  return true;
}

function concat(pieces: Uint8Array[]): Uint8Array {
  if (pieces.length === 1) return pieces[0] as Uint8Array;
  let length = 0;
  for (const piece of pieces) length += piece.length;
  const out = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    out.set(piece, at);
    at += piece.length;
  }
  return out;
}
