import type { LogMessage } from './message.ts';

/**
 * What may become of a message's values: all keys are kept as they are, in their order, within these bounds. Readers
 * derive fields from the message whenever they show it; nothing of them is stored or sent beside it.
 */
export const fieldLimits = {
  /** A longer message is shown without fields, in UTF-16 units. */
  maxMessageChars: 32 * 1024,
  /** Keys at the top; the first ones are kept. */
  maxKeys: 128,
  /** A value nested deeper than this is shown as its JSON text. */
  maxDepth: 8,
  /** A longer key is left out. */
  maxKeyChars: 256,
} as const;

/**
 * The structured values of a message: of one that is a JSON object, or logfmt (nothing but pairs `key=value`, two at
 * least). `undefined` for any other. Values of logfmt are numbers and booleans where they look like it.
 */
export function fieldsOf(message: string): Record<string, unknown> | undefined {
  if (message.length > fieldLimits.maxMessageChars) return undefined;
  for (let at = 0; at < message.length; at++) {
    const char = message.charCodeAt(at);
    if (char === 0x20 || char === 0x09) continue;
    if (char === 0x7b) return jsonFields(message);
    return isKeyChar(char) ? logfmtFields(message, at) : undefined;
  }
  return undefined;
}

/** The same message with its fields; those that its sender gave win. */
export function withFields(line: LogMessage): LogMessage {
  if (line.fields !== undefined) return line;
  const fields = fieldsOf(line.message);
  return fields ? { ...line, fields } : line;
}

function jsonFields(message: string): Record<string, unknown> | undefined {
  // Most text in braces that is no JSON ends otherwise, and an error would cost more than all the rest.
  if (!message.trimEnd().endsWith('}')) return undefined;
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(message);
  } catch {
    return undefined;
  }
  const entries: [string, unknown][] = [];
  for (const [key, entry] of Object.entries(value)) {
    if (entries.length === fieldLimits.maxKeys) break;
    if (key.length <= fieldLimits.maxKeyChars) entries.push([key, bounded(entry, fieldLimits.maxDepth)]);
  }
  // Not by assignment: a key may be `__proto__`.
  return entries.length > 0 ? Object.fromEntries(entries) : undefined;
}

function bounded(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null || isShallow(value, depth)) return value;
  if (depth === 0) return textOf(value);
  if (Array.isArray(value)) return value.map((entry) => bounded(entry, depth - 1));
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, bounded(entry, depth - 1)]));
}

/** Whether nothing in it is nested deeper; asked first, since it nearly always is so and then nothing is copied. */
function isShallow(value: object, depth: number): boolean {
  if (depth === 0) return false;
  return Object.values(value).every(
    (entry) => typeof entry !== 'object' || entry === null || isShallow(entry, depth - 1),
  );
}

/** JSON.parse reads any depth, JSON.stringify does not. */
function textOf(value: object): string {
  try {
    return JSON.stringify(value);
  } catch {
    return '[a value nested too deeply to show]';
  }
}

function logfmtFields(message: string, start: number): Record<string, unknown> | undefined {
  const entries: [string, unknown][] = [];
  const end = message.trimEnd().length;
  let at = start;
  while (at < end) {
    const from = at;
    while (at < end && isKeyChar(message.charCodeAt(at))) at++;
    if (at === from || message[at] !== '=') return undefined;
    const key = message.slice(from, at);
    at++;
    let value: unknown;
    if (message[at] === '"') {
      const close = quoteEnd(message, at + 1, end);
      if (close < 0) return undefined;
      value = unquoted(message.slice(at + 1, close));
      at = close + 1;
    } else {
      const valueFrom = at;
      for (; at < end && message[at] !== ' '; at++) {
        const char = message[at];
        // Line breaks and quotes do not occur in a value without quotes: this is some other text.
        if (char === '"' || char === '\n' || char === '\t') return undefined;
      }
      value = plainValue(message.slice(valueFrom, at));
    }
    if (entries.length < fieldLimits.maxKeys && key.length <= fieldLimits.maxKeyChars)
      entries.push([key, value]);
    if (at < end && message[at] !== ' ') return undefined;
    while (message[at] === ' ') at++;
  }
  return entries.length >= 2 ? Object.fromEntries(entries) : undefined;
}

/** Letters, digits, and `_ . - / @`. */
function isKeyChar(char: number): boolean {
  const lower = char | 0x20;
  return (
    (lower >= 0x61 && lower <= 0x7a) ||
    (char >= 0x30 && char <= 0x39) ||
    char === 0x5f ||
    (char >= 0x2d && char <= 0x2f) ||
    char === 0x40
  );
}

function quoteEnd(text: string, from: number, end: number): number {
  for (let at = from; at < end; at++) {
    if (text[at] === '"') return at;
    if (text[at] === '\\') at++;
  }
  return -1;
}

function unquoted(text: string): string {
  if (!text.includes('\\')) return text;
  try {
    return JSON.parse(`"${text}"`);
  } catch {
    return text.replace(/\\(.)/g, '$1');
  }
}

function plainValue(text: string): unknown {
  if (text === 'true') return true;
  if (text === 'false') return false;
  // Up to fifteen digits a number holds exactly; an id with leading zeros is text.
  return /^-?(?:0|[1-9]\d{0,14})(?:\.\d{1,9})?$/.test(text) && text.length <= 16 ? Number(text) : text;
}
