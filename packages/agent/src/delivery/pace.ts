/** A parcel on the wire, and what had been taken when it left. */
export interface PacedParcel {
  readonly bytes: number;
  readonly sentAtMs: number;
  readonly takenBefore: number;
}

// What a fresh line may have to wait for behind a backlog, beyond the way itself.
const queueMs = 250;
const minBytes = 16 * 1024;
const maxBytes = 4 * 1024 * 1024;
// How slowly the bound forgets a better moment.
const decay = 0.9;

/**
 * Bounds the bytes of a backlog on a wire that it shares with fresh lines: to about what the far end takes in a
 * quarter of a second, and the way there. More would only lie in buffers, in front of everything that comes later.
 *
 * Measured as BBR does (Cardwell et al., 2016): each confirmation says how many bytes were taken since its parcel
 * was sent, and in what time. A wire that has more to give shows it by taking all at once: then the bound grows.
 */
export class Pace {
  #maxBytes = minBytes;
  #bytes = 0;
  #taken = 0;
  #shortestMs = Number.POSITIVE_INFINITY;

  get full(): boolean {
    return this.#bytes >= this.#maxBytes;
  }

  get maxBytes(): number {
    return this.#maxBytes;
  }

  sent(bytes: number): PacedParcel {
    this.#bytes += bytes;
    return { bytes, sentAtMs: performance.now(), takenBefore: this.#taken };
  }

  /** Call once for each parcel. */
  taken({ bytes, sentAtMs, takenBefore }: PacedParcel): void {
    // Confirmations of one packet come in the same moment.
    const ms = Math.max(0.1, performance.now() - sentAtMs);
    this.#bytes -= bytes;
    this.#taken += bytes;
    this.#shortestMs = Math.min(this.#shortestMs, ms);
    const rate = (this.#taken - takenBefore) / ms;
    const wanted = Math.max(rate * (queueMs + this.#shortestMs), this.#maxBytes * decay);
    this.#maxBytes = Math.min(maxBytes, Math.max(minBytes, wanted));
  }
}
