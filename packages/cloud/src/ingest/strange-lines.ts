import { isUtf8 } from 'node:buffer';
import {
  completeMessage,
  encodeLine,
  type LogMessage,
  limits,
  normaliseMessage,
  truncateUtf8,
  utf8Length,
} from '@millrace/wire';
import { rowSeparator } from '../store/row-format.ts';

/**
 * The slow path: lines that cannot go into the store as they came. Nothing is dropped here; what cannot be
 * understood is kept as text.
 */

const newline = 0x0a;
const carriageReturn = 0x0d;
const openBrace = 0x7b;
const closeBrace = 0x7d;
// As buffers, and without the quote that is everywhere in JSON: these searches run over every byte received, and
// are ten times faster so.
const fieldsKey = Buffer.from('fields"');
/** Lone surrogates are written as escapes; pairs seldom are. */
const surrogateEscape = Buffer.from('\\ud');
const surrogateEscapeUpper = Buffer.from('\\uD');
/** Numbers that JSON.parse reads and ClickHouse's parser refuses: integers past 64 bits, exponents past a double. */
const hugeNumber = /[0-9]{20}|-[0-9]{19}|[eE]\+?[0-9]{3}/;

/**
 * Whether lines can go into the store as they are: valid UTF-8, nothing that breaks the row format, every line an
 * object by its first and last byte, none longer than a sender may produce, and nothing inside that ClickHouse
 * would read differently from JSON.parse. All of it by native searches over the whole run, but one pass over the
 * line ends. Lines that pass and are no JSON after all become text inside the store.
 */
export function areStorable(lines: Buffer): boolean {
  if (!isUtf8(lines) || lines.includes(rowSeparator) || lines.includes(carriageReturn)) return false;
  if (lines.includes(surrogateEscape) || lines.includes(surrogateEscapeUpper)) return false;
  if (lines.includes(fieldsKey) && hugeNumber.test(lines.toString('latin1'))) return false;
  for (let from = 0; from < lines.length; ) {
    const end = lines.indexOf(newline, from);
    if (end - from > limits.maxEncodedLineBytes) return false;
    if (lines[from] !== openBrace || lines[end - 1] !== closeBrace) return false;
    from = end + 1;
  }
  return true;
}

export interface RewrittenLine {
  /** One JSON object that the store can take, without a newline. */
  text: string;
  /** What the line gave as its identity; from {@link normaliseMessage}, so any text. */
  id: string;
  /** True when it could not be understood, and is kept as text. */
  raw: boolean;
}

/** Understands one line as well as possible and writes it anew. */
export function rewriteLine(line: Uint8Array, receivedMs: number): RewrittenLine {
  // Bytes that are no UTF-8 become U+FFFD.
  const text = new TextDecoder().decode(line);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { text: rawLine(text, receivedMs), id: '', raw: true };
  }
  return rewriteValue(value, receivedMs);
}

/** The same for a value that was parsed already. */
export function rewriteValue(value: unknown, receivedMs: number): RewrittenLine {
  const message = normaliseMessage(value, receivedMs);
  const raw = typeof value !== 'object' || value === null || Array.isArray(value);
  return { text: writeLine(message), id: message.id, raw };
}

/** A line of plain text. */
export function rawLine(text: string, receivedMs: number): string {
  const message = truncateUtf8(text.toWellFormed(), limits.maxMessageBytes);
  return writeLine(completeMessage({ message, timestamp: receivedMs }));
}

/** The beginning of a line that was longer than we buffer. */
export function oversizedLine(beginning: Uint8Array, receivedMs: number): string {
  const mark = `… [line longer than ${limits.maxReceivedLineBytes} bytes, truncated]`;
  let end = limits.maxMessageBytes - utf8Length(mark);
  // Not inside a character: a byte 10xxxxxx continues one.
  while (end > 0 && ((beginning[end] ?? 0) & 0xc0) === 0x80) end--;
  const text = new TextDecoder().decode(beginning.subarray(0, end)).trimEnd();
  return rawLine(text + mark, receivedMs);
}

/**
 * `fields` goes in as a string that holds JSON: the store keeps the text either way, and its own parser is not asked
 * to read it before a search does. Integers past 64 bits get an exponent: in their long form that parser refuses the
 * whole object, and no search would find any field of the line.
 */
function writeLine(message: LogMessage): string {
  const { fields, ...rest } = message;
  const line = encodeLine(rest);
  if (fields === undefined) return line;
  const text = JSON.stringify(JSON.stringify(fields, exponentForHuge).toWellFormed());
  if (utf8Length(line) + utf8Length(text) > limits.maxEncodedLineBytes) return line;
  return `${line.slice(0, -1)},"fields":${text}}`;
}

function exponentForHuge(_key: string, value: unknown): unknown {
  if (typeof value !== 'number' || Math.abs(value) < 2 ** 63 || Math.abs(value) >= 1e21) return value;
  return rawJson(value.toExponential());
}

/** TypeScript's library does not know it yet. https://tc39.es/proposal-json-parse-with-source/ */
const { rawJSON: rawJson } = JSON as typeof JSON & { rawJSON(text: string): unknown };
