import { type Level, syslogLevel } from '@millrace/wire';
import { initialLevel, isLevelKey, jsonLevel, valueLevel } from './json-level.ts';
import { isNameOfTime, saysFailure, suffixLevel } from './phrases.ts';
import {
  bracketEnd,
  hasClock,
  isDigit,
  isLetter,
  keyEnd,
  quotedEnd,
  skipAnsi,
  skipBlank,
  tokenEnd,
} from './tokens.ts';
import { packed, readWord, word, wordLevel } from './words.ts';

/** How much of a line is looked at. */
export const maxHeadBytes = 1024;
/** Where there are no pairs (`key=value`), a level stands nearer to the beginning. */
const maxPlainBytes = 256;
const maxNames = 3;

/** What one token tells: a level, that the message begins here, that an escape hides what it is, or nothing yet. */
type Step = Level | 'stop' | 'escaped' | undefined;

/** Levels only in capitals, since they are common words. */
const capitalsOnly = new Set(
  [
    ...['log', 'note', 'config', 'fine', 'finer', 'finest', 'alert'],
    // As logrus cuts them, to four letters.
    ...['trac', 'debu', 'erro', 'fata', 'pani'],
  ].map(packed),
);
/** In capitals they still are, so these need a colon as well. */
const colonOnly = new Set(['log', 'note', 'config', 'fine', 'finer', 'finest'].map(packed));
/** `error: null` is no error. */
const nothings = new Set(['null', 'none', 'nil', 'false'].map(packed));
const npm = packed('npm');
const php = packed('php');
const atKey = packed('at');

/**
 * The level in the head of a line of text. Goes from token to token as long as they are what loggers write before
 * the message: times, numbers, bracketed groups, pairs `key=value`, names (of a host, a logger, a file) and marks
 * between them. A level is
 *
 * - a word for one that is in capitals, or set off: by brackets, a colon behind it, bars, dashes, tabs or colours;
 * - the value of a pair whose key names a level;
 * - a number `<n>` of syslog, or the initial that klog, Rails, Telegraf and Redis use;
 * - the beginning of a report that a runtime gives of a failure.
 *
 * The first word that is none of these begins the message and ends the search: "retry after ERROR" has no level.
 */
export function textLevel(bytes: Buffer, start: number, end: number): Level | undefined {
  return head.read(bytes, start, end) as Level | undefined;
}

/**
 * The same for what stands inside a JSON string; `'escaped'` where an escape comes before the head has told the
 * level. Most lines have none there, and are spared a copy without escapes.
 */
export function escapedTextLevel(bytes: Buffer, start: number, end: number): Level | 'escaped' | undefined {
  return head.read(bytes, start, end, true);
}

class LineHead {
  private bytes: Buffer = Buffer.alloc(0);
  private at = 0;
  private end = 0;
  private plainEnd = 0;
  private names = 0;
  private hasTime = false;
  /** The token before was a time, or stands for one: a level may follow in small letters. */
  private afterTime = false;
  /** There was only a number so far: "5 ERROR lines" is a sentence. */
  private isCount = false;
  private isRedis = false;
  private isEscaped = false;

  read(bytes: Buffer, start: number, lineEnd: number, isEscaped = false): Level | 'escaped' | undefined {
    this.isEscaped = isEscaped;
    this.bytes = bytes;
    this.at = start;
    this.end = Math.min(lineEnd, start + maxHeadBytes);
    this.plainEnd = Math.min(lineEnd, start + maxPlainBytes);
    this.names = 0;
    this.hasTime = false;
    this.afterTime = false;
    this.isCount = false;
    this.isRedis = false;
    while (this.at < this.plainEnd) {
      const step = this.step(bytes[this.at] as number);
      if (step !== undefined) return step === 'stop' ? undefined : step;
    }
    return undefined;
  }

  private step(byte: number): Step {
    const { bytes } = this;
    if (isLetter(byte) || byte === 0x5f || byte === 0x2f || byte === 0x40) return this.word();
    if (isDigit(byte)) return this.number();
    if (byte === 0x5b || byte === 0x28) return this.bracket();
    if (byte === 0x1b) {
      this.at = skipAnsi(bytes, this.at, this.end);
      return undefined;
    }
    if (byte === 0x3c) return this.angle();
    if (byte === 0x7b) {
      if (bytes[this.at + 1] === 0x22) return jsonLevel(bytes, this.at, this.end, false) ?? 'stop';
      if (this.isEscaped) return 'escaped';
      this.at = bracketEnd(bytes, this.at, this.end) + 1;
      return undefined;
    }
    if (byte === 0x20) {
      this.at++;
      return undefined;
    }
    if (byte === 0x5c) return this.isEscaped ? 'escaped' : 'stop';
    if (this.isRedis && this.afterTime) {
      const level = redisLevels[String.fromCharCode(byte)];
      if (level) return level;
    }
    if (isSymbol(byte, bytes[this.at + 1])) {
      this.at += byte === 0xf0 ? 4 : 3;
      return undefined;
    }
    if (!marks.includes(byte)) return 'stop';
    this.afterTime &&= byte !== 0x2d;
    this.at++;
    return undefined;
  }

  private number(): Step {
    const { bytes, at } = this;
    const to = clockEnd(bytes, at, tokenEnd(bytes, at, this.end));
    let isWhole = true;
    for (let i = at; i < to && isWhole; i++) isWhole = isDigit(bytes[i]);
    const last = bytes[to - 1] as number;
    // `1:M`, `12:C`: process and role.
    if (this.names === 0 && !this.hasTime && bytes[to - 2] === 0x3a && last >= 0x43 && last <= 0x58) {
      this.isRedis = true;
    }
    const isClock = hasClock(bytes, at, to);
    this.hasTime ||= isClock;
    this.afterTime = isClock;
    this.isCount = isWhole && !this.hasTime && this.names === 0;
    this.at = to;
    return undefined;
  }

  private word(): Step {
    const { bytes, at, end } = this;
    readWord(bytes, at, end);
    const { end: wordEnd, letters, capitals, head: packedWord } = word;
    const found = wordLevel();
    if (found && this.isEscaped && bytes[wordEnd] === 0x5c) return 'escaped';
    if (found && !this.isCount && this.standsOut(wordEnd, capitals === letters, packedWord)) return found;
    // `Error: 0`
    if (found && bytes[wordEnd] === 0x3a && wordEnd < end) return 'stop';
    if (letters === 1) {
      const level = this.initial(at);
      if (level) return level;
    }
    const to = tokenEnd(bytes, at, end);
    if (this.isEscaped && bytes[to] === 0x5c) return 'escaped';
    const equals = keyEnd(bytes, at, to);
    if (equals > 0) return this.pair(equals, to);
    if (saysFailure(bytes, at, end)) return 'error';
    if (bytes[to - 1] === 0x3a) {
      const level = suffixLevel(bytes, at, to - 1);
      if (level) return level;
      this.names++;
    } else if (this.isPartOfTime(wordEnd, to, packedWord, letters, capitals)) {
      this.at = to;
      return undefined;
    } else if (letters === 3 && (packedWord === npm || packedWord === php) && to === wordEnd) {
      // `npm warn deprecated`, `PHP Warning:`
      this.at = to;
      this.afterTime = packedWord === npm;
      return undefined;
    } else if (this.isName(wordEnd, to)) this.names++;
    else return 'stop';
    this.afterTime = false;
    this.isCount = false;
    this.at = to;
    return this.names > maxNames ? 'stop' : undefined;
  }

  /** Whether the word that ends at `wordEnd` and could be a level is used as one. */
  private standsOut(wordEnd: number, isUpper: boolean, packedWord: number): boolean {
    const { bytes, end } = this;
    const next = wordEnd < end ? (bytes[wordEnd] as number) : 0x20;
    if (!isUpper && capitalsOnly.has(packedWord)) return false;
    if (next === 0x3a) return isUpper || !this.isNothing(wordEnd + 1);
    if (colonOnly.has(packedWord)) return false;
    if (next === 0x09 || next === 0x7c || next === 0x1b) return true;
    if (isUpper) return next === 0x20 || upperEnds.includes(next);
    if (next !== 0x20) return false;
    if (this.afterTime) return true;
    const behind = skipBlank(bytes, wordEnd, end);
    const mark = bytes[behind];
    return (
      behind < end &&
      (mark === 0x7c || mark === 0x2d || mark === 0x3a) &&
      (bytes[behind + 1] ?? 0x20) === 0x20
    );
  }

  private isNothing(from: number): boolean {
    const { bytes, end } = this;
    const at = skipBlank(bytes, from, end);
    if (bytes[at] === 0x30) return !isDigit(bytes[at + 1]);
    readWord(bytes, at, end);
    return nothings.has(word.head) && word.letters <= 5;
  }

  /** `E0102 15:04` (klog), `I, [2024-…` (Ruby), `E: ` (apt), `I! ` (Telegraf), `E (123) wifi: ` (ESP-IDF). */
  private initial(at: number): Level | undefined {
    const { bytes, end } = this;
    const next = bytes[at + 1];
    const isKlog = isDigit(next) && isDigit(bytes[at + 4]) && bytes[at + 5] === 0x20 && at + 5 < end;
    const isRuby = next === 0x2c && bytes[at + 2] === 0x20 && bytes[at + 3] === 0x5b;
    const isMarked = (next === 0x3a || (next === 0x21 && this.hasTime)) && bytes[at + 2] === 0x20;
    const isEsp = next === 0x20 && bytes[at + 2] === 0x28 && isDigit(bytes[at + 3]) && this.names === 0;
    return isKlog || isRuby || isMarked || isEsp ? initialLevel(bytes[at]) : undefined;
  }

  private pair(equals: number, to: number): Step {
    const { bytes, end } = this;
    const isQuoted = bytes[equals + 1] === 0x22;
    const value = isQuoted || bytes[equals + 1] === 0x27 ? equals + 2 : equals + 1;
    if (isLevelKey(bytes, this.at, equals) || (equals - this.at === 2 && word.head === atKey)) {
      const level = valueLevel(bytes, value, end);
      if (level) return level;
    }
    this.plainEnd = end;
    this.afterTime = false;
    this.isCount = false;
    this.at = isQuoted ? quotedEnd(bytes, value, end) : to;
    return undefined;
  }

  /** A day, a month, am, pm, a zone. */
  private isPartOfTime(
    wordEnd: number,
    to: number,
    head: number,
    letters: number,
    capitals: number,
  ): boolean {
    // A comma may follow.
    if (letters === 0 || to - wordEnd > 1) return false;
    if (isNameOfTime(head, letters)) return true;
    return this.afterTime && capitals === letters && letters >= 2 && letters <= 5 && to === wordEnd;
  }

  /** The name of a host, a logger or a file, and no word of a sentence. */
  private isName(wordEnd: number, to: number): boolean {
    const { bytes, end } = this;
    if (to - wordEnd > 1) return nameMarks.includes(bytes[wordEnd] as number) || isDigit(bytes[wordEnd]);
    if (to !== wordEnd) return isDigit(bytes[wordEnd]);
    const behind = skipBlank(bytes, to, end);
    if (behind >= end) return false;
    const mark = bytes[behind] as number;
    if (mark === 0x5b || mark === 0x7c) return true;
    if ((mark === 0x2d || mark === 0x3a || mark === 0x3e) && bytes[behind + 1] === 0x20) return true;
    // `Jan 1 12:00:00 host sshd[12]: `
    if (!this.hasTime || this.names > 0) return false;
    const next = tokenEnd(bytes, behind, end);
    if (bytes[next] === 0x5b) return bytes[bracketEnd(bytes, next, end) + 1] === 0x3a;
    return bytes[next - 1] === 0x3a;
  }

  private bracket(): Step {
    const { bytes, at, end } = this;
    const to = bracketEnd(bytes, at, end);
    if (this.isEscaped && hasEscape(bytes, at, to)) return 'escaped';
    const found = bracketLevel(bytes, at + 1, to) ?? this.bracketInitial(at, to);
    if (found) return found;
    this.hasTime ||= hasClock(bytes, at, to);
    this.afterTime = false;
    this.isCount = false;
    this.at = to + 1;
    return undefined;
  }

  /** `[E 2024-… app]`, `[I 12:00:00.123 app]` (Tornado, Jupyter), `[W][component:12]: ` (ESPHome). */
  private bracketInitial(at: number, to: number): Level | undefined {
    const { bytes } = this;
    const behind = bytes[at + 2];
    const isTornado = behind === 0x20 && isDigit(bytes[at + 3]) && hasClock(bytes, at + 3, to);
    const isEspHome = at + 2 === to && bytes[at] === 0x5b && bytes[to + 1] === 0x5b;
    return isTornado || isEspHome ? initialLevel(bytes[at + 1]) : undefined;
  }

  /** `<30>` (syslog), `<info>` (NetworkManager); `<0.9.0>` is an Erlang process. */
  private angle(): Step {
    const { bytes, at, end } = this;
    let value = 0;
    let i = at + 1;
    for (; i < end && i < at + 4 && isDigit(bytes[i]); i++) value = value * 10 + (bytes[i] as number) - 0x30;
    if (i > at + 1) return bytes[i] === 0x3e && this.names === 0 ? syslogLevel(value & 7) : 'stop';
    readWord(bytes, at + 1, end);
    return (bytes[word.end] === 0x3e && wordLevel()) || 'stop';
  }
}

function hasEscape(bytes: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (bytes[at] === 0x5c) return true;
  return false;
}

/** Where a time ends that has the next thing right behind it: `12:00:00,123:WARNING:root`. */
function clockEnd(bytes: Buffer, from: number, to: number): number {
  // Nearly all are but a time.
  const last = bytes[to - 1] as number;
  if (to - from <= (isDigit(last) ? maxTimeBytes : last === 0x5a ? maxDateBytes : 0)) return to;
  for (let at = to - 2; at > from; at--) {
    const byte = bytes[at];
    const isMark = byte === 0x3a || byte === 0x2c || byte === 0x3b;
    if (isMark && isLetter(bytes[at + 1]) && hasClock(bytes, from, at)) return clockEnd(bytes, from, at);
  }
  return to;
}

/** `12:00:00.123456` and `2026-01-01T12:00:00.123456789Z` */
const maxTimeBytes = 15;
const maxDateBytes = 30;

/** The first bytes of an arrow, a sign or an emoji, which people put in front of a line. */
function isSymbol(byte: number, next: number | undefined): boolean {
  if (byte === 0xf0) return next === 0x9f;
  // U+2180 to U+2BFF; the mark behind a sign that asks for colours, and the one that files of Windows begin with.
  if (byte === 0xe2) return next !== undefined && next >= 0x86 && next < 0xb0;
  return byte === 0xef && (next === 0xb8 || next === 0xbb);
}

/** One for the process: reading is never interleaved. */
const head = new LineHead();

const bytesOf = (text: string): readonly number[] => [...Buffer.from(text)];
/** What may stand between the tokens of a head. */
const marks = bytesOf('\t|-:*#.,;=>+~');
/** What may follow a level in capitals. */
const upperEnds = bytesOf(',]/[!)>;*');
/** What may follow the first letters of a name. */
const nameMarks = bytesOf('._/:@#-$');
const redisLevels: Readonly<Record<string, Level>> = { '.': 'debug', '-': 'debug', '*': 'info', '#': 'warn' };

/**
 * The level in a bracketed group: all of it (`[warn]`), behind a module (`[core:error]`), or in capitals among
 * other words (`[2024-01-01T00:00:00Z INFO app]`, `[… ERROR/MainProcess]`).
 */
function bracketLevel(bytes: Buffer, from: number, to: number): Level | undefined {
  const first = skipBlank(bytes, from, to);
  let boundary = true;
  for (let i = first; i < to; ) {
    const byte = bytes[i] as number;
    if (!isLetter(byte)) {
      boundary = byte === 0x20 || byte === 0x3a || byte === 0x1b || byte === 0x7c || byte === 0x2f;
      i = byte === 0x1b ? skipAnsi(bytes, i, to) : i + 1;
      continue;
    }
    readWord(bytes, i, to);
    const { end: wordEnd, capitals, letters } = word;
    const found = boundary ? wordLevel() : undefined;
    if (found) {
      const before = bytes[i - 1];
      const isLast = skipBlank(bytes, wordEnd, to) === to;
      if (isLast && (i === first || before === 0x3a || (before === 0x2f && capitals === letters)))
        return found;
      // Apache's levels below debug: `[core:trace5]`
      if (isDigit(bytes[wordEnd]) && wordEnd + 1 === to && before === 0x3a) return found;
      const next = wordEnd < to ? bytes[wordEnd] : 0x20;
      if (
        capitals === letters &&
        before !== 0x2f &&
        (next === 0x20 || next === 0x2f || next === 0x3a || next === 0x1b)
      )
        return found;
    }
    boundary = false;
    i = wordEnd;
  }
  return undefined;
}
