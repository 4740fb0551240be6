export interface BackoffOptions {
  /** Ceiling of the first pause, in ms. Default 500. */
  minMs?: number;
  /** Ceiling of every later pause, in ms. Default 60 000. */
  maxMs?: number;
}

/**
 * Pauses between attempts: exponential, with full jitter (a random share of the ceiling), so that a fleet that
 * lost its cloud at the same moment does not come back at the same moment.
 */
export class Backoff {
  readonly #minMs: number;
  readonly #maxMs: number;
  #failures = 0;

  constructor(options: BackoffOptions = {}) {
    this.#minMs = options.minMs ?? 500;
    this.#maxMs = Math.max(this.#minMs, options.maxMs ?? 60_000);
  }

  /** The pause before the next attempt, in ms. */
  nextMs(): number {
    // Beyond 2^30 the ceiling has long been reached.
    const ceiling = Math.min(this.#maxMs, this.#minMs * 2 ** Math.min(this.#failures++, 30));
    return Math.random() * ceiling;
  }

  /** The far end made progress: the next failure is a first one again. */
  reset(): void {
    this.#failures = 0;
  }
}
