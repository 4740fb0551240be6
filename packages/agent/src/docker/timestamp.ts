/**
 * Engine timestamps: RFC 3339 with up to nine decimals. Inside this folder a time is a string of nanoseconds
 * since 1970, padded to nineteen digits, so that plain string comparison orders times (until the year 2286) and
 * no digit is lost, as it would be in a number.
 */
export type Nanos = string;

const digits = 19;

export function nanosOfMs(ms: number): Nanos {
  return String(BigInt(Math.max(0, Math.floor(ms))) * 1_000_000n).padStart(digits, '0');
}

/** `nanos` minus `ms`, not below 0. */
export function minusMs(nanos: Nanos, ms: number): Nanos {
  const result = BigInt(nanos) - BigInt(Math.floor(ms)) * 1_000_000n;
  return String(result > 0n ? result : 0n).padStart(digits, '0');
}

/** As the engine's `since` parameter takes it: `seconds.nanoseconds`. */
export function sinceParameter(nanos: Nanos): string {
  return `${BigInt(nanos.slice(0, -9))}.${nanos.slice(-9)}`;
}

export function isNanos(value: unknown): value is Nanos {
  return typeof value === 'string' && /^\d{19}$/.test(value);
}

/** Reads a time by itself; `undefined` when it is none or lies before 1970 (the engine's "never"). */
export function parseNanos(text: string): Nanos | undefined {
  const reader = new TimestampReader();
  const bytes = Buffer.from(`${text} `, 'latin1');
  return reader.read(bytes, 0, bytes.length) < 0 ? undefined : reader.nanos;
}

const zero = 0x30;
// What `2026-11-20T12:41:25.567969173Z ` has in front of its fraction, and in all.
const secondsLength = 19;
const fixedLength = 31;
const longest = 40;
const general = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/;

/**
 * Reads the timestamp in front of a line. Neighbouring lines mostly share their second, so its digits are
 * compared with those of the line before rather than computed again.
 */
export class TimestampReader {
  nanos: Nanos = '';
  /** Milliseconds since 1970. */
  ms = 0;
  private readonly second = new Uint8Array(secondsLength);
  private secondMs = Number.NaN;
  private secondText = '';

  /**
   * Reads the timestamp and the space at `start` into {@link nanos} and {@link ms}, and returns where the text
   * begins; -1 when there is no timestamp.
   */
  read(bytes: Buffer, start: number, end: number): number {
    const fixed =
      end - start >= fixedLength &&
      bytes[start + 19] === 0x2e &&
      bytes[start + 29] === 0x5a &&
      bytes[start + 30] === 0x20;
    if (!fixed || !this.isSecond(bytes, start)) return this.readGeneral(bytes, start, end);
    const hundreds = (bytes[start + 20] as number) - zero;
    const tens = (bytes[start + 21] as number) - zero;
    const ones = (bytes[start + 22] as number) - zero;
    this.nanos = this.secondText + bytes.toString('latin1', start + 20, start + 29);
    this.ms = this.secondMs + hundreds * 100 + tens * 10 + ones;
    return start + fixedLength;
  }

  private isSecond(bytes: Buffer, start: number): boolean {
    if (Number.isNaN(this.secondMs)) return false;
    for (let i = secondsLength - 1; i >= 0; i--) if (bytes[start + i] !== this.second[i]) return false;
    for (let i = 20; i < 29; i++) {
      const digit = (bytes[start + i] as number) - zero;
      if (digit < 0 || digit > 9) return false;
    }
    return true;
  }

  private readGeneral(bytes: Buffer, start: number, end: number): number {
    const space = bytes.subarray(start, Math.min(end, start + longest)).indexOf(0x20);
    if (space < 0) return -1;
    const match = general.exec(bytes.toString('latin1', start, start + space));
    if (!match) return -1;
    const secondMs = Date.parse(`${match[1]}${match[3]}`);
    if (Number.isNaN(secondMs) || secondMs < 0) return -1;
    const fraction = (match[2] ?? '').padEnd(9, '0');
    const secondText = String(secondMs / 1000).padStart(10, '0');
    this.nanos = secondText + fraction;
    this.ms = secondMs + Number(fraction.slice(0, 3));
    if (match[3] === 'Z') {
      bytes.copy(this.second, 0, start, start + secondsLength);
      this.secondMs = secondMs;
      this.secondText = secondText;
    }
    return start + space + 1;
  }
}
