import { createRequire } from 'node:module';
import { errorText, MillraceError } from '@millrace/wire';
import type { RE2JS } from 're2js';

/** A pattern that somebody wrote. It takes time in proportion to the text and to its steps, of which it has few. */
export interface Pattern {
  readonly source: string;
  matches(text: string): boolean;
  replace(text: string, replacement: string): string;
}

const maxPatternChars = 1000;
/**
 * Steps of a pattern with its counted repetitions written out. At worst all are tried at each character, which takes about
 * a millisecond for one step and 64 KB on a desktop's processor: `.{1000}` again and again would be minutes for a line.
 */
const maxPatternSteps = 1000;
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
  const steps = compiled.programSize();
  if (steps > maxPatternSteps) {
    throw new MillraceError(
      'OPTION_INVALID',
      `a pattern of ${steps} steps with its repetitions written out: ${maxPatternSteps} are allowed (use + or * for high counts)`,
    );
  }
  return {
    source,
    matches: (text) => compiled.test(text),
    // Looking first costs a tenth of replacing nothing.
    replace: (text, replacement) =>
      compiled.test(text) ? compiled.matcher(text).replaceAll(() => replacement) : text,
  };
}
