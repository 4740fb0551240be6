import { fieldLimits } from '@millrace/wire';
import { float, string } from '../store/sql.ts';
import type { Bound } from './ast.ts';
import { asciiLower } from './text.ts';

/**
 * How a line's fields are read: here alone, in SQL and in JavaScript, side by side, as both must say the same. In
 * JavaScript a line has its `fields` already; in SQL they are found as `fieldsOf` of packages/wire finds them: those
 * that the sender gave, else those of a message that is JSON or logfmt.
 *
 * A path is first a key as it stands (`http.status` of OpenTelemetry), then keys inside one another. Arrays are not
 * entered. A value has a *text* when it is a string, a boolean or a whole number (other numbers have several
 * spellings), and a *number* when it is one, or a string that looks like one.
 */

/** A whole number in a string; others are read differently by different parsers. */
const numberText = '^-?[0-9]{1,15}$';
const numberPattern = new RegExp(numberText);

const units = fieldLimits.maxMessageChars;
/** JavaScript counts UTF-16 units. The bytes are never fewer, and hardly ever have to be looked into. */
const isShort = `(length(message) <= ${units} OR lengthUTF8(message) + countMatches(message, ${string(String.raw`[\x{10000}-\x{10ffff}]`)}) <= ${units})`;

/** The engine's parser refuses an object for one integer past 64 bits. With an exponent it is any number. */
const jsonMessage = `if(match(message, '[0-9]{19}') AND NOT isValidJSON(message), replaceRegexpAll(message, ${string(String.raw`([:,\[][ \t\r\n]*-?[0-9]{19,})\b`)}, ${string(String.raw`\1e0`)}), message)`;

/** `trimEnd` of JavaScript. Hardly a message ends in a blank, and the expression is compiled again for each block of lines. */
const blanks = String.raw`[\t\n\v\f\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}]`;
const trimmed = `if(substring(message, -1) BETWEEN '!' AND '~', message, replaceRegexpOne(message, ${string(`${blanks}+$`)}, ''))`;

const logfmtKey = '[A-Za-z0-9_./@-]+';
const logfmtValue = String.raw`"(?:[^"\\]|\\(?s:.))*"|[^ "\n\t]*`;
const logfmtPair = `${logfmtKey}=(?:${logfmtValue})`;
const isLogfmt = `match(${trimmed}, ${string(String.raw`^[ \t]*${logfmtPair}(?: +${logfmtPair})+$`)})`;
const logfmtPairs = `arraySlice(extractAllGroupsVertical(${trimmed}, ${string(`(${logfmtKey})=(${logfmtValue})`)}), 1, ${fieldLimits.maxKeys})`;
const logfmtNumber = string(String.raw`^-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,9})?$`);
const isPlain = `(pair[2] IN ('true', 'false') OR (match(pair[2], ${logfmtNumber}) AND length(pair[2]) <= 16))`;
const unescaped = `replaceRegexpAll(substring(pair[2], 2, length(pair[2]) - 2), ${string(String.raw`\\([^\n\r\x{2028}\x{2029}])`)}, ${string(String.raw`\1`)})`;
const quotedValue = `if(isValidJSON(pair[2]), pair[2], toJSONString(${unescaped}))`;
const logfmtJson = `multiIf(startsWith(pair[2], '"'), ${quotedValue}, ${isPlain}, pair[2], toJSONString(pair[2]))`;

/**
 * The text of a JSON object that has the line's value for a path, or `''`. Whatever is long stands in it once: ClickHouse
 * takes longer to read a statement that repeats it than to run it.
 *
 * @param mayMatch a condition that is cheap; of lines that do not meet it nothing else is looked at
 */
function jsonSql(path: string, mayMatch?: string): string {
  const key = path.slice(path.lastIndexOf('.') + 1);
  // Most messages do not have the key, and need not be parsed to see that; unless its characters are escaped.
  const mayHaveKey = /^[\w@-]+$/.test(key)
    ? `(position(message, ${string(`${key}"`)}) > 0 OR position(message, ${string('\\u')}) > 0)`
    : 'true';
  // A key with any other character than these is in no message of this kind.
  const isLogfmtKey = new RegExp(`^${logfmtKey}$`).test(path);
  const mayHavePair = isLogfmtKey ? `position(message, ${string(`${path}=`)}) > 0` : 'false';
  const pair = `arrayMap(pair -> concat(${string(`{${JSON.stringify(path)}:`)}, ${logfmtJson}, '}'), arrayFilter(pair -> pair[1] = ${string(path)}, ${logfmtPairs}))[-1]`;
  const branches = [
    ...(mayMatch === undefined ? [] : [[`NOT ${mayMatch}`, `''`]]),
    [`startsWith(fields, '{') AND JSONType(fields) = 'Object'`, 'fields'],
    [`NOT (${mayHaveKey} OR ${mayHavePair}) OR NOT ${isShort}`, `''`],
    [`match(message, ${string(String.raw`^[ \t]*\{`)})`, jsonMessage],
    ...(isLogfmtKey ? [[`${mayHavePair} AND ${isLogfmt}`, pair]] : []),
  ];
  return `multiIf(${branches.flat().join(', ')}, '')`;
}

/** A JSON function of ClickHouse, led from the object `json` to the value. */
type Read = (name: string, type?: string) => string;

function reading(path: string): Read {
  const key = string(path);
  const nested = path.split('.').map(string).join(', ');
  return (name, type = '') => {
    const flat = `${name}(json, ${key}${type})`;
    return path.includes('.') ? `if(JSONHas(json, ${key}), ${flat}, ${name}(json, ${nested}${type}))` : flat;
  };
}

/**
 * Lines whose fields may stand in the message in another way than as they are: given beside it, or with escapes. An
 * index of its own has where there are any (store/text-index.ts).
 */
export const escapedSql = `(startsWith(fields, '{') OR position(message, '\\\\') > 0)`;

/** What cannot stand in a message as it is: in JSON it takes an escape. */
const needsEscape = /["\\\p{Cc}\p{Cs}]/u;

/** What follows for the message from a condition about a value. */
interface Implied {
  /** It holds these texts, in any case of A–Z. */
  texts?: readonly string[];
  /** It holds this one, with nothing of a word before or behind it. */
  whole?: string;
  /** It spells this number. */
  number?: number;
}

/**
 * What follows from a condition about a value: the message has the words of its key, and of what else is known. The index
 * over words serves that, and has to be asked for nothing else: beside it in an OR, `grams` is read whole, and of no use.
 */
function wordsSql(path: string, { whole = '' }: Implied): string | undefined {
  const key = path.slice(path.lastIndexOf('.') + 1);
  const words = [key, whole].filter((text) => !needsEscape.test(text)).flatMap(wordsOf);
  const tokens = [...new Set(words)].slice(0, maxTokens).map(string);
  return tokens.length === 0
    ? undefined
    : `(${escapedSql} > 0 OR hasAllTokens(lower(message), [${tokens.join(', ')}]))`;
}

/** What follows as well, told by a look at the message. */
function textsSql({ texts = [], number }: Implied): string | undefined {
  const all = [
    ...texts.filter((text) => text.length > 2 && !needsEscape.test(text)).map(holds),
    ...(number === undefined ? [] : spellsSql(number)),
  ];
  return all.length === 0 ? undefined : `(${escapedSql} OR (${all.join(' AND ')}))`;
}

const maxTokens = 16;

/** As the index knows words; what is not ASCII belongs to them, and is left to the condition itself. */
function wordsOf(text: string): string[] {
  return asciiLower(text)
    .split(/[^a-z0-9\u{80}-\u{10ffff}]+/u)
    .filter((word) => /^[a-z0-9]+$/.test(word));
}

/** Not LIKE, for which the engine would ask an index. */
function holds(text: string): string {
  return `position(lower(message), ${string(asciiLower(text))}) > 0`;
}

/**
 * A number of at most 15 digits is spelled with these digits, or with an exponent, or with more digits than that, which may
 * be rounded to it.
 */
function spellsSql(number: number): string[] {
  const digits = String(Math.abs(number));
  if (!/^[0-9.]{1,16}$/.test(digits) || digits.replace('.', '').length > 15) return [];
  const otherwise = String.raw`\b[0-9][0-9.]*[eE][-+]?[0-9]+\b|\b[0-9][0-9.]{15}`;
  return [`(${holds(digits)} OR match(message, ${string(otherwise)}))`];
}

/**
 * A condition about a value. In a lambda, so that what finds the value stands there once. What is told by a look at the
 * message stands in there, too: the engine puts conditions that are joined by AND into an order of its own.
 */
function condition(path: string, write: (read: Read) => readonly string[], known: Implied = {}): string {
  const tests = ["json != ''", ...write(reading(path))].join(' AND ');
  const whole = `arrayExists(json -> ${tests}, [${jsonSql(path, textsSql(known))}])`;
  const words = wordsSql(path, known);
  return words === undefined ? whole : `(${words} AND ${whole})`;
}

/** Whether a value with this in its text is a string or a boolean, and so stands in the message as it is; a number has several spellings. */
function isNoNumber(text: string): boolean {
  return /[^-0-9]/.test(text);
}

/** The value's text, `''` where it has none. */
function textSql(read: Read): string {
  const type = read('JSONType');
  const number = read('JSONExtractFloat');
  const whole = `${type} IN ('Int64', 'UInt64', 'Double') AND abs(${number}) <= 9007199254740991 AND trunc(${number}) = ${number}`;
  return `multiIf(${type} IN ('String', 'Bool'), ${read('JSONExtractString')}, ${whole}, toString(toInt64(${number})), '')`;
}

/** That the value is a number within the bounds. */
function withinSql(read: Read, from: Bound | undefined, to: Bound | undefined): string {
  const type = read('JSONType');
  const number = read('JSONExtractFloat');
  const looksLikeOne = `match(${read('JSONExtractString')}, ${string(numberText)})`;
  return [
    `(${type} IN ('Int64', 'UInt64', 'Double') OR (${type} = 'String' AND ${looksLikeOne}))`,
    ...(from ? [`${number} ${from.inclusive ? '>=' : '>'} ${float(from.value)}`] : []),
    ...(to ? [`${number} ${to.inclusive ? '<=' : '<'} ${float(to.value)}`] : []),
  ].join(' AND ');
}

/**
 * True when the line has the value, and its text (`''` where it has none) is as `test` says.
 *
 * @param known texts that it must hold for that, or the only one that it can be, in any case of A–Z
 */
export function fieldTextSql(
  path: string,
  known: readonly string[] | string,
  test: (text: string) => string,
): string {
  const implied = typeof known === 'string' ? { whole: known, texts: [known] } : { texts: known };
  return condition(
    path,
    (read) => [`${read('JSONType')} != 'Null'`, test(textSql(read))],
    implied.texts.some(isNoNumber) ? implied : {},
  );
}

/** True when the value's text is this one, in any case of A–Z, or its number is. */
export function fieldIsSql(path: string, text: string, number: number | undefined): string {
  if (number === undefined) return fieldTextSql(path, text, (own) => `lower(${own}) = ${string(text)}`);
  const bound = { value: number, inclusive: true };
  return condition(
    path,
    (read) => [
      `${read('JSONType')} != 'Null'`,
      `(lower(${textSql(read)}) = ${string(text)} OR (${withinSql(read, bound, bound)}))`,
    ],
    { number },
  );
}

export function fieldRangeSql(path: string, from: Bound | undefined, to: Bound | undefined): string {
  return condition(path, (read) => [withinSql(read, from, to)]);
}

export function fieldExistsSql(path: string): string {
  return condition(path, (read) => [`${read('JSONType')} != 'Null'`]);
}

/** The value as people see it, for counting: any number and whole objects, too. `NULL` where there is none. */
export function fieldShownSql(path: string): string {
  const shown = reading(path)('JSONExtract', `, 'Nullable(String)'`);
  return `arrayMap(json -> if(json = '', NULL, ${shown}), [${jsonSql(path)}])[1]`;
}

type Fields = Record<string, unknown> | undefined;

export function fieldValue(fields: Fields, path: string): unknown {
  if (fields === undefined) return undefined;
  if (Object.hasOwn(fields, path)) return fields[path];
  let value: unknown = fields;
  for (const key of path.split('.')) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
    if (!Object.hasOwn(value, key)) return undefined;
    value = (value as Record<string, unknown>)[key];
  }
  return value;
}

export function fieldText(value: unknown): string {
  if (typeof value === 'string') return value;
  // -0 is 0 here as it is there.
  return typeof value === 'boolean' || Number.isSafeInteger(value) ? String(value) : '';
}

/** `NaN`, which is within no bounds, where there is none. */
export function fieldNumber(value: unknown): number {
  if (typeof value === 'number') return value;
  return typeof value === 'string' && numberPattern.test(value) ? Number(value) : Number.NaN;
}
