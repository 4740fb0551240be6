import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { slotCount } from '../records/peer-table.ts';

/** The slot of a device. */
export function slotOf(device: string): number {
  return crc32(device) % slotCount;
}

/**
 * Which of some processes a slot belongs to: the one of the highest rank (rendezvous hashing). When one comes or
 * goes, only its own slots change hands.
 */
export class Share {
  readonly #ranks = new Map<string, Uint32Array>();

  of(slot: number, urls: readonly string[]): string | undefined {
    let best: string | undefined;
    let highest = -1;
    for (const url of urls) {
      const rank = this.#ranksOf(url)[slot] as number;
      if (rank > highest) {
        best = url;
        highest = rank;
      }
    }
    return best;
  }

  #ranksOf(url: string): Uint32Array {
    let ranks = this.#ranks.get(url);
    if (!ranks) {
      ranks = Uint32Array.from({ length: slotCount }, (_, slot) =>
        createHash('sha1').update(`${url} ${slot}`).digest().readUInt32BE(),
      );
      this.#ranks.set(url, ranks);
    }
    return ranks;
  }
}
