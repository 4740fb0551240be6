import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
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
  const path = join(folder, 'agent.mjs');
  try {
    const builtMs = statSync(path).mtimeMs;
    const inputs = JSON.parse(readFileSync(join(folder, 'agent.inputs.json'), 'utf8'));
    return inputs.every((input) => statSync(join(folder, input)).mtimeMs <= builtMs) ? path : undefined;
  } catch {
    // Not built, or a source is gone.
    return undefined;
  }
}
