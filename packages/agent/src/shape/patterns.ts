import { createRequire } from 'node:module';
import { errorText, MillraceError } from '@millrace/wire';
import type { RE2JS } from 're2js';

/** A pattern that somebody wrote. It takes time in proportion to the text, whatever the pattern is. */
export interface Pattern {
  readonly source: string;
  matches(text: string): boolean;
  replace(text: string, replacement: string): string;
}

const maxPatternChars = 1000;
let engine: typeof RE2JS | undefined;

/**
 * Compiles a pattern in RE2's syntax: that of other engines without lookaround and backreferences, which is what
 * can make them take for ever. `(?i)` in front ignores case.
 *
 * @throws MillraceError `OPTION_INVALID` with the reason
 */
export function compilePattern(source: string): Pattern {
  if (source.length > maxPatternChars) {
    throw new MillraceError('OPTION_INVALID', `a pattern of more than ${maxPatternChars} characters`);
  }
  // Six megabytes that only those pay who have patterns.
  engine ??= (createRequire(import.meta.url)('re2js') as { RE2JS: typeof RE2JS }).RE2JS;
  let compiled: RE2JS;
  try {
    compiled = engine.compile(source);
  } catch (cause) {
    throw new MillraceError('OPTION_INVALID', errorText(cause), { cause });
  }
  return {
    source,
    matches: (text) => compiled.test(text),
    // Looking first costs a tenth of replacing nothing.
    replace: (text, replacement) =>
      compiled.test(text) ? compiled.matcher(text).replaceAll(() => replacement) : text,
  };
}
