import { readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const dist = fileURLToPath(new URL('../dist/', import.meta.url));

/**
 * The path of the agent's bundle (scripts/build.mjs), or `undefined` when there is none or a source has changed
 * since: the sources are always right.
 *
 * @param {string} [folder] where the bundle lies
 * @returns {string | undefined}
 */
export function freshBundle(folder = dist) {
  const path = join(folder, 'agent.cjs');
  try {
    const builtMs = statSync(path).mtimeMs;
    const inputs = JSON.parse(readFileSync(join(folder, 'agent.inputs.json'), 'utf8'));
    return inputs.every((input) => statSync(join(folder, input)).mtimeMs <= builtMs) ? path : undefined;
  } catch {
    // Not built, or a source is gone.
    return undefined;
  }
}

/**
 * Where what V8 has made of a bundle is kept. Read from there it takes 10 MB less than when its text is parsed anew,
 * memory that a process does not get rid of again. Node checks that it fits its version, its flags and the text, and
 * does without where it does not.
 *
 * @param {string} bundle its path
 */
export function compiledFolder(bundle) {
  return join(dirname(bundle), 'compiled');
}
