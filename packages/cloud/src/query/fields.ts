import { fieldLimits } from '@millrace/wire';
import { float, string } from '../store/sql.ts';
import type { Bound } from './ast.ts';

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

/** `trimEnd` of JavaScript. */
const blanks = String.raw`[\t\n\v\f\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}]`;
const trimmed = `replaceRegexpOne(message, ${string(`${blanks}+$`)}, '')`;

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
 */
function jsonSql(path: string): string {
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

/** A condition about a value. In a lambda, so that what finds the value stands there once. */
function condition(path: string, write: (read: Read) => readonly string[]): string {
  return `arrayExists(json -> ${["json != ''", ...write(reading(path))].join(' AND ')}, [${jsonSql(path)}])`;
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

/** True when the line has the value, and its text (`''` where it has none) is as `test` says. */
export function fieldTextSql(path: string, test: (text: string) => string): string {
  return condition(path, (read) => [`${read('JSONType')} != 'Null'`, test(textSql(read))]);
}

/** True when the value's text is this one, in any case of A–Z, or its number is. */
export function fieldIsSql(path: string, text: string, number: number | undefined): string {
  if (number === undefined) return fieldTextSql(path, (own) => `lower(${own}) = ${string(text)}`);
  const bound = { value: number, inclusive: true };
  return condition(path, (read) => [
    `${read('JSONType')} != 'Null'`,
    `(lower(${textSql(read)}) = ${string(text)} OR (${withinSql(read, bound, bound)}))`,
  ]);
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
