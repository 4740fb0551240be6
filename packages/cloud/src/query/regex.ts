import { RE2JS, RE2JSException } from 're2js';
import type { Piece } from './ast.ts';

/**
 * Regular expressions in the syntax of RE2. ClickHouse runs them with RE2 itself, the live tail with a port of it:
 * the same syntax, and time that grows with the text alone, so that no expression can hold up the lines of others.
 * As in ClickHouse a dot stands for a newline, too.
 */
export function compileRegex(source: string): (text: string) => boolean {
  const regex = RE2JS.compile(source, RE2JS.DOTALL);
  return (text) => regex.test(text);
}

/** The pattern as both engines get it. */
export function regexSource({ source, ignoreCase }: { source: string; ignoreCase: boolean }): string {
  return ignoreCase ? `(?i)${source}` : source;
}

/** What is wrong with an expression; `undefined` when both engines take it. */
export function regexFault(source: string): string | undefined {
  if (maxExpansion(source) > maxExpandedSize) return 'repetitions that multiply to less';
  try {
    RE2JS.compile(source, RE2JS.DOTALL);
    return undefined;
  } catch (error) {
    if (!(error instanceof RE2JSException)) throw error;
    return error.message.replace(/^error parsing regexp: /, '').replace(/: `.*$/s, '');
  }
}

/** RE2 refuses more than this; and it bounds the memory that compiling takes. */
const maxExpandedSize = 1000;

/**
 * An upper bound to the size of an expression whose counted repetitions are written out: parts add up, a count
 * multiplies what is before it. Escapes and classes are not understood, only stepped over: it may be too high.
 */
function maxExpansion(source: string): number {
  const outer: { sum: number; last: number }[] = [];
  let sum = 0;
  let last = 0;
  const part = /\\.|\[\]?(?:\\.|[^\]])*\]?|\{(\d+)(?:,(\d*))?\}|[\s\S]/gu;
  for (const [text, least, most] of source.matchAll(part)) {
    if (least !== undefined) {
      const count = Math.max(Number(least), Number(most ?? 0), 1);
      sum += last * (count - 1);
      last *= count;
    } else if (text === '(') {
      outer.push({ sum, last });
      sum = 0;
      last = 0;
    } else if (text === ')') {
      const before = outer.pop();
      last = sum;
      sum += before?.sum ?? 0;
    } else {
      sum += 1;
      last = 1;
    }
  }
  for (const { sum: before } of outer) sum += before;
  return sum;
}

/**
 * Texts that every match of the expression must hold, in lower case of A–Z: what an index can be asked for before the
 * expression is run. Few, and none where that is hard to tell.
 */
export function requiredTexts(source: string, ignoreCase: boolean): string[] {
  if (/\\[QExpP0-7CG]|\(\?|\[\[/.test(source)) return [];
  const found: string[] = [];
  let run = '';
  let depth = 0;
  const end = () => {
    found.push(run);
    run = '';
  };
  // Folding case, K is also the Kelvin sign, and S the long s of old prints.
  const plain = ignoreCase ? /^[a-jl-rt-z0-9]$/i : /^[a-z0-9]$/i;
  const part = /\\.|\[\^?\]?(?:\\.|[^\]])*\]|\{\d*,?\d*\}|[\s\S]/gu;
  for (const [text] of source.matchAll(part)) {
    if (text === '|' && depth === 0) return [];
    if (text === '(' || text === ')') {
      depth += text === '(' ? 1 : -1;
      end();
    } else if (/^[*?{]/.test(text)) {
      // What is before it may occur no time at all.
      run = run.slice(0, -1);
      end();
    } else if (depth === 0 && plain.test(text)) run += text.toLowerCase();
    else end();
  }
  end();
  return found.filter((text) => text.length > 1);
}

/** A wildcard pattern as an expression over a whole value, where `*` and `?` stand for anything. */
export function wholeValueRegex(pieces: readonly Piece[]): string {
  const parts = pieces.map((piece) =>
    typeof piece === 'string' ? quote(piece) : 'any' in piece ? '.*' : '.',
  );
  return `^(?s:${parts.join('')})$`;
}

const inWord = '0-9a-z\\x{80}-\\x{10ffff}';

/**
 * A wildcard pattern as an expression over a message in lower case. `*` and `?` stand for anything but blanks; where
 * the pattern begins or ends with a letter or digit, so does a word, as the text index knows words.
 */
export function messageRegex(pieces: readonly Piece[]): string {
  const parts = pieces.map((piece) => {
    if (typeof piece === 'string') return quote(piece);
    return 'any' in piece ? '[^ \\t\\n\\f\\r]*' : '[^ \\t\\n\\f\\r]';
  });
  const first = pieces[0];
  const last = pieces.at(-1);
  const startsWord = typeof first === 'string' && wordChar.test(first.slice(0, 2));
  const endsWord = typeof last === 'string' && new RegExp(`${wordChar.source.slice(1)}$`, 'u').test(last);
  return `${startsWord ? `(?:^|[^${inWord}])` : ''}${parts.join('')}${endsWord ? `(?:$|[^${inWord}])` : ''}`;
}

const wordChar = /^[0-9a-z\u{80}-\u{10ffff}]/u;

function quote(text: string): string {
  return text.replace(/[\\^$.|?*+()[\]{}]/g, '\\$&');
}
