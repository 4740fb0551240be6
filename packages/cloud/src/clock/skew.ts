/** How far a clock is off is looked for anew in each window; two of them are held. */
const windowMs = 300_000;
/** Batches that agree on the skew must be this far apart, and agree so closely. */
const apartMs = 1000;
const agreementMs = 1000;
const maxDevices = 20_000;

interface Measured {
  /** The smallest seen in this window and in the one before. */
  smallest: number;
  smallestBefore: number;
  windowStartMs: number;
  /** A skew that awaits a second batch to agree with it, and when it came up. */
  candidate: number;
  candidateMs: number;
  /** What two batches agreed on. */
  confirmed: number | null;
}

/**
 * How far each device's clock is behind this machine's, from the times at which batches were sealed and received.
 * A batch is received later than it was sealed, never earlier: so the smallest difference in a window is the best.
 *
 * While a device sends what it gathered in an outage, every batch is old, and each less so than the one before.
 * Only when batches a second apart show the same difference does it come from the clock. In memory, since it is
 * measured again as soon as a device speaks; the devices heard of last are kept.
 */
export class ClockSkews {
  readonly #devices = new Map<string, Measured>();

  /**
   * @param nowMs when the batch was received, and by what clock it is compared
   * @param sealedMs when it was sealed, by the device's clock; 0 when that is not known
   */
  note(device: string, sealedMs: number, nowMs: number): void {
    if (sealedMs <= 0) return;
    const skew = nowMs - sealedMs;
    const known = this.#devices.get(device);
    // The newest at the end: the first is the one to forget.
    this.#devices.delete(device);
    this.#devices.set(device, known ? next(known, skew, nowMs) : first(skew, nowMs));
    const [oldest] = this.#devices.keys();
    if (this.#devices.size > maxDevices && oldest !== undefined) this.#devices.delete(oldest);
  }

  /** Ms that the device's clock is behind, negative when it is ahead; `null` when that is not known. */
  of(device: string): number | null {
    return this.#devices.get(device)?.confirmed ?? null;
  }
}

function first(skew: number, nowMs: number): Measured {
  return {
    smallest: skew,
    smallestBefore: Number.POSITIVE_INFINITY,
    windowStartMs: nowMs,
    candidate: skew,
    candidateMs: nowMs,
    confirmed: null,
  };
}

function next(known: Measured, skew: number, nowMs: number): Measured {
  let { smallest, smallestBefore, windowStartMs, candidate, candidateMs, confirmed } = known;
  const sinceMs = nowMs - windowStartMs;
  // This machine's own clock may be set back as well.
  if (sinceMs >= windowMs || sinceMs < 0) {
    smallestBefore = sinceMs >= 0 && sinceMs < 2 * windowMs ? smallest : Number.POSITIVE_INFINITY;
    smallest = Number.POSITIVE_INFINITY;
    windowStartMs = nowMs;
  }
  smallest = Math.min(smallest, skew);
  const best = Math.min(smallest, smallestBefore);
  if (Math.abs(best - candidate) > agreementMs) {
    candidate = best;
    candidateMs = nowMs;
  } else if (Math.abs(skew - candidate) <= agreementMs && nowMs - candidateMs >= apartMs) {
    confirmed = best;
  }
  return { smallest, smallestBefore, windowStartMs, candidate, candidateMs, confirmed };
}
