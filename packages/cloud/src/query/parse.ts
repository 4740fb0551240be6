import { isLevel, type Level, levelRank, levels, parseLevel, parseLevelFilter } from '@millrace/wire';
import {
  type Bound,
  type DeviceGroup,
  everyLine,
  type NameColumn,
  nameColumns,
  type Piece,
  type Query,
  type Target,
  type Test,
} from './ast.ts';
import { queryLimits } from './limits.ts';
import { QueryError, type Span } from './query-error.ts';
import { regexFault, regexSource } from './regex.ts';
import { type Comparison, type RangeEnd, type Token, tokenize } from './tokens.ts';

type Field = Extract<Token, { kind: 'field' }>;
type Range = Extract<Token, { kind: 'range' }>;
type Value = Extract<Token, { kind: 'word' | 'phrase' | 'regex' | 'range' }>;

/** Reads a query; the grammar is in docs/search.md. @throws QueryError */
export function parseQuery(text: string): Query {
  return new Parser(text).whole();
}

class Parser {
  readonly #text: string;
  readonly #tokens: Token[];
  #at = 0;
  #depth = 0;
  #terms = 0;
  #regexes = 0;

  constructor(text: string) {
    this.#text = text;
    this.#tokens = tokenize(text);
  }

  whole(): Query {
    const query = this.#tokens.length === 1 ? everyLine : this.#or();
    if (this.#token.kind !== 'end') throw this.#unexpected('a term or the end of the query');
    return query;
  }

  #or(field?: Field): Query {
    const parts = [this.#and(field)];
    while (this.#take('OR')) parts.push(this.#and(field));
    return parts.length === 1 ? (parts[0] as Query) : { kind: 'or', parts };
  }

  #and(field?: Field): Query {
    const parts = [this.#not(field)];
    while (true) {
      const { kind } = this.#token;
      if (!this.#take('AND') && (kind === 'OR' || kind === ')' || kind === 'end')) break;
      parts.push(this.#not(field));
    }
    return parts.length === 1 ? (parts[0] as Query) : { kind: 'and', parts };
  }

  #not(field?: Field): Query {
    const { kind } = this.#token;
    if (kind !== 'NOT') return this.#term(field);
    return this.#deeper(() => ({ kind: 'not', part: this.#not(field) }));
  }

  #term(field?: Field): Query {
    const token = this.#token;
    if (token.kind === '(') {
      return this.#deeper(() => {
        const inside = this.#or(field);
        if (!this.#take(')')) throw this.#unexpected('a closing )');
        return inside;
      });
    }
    if (token.kind === 'field') {
      if (field) throw this.#unexpected(`a value for ${field.name}`);
      this.#at++;
      if (this.#token.kind === '(' && !token.comparison) return this.#term(token);
      return this.#condition(this.#value(token), token);
    }
    const value = this.#value(field);
    return field ? this.#inGroup(value, field) : this.#condition(value, undefined);
  }

  /** `status:(>=500 AND <600)`: within a field's parentheses a comparison may stand before each value. */
  #inGroup(value: Value, field: Field): Query {
    const comparison = /^[<>]=?/.exec(this.#text.slice(value.offset, value.offset + value.length))?.[0];
    if (value.kind !== 'word' || comparison === undefined) return this.#condition(value, field);
    const [first, ...rest] = value.pieces;
    const bare: Value = {
      kind: 'word',
      pieces: typeof first === 'string' ? [first.slice(comparison.length), ...rest] : value.pieces,
      offset: value.offset + comparison.length,
      length: value.length - comparison.length,
    };
    return this.#condition(bare, { ...field, comparison: comparison as Comparison });
  }

  /** Goes on past the token at hand, one level down. */
  #deeper(read: () => Query): Query {
    if (++this.#depth > queryLimits.maxDepth) {
      throw new QueryError(
        this.#token,
        `at most ${queryLimits.maxDepth} parentheses and negations inside one another`,
      );
    }
    this.#at++;
    const query = read();
    this.#depth--;
    return query;
  }

  #value(field: Field | undefined): Value {
    const token = this.#token;
    const { kind } = token;
    if (kind === 'word' || kind === 'phrase' || kind === 'regex' || kind === 'range') {
      if (++this.#terms > queryLimits.maxTerms) {
        throw new QueryError(token, `at most ${queryLimits.maxTerms} terms`);
      }
      this.#at++;
      return token;
    }
    if (!field) throw this.#unexpected('a word, a "phrase", a field or a parenthesis');
    throw this.#unexpected(`a value right behind ${field.name}${field.comparison ?? ':'}`);
  }

  #condition(value: Value, field: Field | undefined): Query {
    const { name = 'message', comparison } = field ?? {};
    if (value.kind === 'regex') this.#checkRegex(value);
    if (name === 'level') return { kind: 'levels', levels: levelsOf(value, comparison) };
    if (name === 'stream') return streamOf(value, comparison);
    const group = groupOf(name, field ?? value);
    if (group) {
      if (comparison !== undefined || value.kind === 'range') {
        throw new QueryError(value, `a value to match, as ${name} has no order`);
      }
      return { kind: 'group', group, test: testOf(value) };
    }
    const target = targetOf(name, field ?? value);
    if (comparison === undefined && value.kind !== 'range') {
      const test = testOf(value);
      if (!field && test.kind === 'exists') return everyLine;
      return { kind: 'match', target, test };
    }
    if (target.kind !== 'field') {
      const where = field && comparison !== undefined ? field : value;
      throw new QueryError(where, `a value to match, as ${name} has no order`);
    }
    const bounds =
      value.kind === 'range'
        ? rangeOf(value, comparison)
        : compared(comparison as Comparison, numberOf(value));
    return { kind: 'match', target, test: { kind: 'range', ...bounds } };
  }

  #checkRegex(value: Extract<Value, { kind: 'regex' }>): void {
    if (++this.#regexes > queryLimits.maxRegexes) {
      throw new QueryError(value, `at most ${queryLimits.maxRegexes} regular expressions`);
    }
    if (value.source.length > queryLimits.maxRegexLength) {
      throw new QueryError(value, `at most ${queryLimits.maxRegexLength} characters in a regular expression`);
    }
    const fault = regexFault(regexSource(value));
    if (fault !== undefined)
      throw new QueryError(value, `a regular expression in the syntax of RE2 (${fault})`);
  }

  get #token(): Token {
    // The last token is the end, which nothing steps over.
    return this.#tokens[this.#at] as Token;
  }

  #take(kind: Token['kind']): boolean {
    if (this.#token.kind !== kind) return false;
    this.#at++;
    return true;
  }

  #unexpected(expected: string): QueryError {
    const token = this.#token;
    const found = token.kind === 'end' && token.offset === this.#text.length ? 'the end' : undefined;
    const shown = this.#text.slice(token.offset, token.offset + Math.min(token.length, 40));
    return new QueryError(token, expected, found ?? (token.kind === 'end' ? 'a blank' : shown));
  }
}

/** `fleet` and `tag.<key>` are about the line's device, as the cloud's records have it. */
function groupOf(name: string, span: Span): DeviceGroup | undefined {
  if (name === 'fleet') return { kind: 'fleet' };
  if (!name.startsWith('tag.')) return undefined;
  const key = name.slice('tag.'.length);
  if (key === '' || key.length > queryLimits.maxFieldLength) throw new QueryError(span, 'the key of a tag');
  return { kind: 'tag', key };
}

/** `fields.level` is the line's own field of that name; `level` is the line's level. */
function targetOf(name: string, span: Span): Target {
  if (name === 'message') return { kind: 'message' };
  if ((nameColumns as readonly string[]).includes(name)) return { kind: 'name', name: name as NameColumn };
  const path = name.startsWith('fields.') ? name.slice('fields.'.length) : name;
  if (path.split('.').length > queryLimits.maxFieldDepth) {
    throw new QueryError(span, `at most ${queryLimits.maxFieldDepth} keys inside one another`);
  }
  if (path.length > queryLimits.maxFieldLength) {
    throw new QueryError(span, `at most ${queryLimits.maxFieldLength} characters in the name of a field`);
  }
  return { kind: 'field', path };
}

function testOf(value: Exclude<Value, { kind: 'range' }>): Test {
  if (value.kind === 'phrase') return { kind: 'text', text: value.text };
  if (value.kind === 'regex') {
    return { kind: 'regex', source: value.source, ignoreCase: value.ignoreCase };
  }
  const { pieces } = value;
  if (pieces.length === 1 && isAny(pieces[0])) return { kind: 'exists' };
  return pieces.every((piece) => typeof piece === 'string')
    ? { kind: 'text', text: pieces.join('') }
    : { kind: 'wildcard', pieces };
}

function isAny(piece: Piece | undefined): boolean {
  return typeof piece === 'object' && 'any' in piece;
}

/** A value that was written as plain text; `undefined` for anything with a meaning of its own. */
function plainText(value: Value): string | undefined {
  if (value.kind === 'phrase') return value.text;
  if (value.kind !== 'word') return undefined;
  return value.pieces.every((piece) => typeof piece === 'string') ? value.pieces.join('') : undefined;
}

const levelForms = `a level (${levels.join(', ')})`;

function levelsOf(value: Value, comparison: Comparison | undefined): Level[] {
  if (value.kind === 'range') {
    if (comparison) throw new QueryError(value, levelForms);
    const rank = (end: RangeEnd, open: number) =>
      end.text === undefined ? open : levelRank(oneLevel(end.text, end));
    const from = rank(value.from, -1);
    const to = rank(value.to, levels.length);
    return levels.filter((level) => {
      const at = levelRank(level);
      return (value.fromInclusive ? at >= from : at > from) && (value.toInclusive ? at <= to : at < to);
    });
  }
  const text = plainText(value);
  if (comparison !== undefined) {
    const bound = levelRank(oneLevel(text, value));
    const { from, to } = compared(comparison, bound);
    return levels.filter((level) => isWithin(levelRank(level), from, to));
  }
  if (value.kind === 'word' && value.pieces.length === 1 && isAny(value.pieces[0])) return [...levels];
  const chosen = text === undefined ? undefined : parseLevelFilter(text);
  if (!chosen) throw new QueryError(value, levelForms);
  return chosen;
}

function oneLevel(text: string | undefined, span: Span): Level {
  const level = text === undefined ? undefined : parseLevel(text);
  if (!isLevel(level)) throw new QueryError(span, levelForms);
  return level;
}

function streamOf(value: Value, comparison: Comparison | undefined): Query {
  const text = plainText(value);
  if (comparison !== undefined || (text !== 'stdout' && text !== 'stderr')) {
    throw new QueryError(value, 'stdout or stderr');
  }
  return { kind: 'stderr', isStdErr: text === 'stderr' };
}

function rangeOf(value: Range, comparison: Comparison | undefined): { from?: Bound; to?: Bound } {
  if (comparison) throw new QueryError(value, 'a number');
  const { from, to, fromInclusive, toInclusive } = value;
  return {
    ...(from.text !== undefined && { from: { value: toNumber(from.text, from), inclusive: fromInclusive } }),
    ...(to.text !== undefined && { to: { value: toNumber(to.text, to), inclusive: toInclusive } }),
  };
}

function compared(comparison: Comparison, value: number): { from?: Bound; to?: Bound } {
  const bound = { value, inclusive: comparison.endsWith('=') };
  return comparison.startsWith('>') ? { from: bound } : { to: bound };
}

export function isWithin(value: number, from: Bound | undefined, to: Bound | undefined): boolean {
  if (from && !(from.inclusive ? value >= from.value : value > from.value)) return false;
  return !to || (to.inclusive ? value <= to.value : value < to.value);
}

function numberOf(value: Value): number {
  return toNumber(plainText(value), value);
}

const numberForm = /^[-+]?[0-9]{1,40}(\.[0-9]{1,40})?([eE][-+]?[0-9]{1,3})?$/;

function toNumber(text: string | undefined, span: Span): number {
  const number = text !== undefined && numberForm.test(text) ? Number(text) : Number.NaN;
  if (!Number.isFinite(number)) throw new QueryError(span, 'a number');
  return number;
}
