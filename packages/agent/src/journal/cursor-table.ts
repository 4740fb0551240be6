import type { CursorSource } from './batch-reader.ts';
import { JournalCursor } from './cursor.ts';
import type { Recovered } from './recovery.ts';
import { linePosition, splitPosition } from './segment.ts';

/** The journal's readers by name, and their places as they are saved: journal id and seq. */
export class CursorTable {
  readonly #open = new Map<string, JournalCursor>();
  /** Places of all readers ever seen, those included that are not in use now. */
  readonly #saved: Map<string, number>;
  readonly #journals = new Map<number, string>();

  constructor(found: Recovered | undefined, current: { epoch: number; journal: string }) {
    this.#saved = found?.cursors ?? new Map();
    for (const { epoch, journal } of found?.segments ?? []) this.#journals.set(epoch, journal);
    this.#journals.set(current.epoch, current.journal);
  }

  /** The reader of that name, made at first use. */
  get(name: string, source: () => CursorSource): JournalCursor {
    let cursor = this.#open.get(name);
    if (!cursor) {
      cursor = new JournalCursor({ start: this.#saved.get(name), source: source() });
      this.#open.set(name, cursor);
    }
    return cursor;
  }

  /** A journal id that begins now. */
  add(epoch: number, journal: string): void {
    this.#journals.set(epoch, journal);
  }

  /** The place of the reader that is furthest behind; `undefined` when none is in use. */
  slowest(): number | undefined {
    let slowest: number | undefined;
    for (const { ackedPosition } of this.#open.values())
      slowest = Math.min(slowest ?? ackedPosition, ackedPosition);
    return slowest;
  }

  /** What a member's header saves. */
  state(): Record<string, [journal: string, seq: number]> {
    for (const [name, cursor] of this.#open) this.#saved.set(name, cursor.ackedPosition);
    const state: Record<string, [string, number]> = {};
    for (const [name, position] of this.#saved) {
      const { epoch, seq } = splitPosition(position);
      const journal = this.#journals.get(epoch);
      if (journal) state[name] = [journal, seq];
    }
    return state;
  }

  /** Line position of a seq; `undefined` for a journal that is not of this folder. */
  positionOf(journal: string, seq: number): number | undefined {
    for (const [epoch, id] of this.#journals) if (id === journal) return linePosition(epoch, seq);
    return undefined;
  }
}
