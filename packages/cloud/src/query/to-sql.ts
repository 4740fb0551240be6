import { MillraceError } from '@millrace/wire';
import { containsPattern, string, stringList } from '../store/sql.ts';
import type { NameColumn, Piece, Query, Test } from './ast.ts';
import { fieldExistsSql, fieldIsSql, fieldRangeSql, fieldTextSql } from './fields.ts';
import { messageRegex, regexSource, requiredTexts, wholeValueRegex } from './regex.ts';
import { devicesSql } from './scope.ts';
import { asciiLower, numberIn } from './text.ts';

/**
 * A query as a condition over `millrace.logs`. Every condition is true or false and never NULL, so that NOT is what
 * it says. The caller's scope is not a part of it, but comes beside it (scope.ts).
 */
export function querySql(query: Query): string {
  switch (query.kind) {
    case 'everything':
      return 'true';
    case 'and':
    case 'or':
      return `(${query.parts.map(querySql).join(query.kind === 'and' ? ' AND ' : ' OR ')})`;
    case 'not':
      return `NOT ${querySql(query.part)}`;
    case 'levels':
      return query.levels.length === 0 ? 'false' : `level IN ${stringList(query.levels)}`;
    case 'stderr':
      return query.isStdErr ? 'is_stderr' : '(NOT is_stderr)';
    case 'group':
      throw unresolved();
    case 'devices':
      return devicesSql(query.devices);
    case 'match':
      if (query.target.kind === 'message') return messageSql(query.test);
      if (query.target.kind === 'name') return nameSql(query.target.name, query.test);
      return fieldSql(query.target.path, query.test);
  }
}

/** A fault of ours: {@link resolveGroups} comes before. */
export function unresolved(): MillraceError {
  return new MillraceError('INTERNAL', 'a query was to be answered whose fleets and tags are not resolved');
}

function messageSql(test: Test): string {
  switch (test.kind) {
    case 'text':
      return containsSql(test.text);
    case 'wildcard': {
      const pieces = test.pieces.map((piece) => (typeof piece === 'string' ? asciiLower(piece) : piece));
      return allOf([
        ...tokensSql(pieces.filter(isText)),
        `match(lower(message), ${string(messageRegex(pieces))})`,
      ]);
    }
    case 'regex':
      return allOf([
        ...tokensSql(requiredTexts(test.source, test.ignoreCase)),
        `match(message, ${string(regexSource(test))})`,
      ]);
    case 'exists':
      return `message != ''`;
    case 'range':
      return 'false';
  }
}

/** A text that must occur in the message, in any case of A–Z, also inside words. */
export function containsSql(text: string): string {
  if (text === '') return 'true';
  const lower = asciiLower(text);
  const like = `lower(message) LIKE ${containsPattern(lower)}`;
  if (/^[a-z0-9]+$/.test(lower)) return like;
  // Words that it holds whole (a separator on both sides) the index finds as tokens, the first and the last as
  // parts of tokens; for LIKE is then what is left. By itself it would be served for a single word only.
  const runs = lower.split(/[^a-z0-9\u{80}-\u{10ffff}]+/u);
  const whole = runs.slice(1, -1).filter((token) => /^[a-z0-9]+$/.test(token));
  const tokens = [...new Set(whole)].slice(0, maxTokens);
  return allOf([
    ...(tokens.length === 0 ? [] : [`hasAllTokens(lower(message), [${tokens.map(string).join(', ')}])`]),
    ...tokensSql([runs[0] as string, runs.at(-1) as string]),
    like,
  ]);
}

const maxTokens = 16;
const maxParts = 4;

/** Conditions that the text index can serve, for texts that occur somewhere in a message. */
function tokensSql(texts: readonly string[]): string[] {
  const parts = texts.flatMap((text) => text.split(/[^a-z0-9]+/)).filter((part) => part.length > 1);
  const longest = [...new Set(parts)].sort((a, b) => b.length - a.length).slice(0, maxParts);
  return longest.map((part) => `lower(message) LIKE ${containsPattern(part)}`);
}

function nameSql(column: NameColumn, test: Test): string {
  switch (test.kind) {
    case 'text':
      return `${column} = ${string(test.text)}`;
    case 'wildcard':
      return `match(${column}, ${string(wholeValueRegex(test.pieces))})`;
    case 'regex':
      return `match(${column}, ${string(regexSource(test))})`;
    case 'exists':
      return `${column} != ''`;
    case 'range':
      return 'false';
  }
}

function fieldSql(path: string, test: Test): string {
  switch (test.kind) {
    case 'text':
      return fieldIsSql(path, asciiLower(test.text), numberIn(test.text));
    case 'wildcard': {
      const pieces = test.pieces.map((piece) => (typeof piece === 'string' ? asciiLower(piece) : piece));
      return fieldTextSql(
        path,
        pieces.filter(isText),
        (text) => `match(lower(${text}), ${string(wholeValueRegex(pieces))})`,
      );
    }
    case 'regex':
      return fieldTextSql(
        path,
        requiredTexts(test.source, test.ignoreCase),
        (text) => `match(${text}, ${string(regexSource(test))})`,
      );
    case 'exists':
      return fieldExistsSql(path);
    case 'range':
      return fieldRangeSql(path, test.from, test.to);
  }
}

function isText(piece: Piece): piece is string {
  return typeof piece === 'string';
}

function allOf(conditions: string[]): string {
  return conditions.length === 1 ? (conditions[0] as string) : `(${conditions.join(' AND ')})`;
}
