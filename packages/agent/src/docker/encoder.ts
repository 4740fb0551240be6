import { isUtf8 } from 'node:buffer';
import { defaultLevel, encodeLine, levels } from '@millrace/wire';
import type { EncodedLine } from '../logging/types.ts';
import type { ServiceFields } from './services.ts';

const prefix = Buffer.from('{"timestamp":');
const messageKey = Buffer.from(',"message":"');
const emptyMessage = '"message":"';
const secondDigits = 10;
/** Where the time's digits end. */
const timeEnd = prefix.length + secondDigits + 3;
const textStart = timeEnd + messageKey.length;
const zero = 0x30;

const backslash = 0x5c;
const letterU = 0x75;
const hexDigits = '0123456789abcdef';
/** `\u001b` */
const maxEscapeBytes = 6;

/** What stands behind the backslash for a byte that JSON escapes, as `JSON.stringify` does it; else 0. */
const escapes = escapeLetters();

/** The line made last; one for the process, as it is used up before the next is made. */
const line: EncodedLine = { bytes: Buffer.alloc(0), start: 0, end: 0, level: 0, messageBytes: 0 };
let owner: LineEncoder | undefined;

/**
 * Makes the line that wire's `encodeLine` would make of a container's message, without making a string of it: what is
 * around it is the same for all lines of a container, stream and level. A line made is valid until the next call.
 */
export class LineEncoder {
  private readonly fields: ServiceFields;
  private readonly suffixes: (Buffer | undefined)[] = [];
  private second = -1;

  constructor(fields: ServiceFields) {
    this.fields = fields;
  }

  /**
   * The line of a text that is a JSON string's inside already.
   *
   * @param second of the line's time, since 1970
   * @param milli within the second
   * @param level its rank
   */
  encode(
    bytes: Buffer,
    start: number,
    end: number,
    second: number,
    milli: number,
    isStdErr: boolean,
    level: number,
  ): EncodedLine {
    const suffix = this.suffix(isStdErr, level);
    const target = this.begin(textStart + end - start + suffix.length, second, milli);
    bytes.copy(target, textStart, start, end);
    return finish(textStart + end - start, suffix, level, end - start);
  }

  /** The line of a text as it was written; `undefined` when that is no UTF-8. */
  encodeText(
    bytes: Buffer,
    start: number,
    end: number,
    second: number,
    milli: number,
    isStdErr: boolean,
    level: number,
  ): EncodedLine | undefined {
    const suffix = this.suffix(isStdErr, level);
    const target = this.begin(textStart + maxEscapeBytes * (end - start) + suffix.length, second, milli);
    let to = textStart;
    let seen = 0;
    for (let i = start; i < end; i++) {
      const byte = bytes[i] as number;
      const letter = escapes[byte] as number;
      seen |= byte;
      if (letter === 0) target[to++] = byte;
      else {
        target[to++] = backslash;
        target[to++] = letter;
        if (letter !== letterU) continue;
        target[to++] = zero;
        target[to++] = zero;
        target[to++] = zero + (byte >> 4);
        target[to++] = hexDigits.charCodeAt(byte & 15);
      }
    }
    if (seen >= 0x80 && !isUtf8(bytes.subarray(start, end))) return undefined;
    return finish(to, suffix, level, end - start);
  }

  /** Makes room for a line of `length` bytes, and what stands in front of its text. */
  private begin(length: number, second: number, milli: number): Buffer {
    if (line.bytes.length < length) {
      line.bytes = Buffer.alloc(2 * length);
      owner = undefined;
    }
    const target = line.bytes;
    if (owner !== this || second !== this.second) this.beginSecond(target, second);
    const tens = (milli / 10) | 0;
    target[timeEnd - 1] = zero + milli - tens * 10;
    target[timeEnd - 2] = zero + (tens % 10);
    target[timeEnd - 3] = zero + ((tens / 10) | 0);
    return target;
  }

  /** What stays the same within a second. */
  private beginSecond(target: Buffer, second: number): void {
    owner = this;
    this.second = second;
    target.set(prefix, 0);
    target.write(String(second).padStart(secondDigits, '0'), prefix.length, 'latin1');
    target.set(messageKey, timeEnd);
  }

  private suffix(isStdErr: boolean, level: number): Buffer {
    const index = level * 2 + (isStdErr ? 1 : 0);
    const known = this.suffixes[index];
    if (known) return known;
    const name = levels[level] ?? defaultLevel(isStdErr);
    const text = encodeLine({ ...this.fields, message: '', timestamp: 0, isStdErr, level: name });
    const suffix = Buffer.from(`${text.slice(text.indexOf(emptyMessage) + emptyMessage.length)}\n`);
    this.suffixes[index] = suffix;
    return suffix;
  }
}

function finish(textEnd: number, suffix: Buffer, level: number, messageBytes: number): EncodedLine {
  line.bytes.set(suffix, textEnd);
  line.end = textEnd + suffix.length;
  line.level = level;
  line.messageBytes = messageBytes;
  return line;
}

function escapeLetters(): Uint8Array {
  const letters = new Uint8Array(256).fill(letterU, 0, 0x20);
  const [from, to] = [Buffer.from('"\\\b\t\n\f\r'), Buffer.from('"\\btnfr')];
  from.forEach((byte, i) => {
    letters[byte] = to[i] as number;
  });
  return letters;
}
