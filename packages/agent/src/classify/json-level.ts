import { type Level, numberLevel } from '@millrace/wire';
import { keyKind, mayBeKnown } from './level-keys.ts';
import { holds, isDigit, isLetter } from './tokens.ts';
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
 * object's top, or in an object there that loggers put it into (see {@link holderOf}). Where the value is an object
 * itself, its name counts: `{"level":{"name":"error"}}`. Other values are passed over, not parsed; text that is no
 * JSON gives `undefined` or the level of a beginning that could have been.
 *
 * @param isEscaped the object lies inside a string of another JSON text: each of its quotes and backslashes is
 * preceded by one backslash, and its control characters are escapes
 */
export function jsonLevel(bytes: Buffer, at: number, end: number, isEscaped: boolean): Level | undefined {
  const mark = isEscaped ? 2 : 1;
  /** Depth of the object whose keys are looked at: 1, one more inside a holder, and inside a level that is an object. */
  let depth = 1;
  /** Depth of the level that is an object, or 0 outside of one. */
  let levelDepth = 0;
  let isRecord = false;
  let isMongo = false;
  /** What a priority says: tasks and tickets have one as well, so it counts where nothing else names a level. */
  let priority: Level | undefined;
  let i = at + 1;
  for (;;) {
    i = toMark(bytes, i, end, isEscaped);
    if (i >= end) return priority;
    let byte = bytes[i] as number;
    if (byte === closeBrace) {
      if (depth === levelDepth) levelDepth = 0;
      depth--;
      if (depth === 0) return priority;
      if (depth === 1) isRecord = false;
      i++;
      continue;
    }
    if (byte === comma) {
      i++;
      continue;
    }
    if (!startsString(bytes, i, isEscaped)) return priority;
    const key = i + mark;
    const keyEnd = stringEnd(bytes, key, end, isEscaped);
    i = toMark(bytes, keyEnd + mark, end, isEscaped);
    if (bytes[i] !== colon || i >= end) return priority;
    i = toMark(bytes, i + 1, end, isEscaped);
    if (i >= end) return priority;
    byte = bytes[i] as number;
    if (mayBeKnown(bytes, key, keyEnd)) {
      const isString = startsString(bytes, i, isEscaped);
      const value = isString ? i + mark : i;
      const isObject = byte === openBrace;
      let found: Level | undefined;
      const kind = keyKind(bytes, key, keyEnd);
      switch (kind) {
        case 'level':
          if (isObject && levelDepth === 0) {
            depth++;
            levelDepth = depth;
            i++;
            continue;
          }
          if (!isRecord || levelDepth > 0) found = valueLevel(bytes, value, end);
          break;
        case 'name':
          if (levelDepth > 0 && isString) found = valueLevel(bytes, value, end);
          break;
        case 'otel':
          if (!isRecord) found = otelLevel(numberAt(bytes, value, end));
          break;
        case 'python':
          if (!isRecord) found = pythonLevel(numberAt(bytes, value, end));
          break;
        case 'priority':
          if (!isRecord) priority ??= priorityLevel(bytes, key, value, end);
          break;
        case 'holder':
        case 'record':
          if (isObject && depth === 1) {
            isRecord = kind === 'record';
            depth = 2;
            i++;
            continue;
          }
          break;
        case 'time':
          // MongoDB: {"t":{"$date":…},"s":"I","c":"NETWORK",…}
          isMongo ||= isObject && depth === 1;
          break;
        case 'initial':
          if (isMongo && isString) return initialLevel(bytes[value]);
          break;
      }
      if (found) return found;
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
  if (isDigit(bytes[at]) && at < end) {
    const number = numberAt(bytes, at, end);
    return number === undefined ? undefined : numberLevel(number);
  }
  readWord(bytes, at, end);
  const { end: wordEnd, capitals, letters } = word;
  // Go's slog: `DEBUG-2`, four below which is the next level.
  const isOffset = bytes[wordEnd] === 0x2d && isDigit(bytes[wordEnd + 1]) && capitals === letters;
  return isOffset || isBehindWord(bytes, wordEnd, end) ? wordLevel() : undefined;
}

/** A number of up to three digits, and nothing else. */
function numberAt(bytes: Buffer, at: number, end: number): number | undefined {
  let number = 0;
  let i = at;
  for (; i < end && i - at < 3; i++) {
    const digit = (bytes[i] as number) - 0x30;
    if (digit < 0 || digit > 9) break;
    number = number * 10 + digit;
  }
  return i > at && isBehindWord(bytes, i, end) ? number : undefined;
}

/** OpenTelemetry: four numbers for each of trace, debug, info, warn, error, fatal, from 1 on. */
function otelLevel(number = 0): Level | undefined {
  if (number < 1 || number > 24) return undefined;
  return (['debug', 'debug', 'info', 'warn'] as const)[(number - 1) >> 2] ?? 'error';
}

/** Python: 10 debug, 20 info, 30 warning, 40 error, 50 critical. */
function pythonLevel(number = 0): Level | undefined {
  if (number < 1 || number > 50) return undefined;
  return (['debug', 'debug', 'info', 'warn'] as const)[Math.floor(number / 10)] ?? 'error';
}

/**
 * A priority as a word. As a number it is a severity of syslog where the key is in capitals, as journald and syslog-ng
 * write it; elsewhere 1 and 3 are what a task may have, as is `critical`.
 */
function priorityLevel(bytes: Buffer, key: number, value: number, end: number): Level | undefined {
  const isCapital = (bytes[key + 1] as number) < 0x61;
  if (!isCapital && (isDigit(bytes[value]) || holds(bytes, value, end, 'critical'))) return undefined;
  return valueLevel(bytes, value, end);
}

/** `error_code`, `info-2`, `30.5` go on, and are values of another kind. */
function isBehindWord(bytes: Buffer, at: number, end: number): boolean {
  if (at >= end) return true;
  const byte = bytes[at] as number;
  const isMark = byte === 0x5f || byte === 0x2d || byte === 0x2e;
  return !isMark && !isDigit(byte) && !isLetter(byte);
}

/** Whether a key of a pair `key=value` names a level. */
export function isLevelKey(bytes: Buffer, from: number, to: number): boolean {
  return mayBeKnown(bytes, from, to) && keyKind(bytes, from, to) === 'level';
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
