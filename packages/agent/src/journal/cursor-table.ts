import type { CursorSource } from './batch-reader.ts';
import { JournalCursor } from './cursor.ts';
import type { Recovered } from './recovery.ts';
import { linePosition, splitPosition } from './segment.ts';

/** The journal's readers by name, and their places as they are saved: journal id and seq. */
export class CursorTable {
  readonly #open = new Map<string, JournalCursor>();
  /** Places of all readers ever seen, those included that are not in use now. */
  readonly #saved: Map<string, number>;
  readonly #onDisk: Map<string, number>;
  readonly #journals = new Map<number, string>();

  constructor(found: Recovered | undefined, current: { epoch: number; journal: string }) {
    this.#saved = found?.cursors ?? new Map();
    this.#onDisk = new Map(this.#saved);
    for (const { epoch, journal } of found?.segments ?? []) this.#journals.set(epoch, journal);
    this.#journals.set(current.epoch, current.journal);
  }

  /** The reader of that name, made at first use. */
  get(name: string, source: () => CursorSource): JournalCursor {
    let cursor = this.#open.get(name);
    if (!cursor) {
      cursor = new JournalCursor({ start: this.#saved.get(name), source: source() });
      this.#open.set(name, cursor);
      if (!this.#onDisk.has(name)) this.#onDisk.set(name, cursor.ackedPosition);
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

  /** A member that says this is on disk. */
  noteSaved(cursors: Record<string, [journal: string, seq: number]>): void {
    for (const [name, [journal, seq]] of Object.entries(cursors)) {
      this.#onDisk.set(name, this.positionOf(journal, seq) ?? 0);
    }
  }

  /** The same as {@link slowest}, as far as a restart would know it. */
  slowestSaved(): number | undefined {
    let slowest: number | undefined;
    for (const name of this.#open.keys()) {
      slowest = Math.min(slowest ?? Number.POSITIVE_INFINITY, this.#onDisk.get(name) ?? 0);
    }
    return slowest;
  }

  /** Puts on record what readers have lost for good so far. */
  settle(): void {
    for (const cursor of this.#open.values()) cursor.settle();
  }

  /** What a member's header saves. */
  state(): Record<string, [journal: string, seq: number]> {
    for (const [name, cursor] of this.#open) this.#saved.set(name, cursor.savedPosition);
    return this.#named(this.#saved);
  }

  /**
   * What a segment's snapshot repeats: what is on disk already. A place that is further may be known only together
   * with a loss record that is still on its way there.
   */
  stateOnDisk(): Record<string, [journal: string, seq: number]> {
    return this.#named(this.#onDisk);
  }

  #named(places: ReadonlyMap<string, number>): Record<string, [journal: string, seq: number]> {
    const state: Record<string, [string, number]> = {};
    for (const [name, position] of places) {
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
