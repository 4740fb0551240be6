import { type Level, numberLevel } from '@millrace/wire';
import { isDigit, isLetter } from './tokens.ts';
import { readWord, word, wordLevel } from './words.ts';

const quote = 0x22;
const backslash = 0x5c;
const openBrace = 0x7b;
const closeBrace = 0x7d;
const openBracket = 0x5b;
const closeBracket = 0x5d;
const comma = 0x2c;
const colon = 0x3a;

/**
 * The level of a JSON object that begins at `at`: the first value of a key that names a level and holds one, at the
 * object's top, or in an object `log` there (Elastic Common Schema). Values are passed over, not parsed; text that
 * is no JSON gives `undefined` or the level of a beginning that could have been.
 *
 * @param isEscaped the object lies inside a string of another JSON text: each of its quotes and backslashes is
 * preceded by one backslash, and its control characters are escapes
 */
export function jsonLevel(bytes: Buffer, at: number, end: number, isEscaped: boolean): Level | undefined {
  const mark = isEscaped ? 2 : 1;
  /** Depth of the object whose keys are looked at: 1, or 2 inside `log`. */
  let depth = 1;
  let isMongo = false;
  let i = at + 1;
  for (;;) {
    i = toMark(bytes, i, end, isEscaped);
    if (i >= end) return undefined;
    let byte = bytes[i] as number;
    if (byte === closeBrace) {
      depth--;
      if (depth === 0) return undefined;
      i++;
      continue;
    }
    if (byte === comma) {
      i++;
      continue;
    }
    if (!startsString(bytes, i, isEscaped)) return undefined;
    const key = i + mark;
    const keyEnd = stringEnd(bytes, key, end, isEscaped);
    i = toMark(bytes, keyEnd + mark, end, isEscaped);
    if (bytes[i] !== colon || i >= end) return undefined;
    i = toMark(bytes, i + 1, end, isEscaped);
    if (i >= end) return undefined;
    byte = bytes[i] as number;
    if (isLevelKey(bytes, key, keyEnd)) {
      const found = valueLevel(bytes, startsString(bytes, i, isEscaped) ? i + mark : i, end);
      if (found) return found;
    } else if (keyEnd - key === 1) {
      // MongoDB: {"t":{"$date":…},"s":"I","c":"NETWORK",…}
      const letter = bytes[key];
      if (letter === 0x74 && byte === openBrace && depth === 1) isMongo = true;
      else if (letter === 0x73 && isMongo && startsString(bytes, i, isEscaped))
        return initialLevel(bytes[i + mark]);
    } else if (byte === openBrace && depth === 1 && keyEnd - key === 3 && equals(bytes, key, 'log')) {
      depth = 2;
      i++;
      continue;
    }
    i = valueEnd(bytes, i, end, isEscaped);
  }
}

/** The level that a single capital stands for (klog, MongoDB, Rails, Telegraf). */
export function initialLevel(byte: number | undefined): Level | undefined {
  switch (byte) {
    case 0x49: // I
      return 'info';
    case 0x57: // W
      return 'warn';
    case 0x45: // E
    case 0x46: // F
      return 'error';
    case 0x44: // D
      return 'debug';
    default:
      return undefined;
  }
}

/** The level that a value is, as a word or a number. */
export function valueLevel(bytes: Buffer, at: number, end: number): Level | undefined {
  let number = 0;
  let i = at;
  for (; i < end && i - at < 3; i++) {
    const digit = (bytes[i] as number) - 0x30;
    if (digit < 0 || digit > 9) break;
    number = number * 10 + digit;
  }
  if (i > at) return isBehindWord(bytes, i, end) ? numberLevel(number) : undefined;
  readWord(bytes, at, end);
  const { end: wordEnd, capitals, letters } = word;
  // Go's slog: `DEBUG-2`, four below which is the next level.
  const isOffset = bytes[wordEnd] === 0x2d && isDigit(bytes[wordEnd + 1]) && capitals === letters;
  return isOffset || isBehindWord(bytes, wordEnd, end) ? wordLevel() : undefined;
}

/** `error_code`, `info-2`, `30.5` go on, and are values of another kind. */
function isBehindWord(bytes: Buffer, at: number, end: number): boolean {
  if (at >= end) return true;
  const byte = bytes[at] as number;
  const isMark = byte === 0x5f || byte === 0x2d || byte === 0x2e;
  return !isMark && !isDigit(byte) && !isLetter(byte);
}

/**
 * Keys that name a level, in any case: level, lvl, severity, log.level, log_level, loglevel, levelname, level_name,
 * severityText, severity_text, @l.
 */
export function isLevelKey(bytes: Buffer, from: number, to: number): boolean {
  switch (to - from) {
    case 2:
      return equals(bytes, from, '@l');
    case 3:
      return equals(bytes, from, 'lvl');
    case 5:
      return equals(bytes, from, 'level');
    case 8:
      return equals(bytes, from, 'severity') || equals(bytes, from, 'loglevel');
    case 9:
      return (
        equals(bytes, from, 'log.level') ||
        equals(bytes, from, 'levelname') ||
        equals(bytes, from, 'log_level')
      );
    case 10:
      return equals(bytes, from, 'level_name');
    case 12:
      return equals(bytes, from, 'severitytext');
    case 13:
      return equals(bytes, from, 'severity_text');
    default:
      return false;
  }
}

/** Whether `text`, in lower case, lies at `from`, in any case. */
function equals(bytes: Buffer, from: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const byte = bytes[from + i] as number;
    const char = text.charCodeAt(i);
    if (byte !== char && (byte | 0x20) !== char) return false;
  }
  return true;
}

function startsString(bytes: Buffer, at: number, isEscaped: boolean): boolean {
  return isEscaped ? bytes[at] === backslash && bytes[at + 1] === quote : bytes[at] === quote;
}

/** The next byte that is no white space. */
function toMark(bytes: Buffer, from: number, end: number, isEscaped: boolean): number {
  let i = from;
  for (; i < end; i++) {
    const byte = bytes[i] as number;
    if (byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d) continue;
    if (!isEscaped || byte !== backslash) break;
    // A tab or a newline between values, as an escape of the text around.
    const escaped = bytes[i + 1] as number;
    if (escaped !== 0x74 && escaped !== 0x6e && escaped !== 0x72) break;
    i++;
  }
  return i;
}

/** Where the string that begins at `from`, behind its quote, has its closing quote. */
function stringEnd(bytes: Buffer, from: number, end: number, isEscaped: boolean): number {
  let i = from;
  while (i < end) {
    const byte = bytes[i] as number;
    if (byte === quote) return i;
    if (byte !== backslash) i++;
    else if (!isEscaped) i += 2;
    else {
      const escaped = bytes[i + 1];
      if (escaped === quote) return i;
      // Two backslashes are one of the text, which takes the character behind it along.
      if (escaped !== backslash) i += 2;
      else i += bytes[i + 2] === backslash ? 4 : 3;
    }
  }
  return end;
}

/** Behind the value that begins at `from`. */
function valueEnd(bytes: Buffer, from: number, end: number, isEscaped: boolean): number {
  const mark = isEscaped ? 2 : 1;
  let depth = 0;
  let i = from;
  while (i < end) {
    const byte = bytes[i] as number;
    if (byte === quote || (byte === backslash && isEscaped && bytes[i + 1] === quote)) {
      i = stringEnd(bytes, i + mark, end, isEscaped) + mark;
      if (depth === 0) return i;
      continue;
    }
    if (byte === openBrace || byte === openBracket) depth++;
    else if (byte === closeBrace || byte === closeBracket) {
      if (depth === 0) return i;
      depth--;
      if (depth === 0) return i + 1;
    } else if (byte === comma && depth === 0) return i;
    i++;
  }
  return end;
}
