import type { StoredLine } from '@millrace/wire';

const linesPerEntry = 32;
const maxEntries = 200_000;

/**
 * Remembers lines that were shown, so that none is shown twice. Numbered lines of a journal that follow one another share
 * an entry, so what comes in a flood (and is fetched afterwards, since nobody can read that fast) is remembered
 * by millions; of single lines here and there, the newest 200 000 are.
 */
export class KnownLines {
  /** By device, journal and the seq without its last five bits: a bit for each of these. */
  readonly #entries = new Map<string, number>();

  /** True when the line is new. */
  add(line: StoredLine): boolean {
    const { key, bit } = placeOf(line);
    const bits = this.#entries.get(key) ?? 0;
    if ((bits & bit) !== 0) return false;
    this.#entries.set(key, bits | bit);
    if (this.#entries.size > maxEntries) {
      const [oldest] = this.#entries.keys();
      this.#entries.delete(oldest as string);
    }
    return true;
  }
}

function placeOf({ id, device, timestamp, message }: StoredLine): { key: string; bit: number } {
  const dash = id.lastIndexOf('-');
  const seq = dash < 0 ? Number.NaN : Number(id.slice(dash + 1));
  if (!Number.isSafeInteger(seq) || seq < 0) {
    return { key: `${device} ${id || `${timestamp} ${message}`}`, bit: 1 };
  }
  const entry = Math.floor(seq / linesPerEntry);
  return { key: `${device} ${id.slice(0, dash)} ${entry}`, bit: 1 << (seq % linesPerEntry) };
}
