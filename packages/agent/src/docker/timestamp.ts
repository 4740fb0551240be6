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

export function timeOf(nanos: Nanos): [second: number, nano: number] {
  return [Number(nanos.slice(0, -9)), Number(nanos.slice(-9))];
}

export function isLater(second: number, nano: number, thanSecond: number, thanNano: number): boolean {
  return second > thanSecond || (second === thanSecond && nano > thanNano);
}

export function nanosOf(second: number, nano: number): Nanos {
  return String(second).padStart(10, '0') + String(nano).padStart(9, '0');
}

export function msOf(second: number, nano: number): number {
  return second * 1000 + Math.floor(nano / 1e6);
}

export function isNanos(value: unknown): value is Nanos {
  return typeof value === 'string' && /^\d{19}$/.test(value);
}

/** Reads a time by itself; `undefined` when it is none or lies before 1970 (the engine's "never"). */
export function parseNanos(text: string): Nanos | undefined {
  const reader = new TimestampReader();
  const bytes = Buffer.from(`${text} `, 'latin1');
  return reader.read(bytes, 0, bytes.length) < 0 ? undefined : nanosOf(reader.second, reader.nano);
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
  /** Seconds since 1970; negative before the first timestamp. */
  second = -1;
  /** Nanoseconds within the second. */
  nano = 0;
  private readonly cached = new Uint8Array(secondsLength);
  private cachedSecond = -1;

  /**
   * Reads the timestamp and the space at `start` into {@link second} and {@link nano}, and returns where the text
   * begins; -1 when there is no timestamp.
   */
  read(bytes: Buffer, start: number, end: number): number {
    const fixed =
      end - start >= fixedLength &&
      bytes[start + 19] === 0x2e &&
      bytes[start + 29] === 0x5a &&
      bytes[start + 30] === 0x20;
    if (!fixed || !this.isCached(bytes, start)) return this.readGeneral(bytes, start, end);
    let nano = 0;
    for (let i = start + 20; i < start + 29; i++) {
      const digit = (bytes[i] as number) - zero;
      if (digit < 0 || digit > 9) return this.readGeneral(bytes, start, end);
      nano = nano * 10 + digit;
    }
    this.second = this.cachedSecond;
    this.nano = nano;
    return start + fixedLength;
  }

  private isCached(bytes: Buffer, start: number): boolean {
    if (this.cachedSecond < 0) return false;
    for (let i = secondsLength - 1; i >= 0; i--) if (bytes[start + i] !== this.cached[i]) return false;
    return true;
  }

  private readGeneral(bytes: Buffer, start: number, end: number): number {
    const space = bytes.subarray(start, Math.min(end, start + longest)).indexOf(0x20);
    if (space < 0) return -1;
    const match = general.exec(bytes.toString('latin1', start, start + space));
    if (!match) return -1;
    const secondMs = Date.parse(`${match[1]}${match[3]}`);
    if (Number.isNaN(secondMs) || secondMs < 0) return -1;
    this.second = secondMs / 1000;
    this.nano = Number((match[2] ?? '').padEnd(9, '0'));
    if (match[3] === 'Z') {
      bytes.copy(this.cached, 0, start, start + secondsLength);
      this.cachedSecond = this.second;
    }
    return start + space + 1;
  }
}
