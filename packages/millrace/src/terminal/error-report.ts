import { errorCatalogue, errorText, MillraceError } from '@millrace/wire';
import { painter, wantsColour } from './colours.ts';
import { harmless } from './harmless.ts';

/**
 * An error as a person at a terminal reads it: what it is, what happened, what to do. Ours need no stack; an
 * error that nobody foresaw keeps it, since someone has to find it.
 */
export function errorReport(
  error: unknown,
  stream: { isTTY?: boolean },
  env: Record<string, string | undefined> = process.env,
): string {
  const paint = painter(wantsColour(stream, env));
  if (error instanceof MillraceError) {
    const title = `${errorCatalogue[error.code].title} (${error.code})`;
    // Several wrong settings come in one detail; one below the other they can be read.
    const details = error.detail.split(' | ').map((detail) => `  ${harmless(detail)}`);
    return `${paint('red', 'millrace:')} ${paint('bold', title)}\n${details.join('\n')}\n  ${harmless(error.action)}\n`;
  }
  const trace = error instanceof Error && error.stack ? error.stack : errorText(error);
  return `${paint('red', 'millrace:')} ${trace}\n`;
}
