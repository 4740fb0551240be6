import { MillraceError } from '@millrace/wire';

/**
 * The only place where values become SQL. Parameters are no alternative: the embedded engine serializes every
 * parameterized query of the process (its parameters live in global state).
 */

const escapes: Record<string, string> = {
  '\\': '\\\\',
  "'": "\\'",
  '\0': '\\0',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
};

/**
 * A ClickHouse string literal. Backslash and quote are what could end it; the control characters are escaped
 * because a NUL would end the whole statement in the embedded engine's C interface.
 */
export function string(value: string): string {
  const escaped = value.toWellFormed().replace(/[\\'\p{Cc}]/gu, (char) => {
    const code = char.charCodeAt(0);
    // Above ASCII an escape would name a byte, not a character; nothing there needs one.
    return escapes[char] ?? (code < 0x80 ? `\\x${code.toString(16).padStart(2, '0')}` : char);
  });
  return `'${escaped}'`;
}

/** A whole number, as it is. @throws MillraceError `PARAMETER_INVALID` */
export function integer(value: number): string {
  if (!Number.isSafeInteger(value)) {
    throw new MillraceError('PARAMETER_INVALID', `${value} is not a whole number`);
  }
  return String(value);
}

/** A Float64. @throws MillraceError `PARAMETER_INVALID` */
export function float(value: number): string {
  if (!Number.isFinite(value)) throw new MillraceError('PARAMETER_INVALID', `${value} is not a number`);
  return `toFloat64(${value})`;
}

/** A DateTime64(3) from ms since 1970. @throws MillraceError `PARAMETER_INVALID` */
export function dateTime(ms: number): string {
  return `fromUnixTimestamp64Milli(toInt64(${integer(ms)}), 'UTC')`;
}

/** `('a', 'b')`, for IN. @throws MillraceError `PARAMETER_INVALID` when empty, which ClickHouse would refuse */
export function stringList(values: readonly string[]): string {
  if (values.length === 0) throw new MillraceError('PARAMETER_INVALID', 'an empty list');
  return `(${values.map(string).join(', ')})`;
}

/** A literal LIKE pattern that matches texts holding `value` as it is. */
export function containsPattern(value: string): string {
  return string(`%${value.replace(/[\\%_]/g, '\\$&')}%`);
}
