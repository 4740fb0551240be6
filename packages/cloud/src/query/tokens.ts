import type { Piece } from './ast.ts';
import { queryLimits } from './limits.ts';
import { QueryError, type Span } from './query-error.ts';

export type Comparison = '>' | '>=' | '<' | '<=';

/** One end of a range as it was written; `undefined` for `*`, which has no bound. */
export interface RangeEnd extends Span {
  text: string | undefined;
}

export type Token = Span &
  (
    | { kind: '(' | ')' | 'AND' | 'OR' | 'NOT' | 'end' }
    /** A name and the colon or comparison behind it; a term follows at once. */
    | { kind: 'field'; name: string; comparison: Comparison | undefined }
    | { kind: 'word'; pieces: readonly Piece[] }
    /** Between double quotes: nothing in it has a meaning. */
    | { kind: 'phrase'; text: string }
    | { kind: 'regex'; source: string; ignoreCase: boolean }
    | { kind: 'range'; from: RangeEnd; to: RangeEnd; fromInclusive: boolean; toInclusive: boolean }
  );

const space = /\s+/uy;
const operator = /(AND|OR|NOT)(?=[\s()]|$)/uy;
const name = String.raw`((?:[\p{L}_@$]|\\.)(?:(?:[\p{L}\p{N}_@$./-]|\\.)*(?:[\p{L}\p{N}_@$]|\\.))?)`;
/** Not before `//` and `::`: in addresses and in C++ the colon belongs to the text. */
const fieldColon = new RegExp(`${name}:(?!:|//)(>=|<=|>|<)?`, 'uy');
/** Without a colon only where a number follows, or the name is `level`: text is full of `->` and `<b>`. */
const fieldCompared = new RegExp(`${name}(>=|<=|>|<)(?=-?[0-9])|(level)(>=|<=|>|<)`, 'uy');
/** `main()` and `f(x)` are words: parentheses that open inside a word and close before it ends. */
const call = /\([^\s()"]*\)/uy;
const endOfTerm = /[\s)]|$/uy;
const rangeEnd = /\s*(?:"((?:[^"\\]|\\.)*)"|([^\s\]}"]+))/uy;

/**
 * Takes a query apart. Anything is a word that is not something else: log lines are full of punctuation, and
 * what is pasted from one should be found.
 *
 * @throws QueryError for a quote, a range or an escape that does not end
 */
export function tokenize(text: string): Token[] {
  if (text.length > queryLimits.maxLength) {
    throw new QueryError(
      { offset: queryLimits.maxLength, length: text.length - queryLimits.maxLength },
      `at most ${queryLimits.maxLength} characters`,
    );
  }
  const tokens: Token[] = [];
  let at = 0;
  let afterField = false;
  while (true) {
    const blank = matchAt(space, text, at);
    if (blank) {
      if (afterField) break;
      at += blank[0].length;
    }
    if (at >= text.length) break;
    const token = next(text, at, afterField);
    tokens.push(token);
    at += token.length;
    afterField = token.kind === 'field';
  }
  // Behind a field's colon the value is missing where the blank begins, not where the query ends.
  tokens.push({ kind: 'end', offset: at, length: 0 });
  return tokens;
}

function next(text: string, offset: number, afterField: boolean): Token {
  const char = text[offset];
  if (char === '(' || char === ')') return { kind: char, offset, length: 1 };
  if (char === '"') return phrase(text, offset);
  if (char === '/') {
    const regex = regexAt(text, offset);
    if (regex) return regex;
  }
  if (afterField) return char === '[' || char === '{' ? range(text, offset) : word(text, offset);
  if (char === '-' && /[^\s\-)]/.test(text[offset + 1] ?? ' ')) return { kind: 'NOT', offset, length: 1 };
  const reserved = matchAt(operator, text, offset);
  if (reserved) return { kind: reserved[1] as 'AND' | 'OR' | 'NOT', offset, length: reserved[0].length };
  const field = matchAt(fieldCompared, text, offset) ?? matchAt(fieldColon, text, offset);
  if (field) {
    const [whole, first, comparison, level, levelComparison] = field;
    return {
      kind: 'field',
      name: (level ?? (first as string)).replace(/\\(.)/gu, '$1'),
      comparison: (levelComparison ?? comparison) as Comparison | undefined,
      offset,
      length: whole.length,
    };
  }
  return word(text, offset);
}

function phrase(text: string, offset: number): Token {
  const match = matchAt(/"((?:[^"\\]|\\[\s\S])*)"/uy, text, offset);
  if (!match) {
    throw new QueryError({ offset, length: text.length - offset }, 'a closing " to this quote', 'the end');
  }
  return { kind: 'phrase', text: unescapeQuoted(match[1] as string), offset, length: match[0].length };
}

/** Only a quote and a backslash need an escape; before anything else a backslash is itself. */
function unescapeQuoted(text: string): string {
  return text.replace(/\\(["\\])/g, '$1');
}

/** A `/` that nothing closes before a blank or the end of the term is part of a path, and so of a word. */
function regexAt(text: string, offset: number): Token | undefined {
  const match = matchAt(/\/((?:[^/\\]|\\[\s\S])+)\/(i?)/uy, text, offset);
  if (!match || !matchAt(endOfTerm, text, offset + match[0].length)) return undefined;
  const source = (match[1] as string).replaceAll('\\/', '/');
  return { kind: 'regex', source, ignoreCase: match[2] === 'i', offset, length: match[0].length };
}

/** `[500 TO 599]`, `{0 TO *]`: brackets include their end, braces leave it out. */
function range(text: string, offset: number): Token {
  let at = offset + 1;
  const end = (): RangeEnd => {
    const match = matchAt(rangeEnd, text, at);
    if (!match) throw new QueryError({ offset: at, length: 0 }, 'a range such as [1 TO 5]');
    const start = at + match[0].length - match[0].trimStart().length;
    at += match[0].length;
    const [, quoted, bare] = match;
    const value = quoted === undefined ? bare : unescapeQuoted(quoted);
    return { text: bare === '*' ? undefined : value, offset: start, length: at - start };
  };
  const from = end();
  const between = matchAt(/\s+TO(?=\s)/uy, text, at);
  if (!between) throw new QueryError({ offset: at, length: 0 }, 'TO, as in [1 TO 5]');
  at += between[0].length;
  const to = end();
  const closing = matchAt(/\s*([\]}])/uy, text, at);
  if (!closing) throw new QueryError({ offset: at, length: 0 }, 'a closing ] or } to this range');
  at += closing[0].length;
  return {
    kind: 'range',
    from,
    to,
    fromInclusive: text[offset] === '[',
    toInclusive: closing[1] === ']',
    offset,
    length: at - offset,
  };
}

function word(text: string, offset: number): Token {
  const pieces: Piece[] = [];
  let wildcards = 0;
  let literal = '';
  let at = offset;
  const wildcard = (piece: Piece) => {
    if (literal !== '') pieces.push(literal);
    literal = '';
    pieces.push(piece);
    wildcards++;
  };
  while (at < text.length) {
    const char = text[at] as string;
    if (/\s/u.test(char) || char === ')') break;
    if (char === '(') {
      const closed = at > offset ? matchAt(call, text, at) : undefined;
      if (!closed) break;
      literal += closed[0];
      at += closed[0].length;
    } else if (char === '\\' && at + 1 < text.length && !/\s/u.test(text[at + 1] as string)) {
      const escaped = String.fromCodePoint(text.codePointAt(at + 1) as number);
      literal += escaped;
      at += 1 + escaped.length;
    } else {
      if (char === '?') wildcard({ one: true });
      else if (char !== '*') literal += char;
      // A run of stars says what one says.
      else if (text[at - 1] !== '*' || at === offset || literal !== '') wildcard({ any: true });
      at++;
    }
  }
  if (literal !== '') pieces.push(literal);
  const span = { offset, length: at - offset };
  if (wildcards > queryLimits.maxWildcards) {
    throw new QueryError(span, `at most ${queryLimits.maxWildcards} wildcards in a word`);
  }
  return { kind: 'word', pieces, ...span };
}

function matchAt(pattern: RegExp, text: string, at: number): RegExpExecArray | undefined {
  pattern.lastIndex = at;
  return pattern.exec(text) ?? undefined;
}
