import type { Overlap } from '@millrace/wire';
import type { JournalPart } from '../store/repeats.ts';

/** Lines of another journal that some lines of this one may be the same as. */
export interface Counterpart {
  /** The seq from which on this journal is concerned. */
  ownFrom: number;
  other: JournalPart;
}

/**
 * Which journals of a device may hold the same lines, by what the device said. A journal that names `[Y, f]` was
 * read from the place at which Y's line f had been read before: it may repeat Y's lines from f on, and holds none
 * of those before. It names all from which it descends that may still matter, so the lines before these places
 * and its own are all different lines.
 */
export class Relations {
  /** By the journal that named them, in the order of being told. */
  readonly #named = new Map<string, readonly Overlap[]>();
  readonly #most: number;

  /** @param most journals remembered; those told of first are forgotten first */
  constructor(most: number) {
    this.#most = most;
  }

  has(journal: string): boolean {
    return this.#named.has(journal);
  }

  add(journal: string, overlaps: readonly Overlap[]): void {
    this.#named.set(journal, overlaps);
    if (this.#named.size <= this.#most) return;
    for (const oldest of this.#named.keys()) {
      this.#named.delete(oldest);
      return;
    }
  }

  /** Every journal that has named others, or was named. */
  journals(): string[] {
    return [
      ...new Set([...this.#named].flatMap(([journal, named]) => [journal, ...named.map(([name]) => name)])),
    ];
  }

  /**
   * The lines that lines of `journal` may repeat, or that may repeat them: those that it named; those of journals
   * that named it, since either copy may arrive first; and those of journals that descend from the same place
   * without knowing of it: of two processes that died while the disk failed, neither could leave word for the other.
   */
  of(journal: string): Counterpart[] {
    const out: Counterpart[] = [];
    const named = this.#named.get(journal) ?? [];
    for (const [other, from] of named) {
      if (other !== journal) out.push({ ownFrom: 1, other: { journal: other, from } });
    }
    const known = new Set([journal, ...named.map(([other]) => other)]);
    for (const [other, theirs] of this.#named) {
      if (known.has(other)) continue;
      const mine = theirs.find(([name]) => name === journal);
      if (mine) out.push({ ownFrom: mine[1], other: { journal: other, from: 1 } });
      else if (theirs.some(([name]) => known.has(name))) {
        out.push({ ownFrom: 1, other: { journal: other, from: 1 } });
      }
    }
    return out;
  }

  /** Counts lines that all have the same content. */
  count(): Copies {
    return new Copies(this.#named);
  }
}

/** Lines of a device that have the same content, in all journals. */
export class Copies {
  /** By journal: its lines, and those before the places from which it was read on from others. */
  readonly #different = new Map<string, number>();
  readonly #named: ReadonlyMap<string, readonly Overlap[]>;
  stored = 0;
  /** How many different lines they must be at least. */
  distinct = 0;

  constructor(named: ReadonlyMap<string, readonly Overlap[]>) {
    this.#named = named;
  }

  add({ journal, seq }: { journal: string; seq: number }): void {
    this.#more(journal);
    for (const [other, named] of this.#named) {
      if (other !== journal && named.some(([name, from]) => name === journal && seq < from))
        this.#more(other);
    }
  }

  #more(journal: string): void {
    const different = (this.#different.get(journal) ?? 0) + 1;
    this.#different.set(journal, different);
    this.distinct = Math.max(this.distinct, different);
  }
}
