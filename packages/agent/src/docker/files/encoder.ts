import { defaultLevel, encodeLine, levels } from '@millrace/wire';
import type { EncodedLine } from '../../logging/types.ts';
import type { ServiceFields } from '../services.ts';

const prefix = Buffer.from('{"timestamp":');
const messageKey = Buffer.from(',"message":"');
const emptyMessage = '"message":"';
const secondDigits = 10;
/** Where the time's digits end. */
const timeEnd = prefix.length + secondDigits + 3;
const textStart = timeEnd + messageKey.length;
const zero = 0x30;

/** The line made last; one for the process, as it is used up before the next is made. */
const line: EncodedLine = { bytes: Buffer.alloc(0), start: 0, end: 0, level: 0, messageBytes: 0 };
let owner: LineEncoder | undefined;

/**
 * Makes the line that wire's `encodeLine` would make of a container's message, out of a text that is a JSON string's
 * inside already: what is around it is the same for all lines of a container, stream and level.
 */
export class LineEncoder {
  private readonly fields: ServiceFields;
  private readonly suffixes: (Buffer | undefined)[] = [];
  private second = -1;

  constructor(fields: ServiceFields) {
    this.fields = fields;
  }

  /**
   * @param second of the line's time, since 1970
   * @param milli within the second
   * @param level its rank
   * @returns a line that is valid until the next call
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
    const length = textStart + end - start + suffix.length;
    if (line.bytes.length < length) {
      line.bytes = Buffer.alloc(2 * length);
      owner = undefined;
    }
    const target = line.bytes;
    if (owner !== this || second !== this.second) this.begin(target, second);
    const tens = (milli / 10) | 0;
    target[timeEnd - 1] = zero + milli - tens * 10;
    target[timeEnd - 2] = zero + (tens % 10);
    target[timeEnd - 3] = zero + ((tens / 10) | 0);
    bytes.copy(target, textStart, start, end);
    target.set(suffix, textStart + end - start);
    line.end = length;
    line.level = level;
    line.messageBytes = end - start;
    return line;
  }

  /** What stays the same within a second. */
  private begin(target: Buffer, second: number): void {
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
