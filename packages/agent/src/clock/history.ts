/**
 * Which clock a batch was sealed under: the boot, and what the wall clock showed at the moment of booting
 * (wall clock minus time since boot). Within a boot the offset changes only when somebody sets the clock.
 */
export interface ClockStamp {
  boot: string;
  /** Ms since 1970. */
  offset: number;
}

/** A stretch of a boot between two steps of its clock, in ms since booting. */
export interface Era {
  readonly offset: number;
  readonly fromMs: number;
  toMs: number;
}

interface Boot {
  /** The offset that was set last; `undefined` while the clock of this boot was never set. */
  truth: number | undefined;
  eras: Era[];
}

/** No program of ours is older: a clock that shows less was never set. */
export const earliestMs = Date.UTC(2025, 0, 1);
/** Smaller differences are none: a step as small as this moves no line by as much as a reader could notice. */
export const stepMs = 500;

const maxBoots = 64;
const maxEras = 8;

/** What is known of the clocks of this boot and of earlier ones. Bounded; the newest boots are kept. */
export class ClockHistory {
  readonly #boots = new Map<string, Boot>();
  /** The last that was noted: which boot, and what its clock showed. */
  #newest: { stamp: ClockStamp; wallMs: number } | undefined;

  /** The clock of `stamp` showed `wallMs`. To be called in the order in which it did. */
  note(stamp: ClockStamp, wallMs: number): void {
    const { offset } = stamp;
    const boot = this.#enter(stamp.boot);
    if (wallMs >= earliestMs) boot.truth = offset;
    this.#newest = { stamp, wallMs };
    const sinceBootMs = wallMs - offset;
    const last = boot.eras.at(-1);
    // When exactly it was stepped nobody saw; until the first sight of the new offset, at the latest.
    if (last) last.toMs = Math.max(last.toMs, sinceBootMs);
    if (last?.offset === offset) return;
    boot.eras.push({ offset, fromMs: last?.toMs ?? 0, toMs: sinceBootMs });
    if (boot.eras.length > maxEras) boot.eras.shift();
  }

  /** The offset that a boot was known to have at last, as {@link state} gave it. */
  restore(boot: string, truth: number): void {
    this.#enter(boot).truth = truth;
  }

  /** Boots whose clock was set, and their last offset. */
  state(): Record<string, number> {
    const state: Record<string, number> = {};
    for (const [id, { truth }] of this.#boots) if (truth !== undefined) state[id] = truth;
    return state;
  }

  truth(boot: string): number | undefined {
    return this.#boots.get(boot)?.truth;
  }

  eras(boot: string): readonly Era[] {
    return this.#boots.get(boot)?.eras ?? [];
  }

  /** The time at which the last batch of another boot was sealed, as far as it is known. */
  endOfOthers(boot: string): number {
    if (!this.#newest || this.#newest.stamp.boot === boot) return 0;
    const { stamp, wallMs } = this.#newest;
    return wallMs + (this.truth(stamp.boot) ?? stamp.offset) - stamp.offset;
  }

  #enter(id: string): Boot {
    let boot = this.#boots.get(id);
    if (!boot) {
      boot = { truth: undefined, eras: [] };
      this.#boots.set(id, boot);
      const [oldest] = this.#boots.keys();
      if (this.#boots.size > maxBoots && oldest !== undefined) this.#boots.delete(oldest);
    }
    return boot;
  }
}
