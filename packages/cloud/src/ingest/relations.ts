import type { Overlap } from '@millrace/wire';
import type { JournalPart, ReceivedLine } from '../store/repeats.ts';

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

  /** How many different lines these must be, all of which have the same content; they may be more. */
  distinct(lines: readonly ReceivedLine[]): number {
    let most = 0;
    for (const journal of new Set([...this.#named.keys(), ...lines.map((line) => line.journal)])) {
      const before = new Map((this.#named.get(journal) ?? []).filter(([name]) => name !== journal));
      const different = lines.filter(
        (line) => line.journal === journal || line.seq < (before.get(line.journal) ?? 0),
      );
      most = Math.max(most, different.length);
    }
    return most;
  }
}
