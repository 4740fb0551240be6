import { createHash } from 'node:crypto';

const maxKept = 1000;

/**
 * Searches of which the newest lines had nothing, the last ones of them. Who asks for such a one again, or for its next
 * page, need not be told so again: all is read at once. A hint, and wrong for one search when the lines begin to come.
 */
export class RareSearches {
  /** Hashes of their conditions: those may be long. */
  readonly #kept = new Set<string>();

  isKnown(conditions: readonly string[]): boolean {
    return this.#kept.has(keyOf(conditions));
  }

  note(conditions: readonly string[], isRare: boolean): void {
    const key = keyOf(conditions);
    this.#kept.delete(key);
    if (!isRare) return;
    this.#kept.add(key);
    const [oldest] = this.#kept;
    if (this.#kept.size > maxKept && oldest !== undefined) this.#kept.delete(oldest);
  }
}

function keyOf(conditions: readonly string[]): string {
  return createHash('sha1').update(conditions.join('\n')).digest('base64');
}
