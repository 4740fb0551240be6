import { type Nanos, nanosOf, parseNanos } from '../timestamp.ts';

/**
 * Reads entries of the driver json-file, one JSON object per line:
 *
 *     {"log":"text\n","stream":"stdout","time":"2026-11-20T12:41:25.567969173Z"}
 *
 * `log` ends with a newline unless it is a piece of a longer line; the time has no trailing zeros; with the driver's
 * options `labels`, `env` or `tag` there are `attrs` before the time. An entry as above is read from its ends, and
 * its text is only looked over: where it is well-formed JSON it can go on as it is, escapes and all. Any other object
 * with these keys is read by a JSON parser.
 */
export class EntryReader {
  isStdErr = false;
  /** Whether this entry ends its line. */
  endsLine = false;
  /** Time of the entry: seconds since 1970, and nanoseconds within the second. */
  second = 0;
  nano = 0;
  /**
   * The text, as the inside of a JSON string, without the newline that ends it: `bytes[start..end)`. Those are the
   * bytes that were read from, unless {@link parsed} says otherwise.
   */
  start = 0;
  end = 0;
  /** Where the text's first escape begins; {@link end} or behind it when there is none. */
  escapeAt = 0;
  /** The text, when the entry had to be parsed; else `undefined`. */
  parsed: string | undefined;
  private readonly cachedSecond = Buffer.alloc(secondLength);
  private cachedSeconds = Number.NaN;

  /** The entry's time, as positions have it. */
  get nanos(): Nanos {
    return nanosOf(this.second, this.nano);
  }

  /**
   * Reads `bytes[start..end)`, an entry without its newline; `false` when it is none.
   *
   * @param isUtf8 whether the bytes are known to be valid UTF-8
   */
  read(bytes: Buffer, start: number, end: number, isUtf8: boolean): boolean {
    return (isUtf8 && this.readUsual(bytes, start, end)) || this.readAny(bytes, start, end);
  }

  private readUsual(bytes: Buffer, start: number, end: number): boolean {
    // `Z"}`, and before it a fraction of at most nine digits.
    if (bytes[end - 1] !== 0x7d || bytes[end - 2] !== quote || bytes[end - 3] !== 0x5a) return false;
    let dot = end - 4;
    const lowest = Math.max(start, end - 13);
    while (dot > lowest && bytes[dot] !== 0x2e) dot--;
    const time = dot - secondLength;
    const stream = time - timeKey.length - 6;
    const textEnd = stream - streamKey.length;
    if (textEnd < start + logKey.length || bytes[dot] !== 0x2e) return false;
    if (!isAt(timeKey, bytes, time - timeKey.length)) return false;
    if (!isAt(streamKey, bytes, textEnd) || !isAt(logKey, bytes, start)) return false;
    if (isAt(stdout, bytes, stream)) this.isStdErr = false;
    else if (isAt(stderr, bytes, stream)) this.isStdErr = true;
    else return false;
    if (!this.readTime(bytes, time, dot, end - 3)) return false;
    const last = wellFormed(bytes, start + logKey.length, textEnd);
    if (last === unfit) return false;
    this.parsed = undefined;
    this.escapeAt = last < 0 ? textEnd : firstEscape;
    this.start = start + logKey.length;
    this.endsLine = last === textEnd - 2 && bytes[textEnd - 1] === 0x6e;
    this.end = this.endsLine ? textEnd - 2 : textEnd;
    return true;
  }

  private readTime(bytes: Buffer, time: number, dot: number, end: number): boolean {
    for (let i = secondLength - 1; i >= 0; i--) {
      if (bytes[time + i] === this.cachedSecond[i]) continue;
      const ms = Date.parse(`${bytes.toString('latin1', time, dot)}Z`);
      if (Number.isNaN(ms) || ms < 0) return false;
      bytes.copy(this.cachedSecond, 0, time, dot);
      this.cachedSeconds = ms / 1000;
      break;
    }
    let nano = 0;
    for (let i = dot + 1; i < end; i++) {
      const digit = (bytes[i] as number) - 0x30;
      if (digit < 0 || digit > 9) return false;
      nano = nano * 10 + digit;
    }
    this.second = this.cachedSeconds;
    this.nano = nano * (scale[end - dot - 1] as number);
    return true;
  }

  private readAny(bytes: Buffer, start: number, end: number): boolean {
    let value: unknown;
    try {
      value = JSON.parse(bytes.toString('utf8', start, end));
    } catch {
      return false;
    }
    if (typeof value !== 'object' || value === null) return false;
    const { log, stream, time } = value as Record<string, unknown>;
    const nanos = typeof time === 'string' ? parseNanos(time) : undefined;
    if (typeof log !== 'string' || nanos === undefined) return false;
    this.isStdErr = stream === 'stderr';
    this.second = Number(nanos.slice(0, -9));
    this.nano = Number(nanos.slice(-9));
    this.endsLine = log.endsWith('\n');
    this.parsed = this.endsLine ? log.slice(0, -1) : log;
    return true;
  }
}

const quote = 0x22;
const backslash = 0x5c;
/** `2026-11-20T12:41:25` */
const secondLength = 19;
const logKey = Buffer.from('{"log":"');
const streamKey = Buffer.from('","stream":"');
const timeKey = Buffer.from('","time":"');
const stdout = Buffer.from('stdout');
const stderr = Buffer.from('stderr');
/** What makes nanoseconds of a fraction with so many digits. */
const scale = [0, 1e8, 1e7, 1e6, 1e5, 1e4, 1e3, 100, 10, 1];
const unfit = -2;
/** Where {@link wellFormed} found the first escape, if it found one. */
let firstEscape = 0;

function isAt(part: Buffer, bytes: Buffer, at: number): boolean {
  for (let i = 0; i < part.length; i++) if (bytes[at + i] !== part[i]) return false;
  return true;
}

/** Bytes that may follow a backslash; `u` is looked at by itself. */
const escapes = tableOf('"\\/bfnrt');
const hexDigits = tableOf('0123456789abcdefABCDEF');

function tableOf(characters: string): Uint8Array {
  const table = new Uint8Array(256);
  for (const byte of Buffer.from(characters)) table[byte] = 1;
  return table;
}

/**
 * Whether `bytes[from..to)` can be the inside of a JSON string that every parser reads: where its last escape begins,
 * -1 when it has none, {@link unfit} when it cannot. Escaped surrogates count as unfit, since one may be alone.
 */
function wellFormed(bytes: Buffer, from: number, to: number): number {
  let last = -1;
  let i = from;
  while (i < to) {
    const byte = bytes[i] as number;
    if (byte === backslash) {
      if (last < 0) firstEscape = i;
      last = i;
      const next = bytes[i + 1] as number;
      if (escapes[next] === 1) i += 2;
      else if (next === 0x75 && isUnicodeEscape(bytes, i + 2)) i += 6;
      else return unfit;
    } else if (byte < 0x20 || byte === quote) return unfit;
    else i++;
  }
  return i === to ? last : unfit;
}

function isUnicodeEscape(bytes: Buffer, at: number): boolean {
  for (let i = at; i < at + 4; i++) if (hexDigits[bytes[i] as number] !== 1) return false;
  return ((bytes[at] as number) | 0x20) !== 0x64 || (bytes[at + 1] as number) < 0x38;
}

/** The text of the entry that was read last, `bytes` being what it was read from. */
export function textOf({ parsed, start, end }: EntryReader, bytes: Buffer): string {
  if (parsed !== undefined) return parsed;
  const text = bytes.toString('utf8', start, end);
  return text.includes('\\') ? (JSON.parse(`"${text}"`) as string) : text;
}
