import { defaultLevel, type Level, levelRank } from '@millrace/wire';
import type { Multiline } from '../assemble/assembler.ts';
import { levelOf } from '../classify/level.ts';
import type { EncodedLog, PositionSource } from '../logging/types.ts';
import { LineEncoder } from './encoder.ts';
import type { ServiceFields } from './services.ts';
import { msOf } from './timestamp.ts';

export interface ShortWayOptions {
  encoded: EncodedLog;
  multiline: Multiline;
  fields: ServiceFields;
}

/** A container's lines that need not become objects: what lies in the engine's bytes is encoded into the batch's. */
export class ShortWay {
  private readonly encoded: EncodedLog;
  private readonly multiline: Multiline;
  private encoder: LineEncoder;
  /** Lines were added since {@link flush}. */
  private hasAdded = false;

  constructor({ encoded, multiline, fields }: ShortWayOptions) {
    this.encoded = encoded;
    this.multiline = multiline;
    this.encoder = new LineEncoder(fields);
  }

  identify(fields: ServiceFields): void {
    this.encoder = new LineEncoder(fields);
  }

  /** Whether a line that begins with this byte is a message by itself, stamped by a clock that holds. */
  admits(first: number | undefined, second: number, nano: number): boolean {
    const isAlone = this.multiline === 'off' || (first === openBrace && this.multiline === 'traces');
    return isAlone && this.admitsTime(second, nano);
  }

  /**
   * Whether the same can be said of a line that begins with this byte, and is not {@link admits admitted} by itself,
   * once the line behind it is known.
   */
  admitsWithNext(first: number | undefined): boolean {
    return first !== openBrace && this.multiline === 'traces';
  }

  /** Whether a line's time is one of a clock that holds. */
  admitsTime(second: number, nano: number): boolean {
    if (second < minSecond || second > maxSecond) return false;
    const ms = msOf(second, nano);
    return this.encoded.present(ms) === ms;
  }

  /**
   * Adds `bytes[start..end)`, the inside of a JSON string; `false` when it is too long for that.
   *
   * @param named the level that the line names itself
   */
  addEscaped(
    bytes: Buffer,
    start: number,
    end: number,
    second: number,
    nano: number,
    isStdErr: boolean,
    named: Level | undefined,
    source: PositionSource,
  ): boolean {
    if (end - start > maxEncodedBytes) return false;
    const level = levelRank(named ?? defaultLevel(isStdErr));
    const milli = Math.floor(nano / 1e6);
    this.encoded.add(this.encoder.encode(bytes, start, end, second, milli, isStdErr, level), source);
    this.hasAdded = true;
    return true;
  }

  /** Adds `bytes[start..end)`, text as it was written; `false` when it is too long for that, or no UTF-8. */
  addText(
    bytes: Buffer,
    start: number,
    end: number,
    second: number,
    nano: number,
    isStdErr: boolean,
    source: PositionSource,
  ): boolean {
    if (end - start > maxEncodedBytes / 6) return false;
    const level = levelRank(levelOf(bytes, start, end) ?? defaultLevel(isStdErr));
    const milli = Math.floor(nano / 1e6);
    const line = this.encoder.encodeText(bytes, start, end, second, milli, isStdErr, level);
    if (line) this.encoded.add(line, source);
    this.hasAdded ||= line !== undefined;
    return line !== undefined;
  }

  /** To be called after some lines, and before any pause; a promise asks to wait for the disk. */
  flush(): void | Promise<void> {
    if (!this.hasAdded) return undefined;
    this.hasAdded = false;
    return this.encoded.flush();
  }
}

const openBrace = 0x7b;
/** Times that have ten digits, and that nobody will call impossible. */
const minSecond = 1_000_000_000;
const maxSecond = 4_000_000_000;
/** Longer ones may have to be cut. An escape takes up to six bytes. */
const maxEncodedBytes = 60 * 1024;
