import type { LogEngine } from './engine.ts';

/** Lines of one day of arrival. Ms since 1970. */
export interface DayOfLines {
  firstMs: number;
  lastMs: number;
  lines: number;
}

/** About how many lines there are at what time. A hint of how far to look, and never of what there is. */
export class Density {
  /** In the order of time. */
  readonly #days: readonly DayOfLines[];

  constructor(days: readonly DayOfLines[]) {
    this.#days = days.toSorted((a, b) => a.firstMs - b.firstMs);
  }

  get firstMs(): number | undefined {
    return this.#days[0]?.firstMs;
  }

  get lastMs(): number | undefined {
    return this.#days.at(-1)?.lastMs;
  }

  /** About so many lines lie from `fromMs` until `toMs`. */
  between(fromMs: number, toMs: number): number {
    let sum = 0;
    for (const day of this.#days) {
      const overlapMs = Math.min(day.lastMs, toMs) - Math.max(day.firstMs, fromMs);
      if (overlapMs >= 0) sum += day.lines * ((overlapMs + 1) / (day.lastMs - day.firstMs + 1));
    }
    return sum;
  }

  /** Since when about so many lines came until `endMs`; `undefined` when there are not as many. */
  before(endMs: number, lines: number): number | undefined {
    let left = lines;
    for (const day of this.#days.toReversed()) {
      if (day.firstMs >= endMs) continue;
      const lastMs = Math.min(day.lastMs, endMs);
      const perMs = day.lines / (day.lastMs - day.firstMs + 1);
      const has = perMs * (lastMs - day.firstMs);
      if (has >= left) return Math.floor(lastMs - left / perMs);
      left -= has;
    }
    return undefined;
  }

  /** Until when about so many lines came since `startMs`; `undefined` when there are not as many. */
  after(startMs: number, lines: number): number | undefined {
    let left = lines;
    for (const day of this.#days) {
      if (day.lastMs < startMs) continue;
      const firstMs = Math.max(day.firstMs, startMs);
      const perMs = day.lines / (day.lastMs - day.firstMs + 1);
      const has = perMs * (day.lastMs - firstMs);
      if (has >= left) return Math.ceil(firstMs + left / perMs);
      left -= has;
    }
    return undefined;
  }
}

const keptMs = 5000;

/** The density of a store, asked for again every few seconds at most. The engine knows it by heart of each partition. */
export class KeptDensity {
  readonly #engine: LogEngine;
  #kept: { askedMs: number; density: Promise<Density> } | undefined;

  constructor(engine: LogEngine) {
    this.#engine = engine;
  }

  /** @throws StoreError */
  get(): Promise<Density> {
    const nowMs = performance.now();
    if (!this.#kept || nowMs - this.#kept.askedMs > keptMs) {
      const kept = { askedMs: nowMs, density: readDensity(this.#engine) };
      this.#kept = kept;
      kept.density.catch(() => {
        if (this.#kept === kept) this.#kept = undefined;
      });
    }
    return this.#kept.density;
  }
}

async function readDensity(engine: LogEngine): Promise<Density> {
  return new Density(
    await engine.query<DayOfLines>(
      `SELECT toUnixTimestamp64Milli(min(received)) AS firstMs, toUnixTimestamp64Milli(max(received)) AS lastMs,
         count() AS lines
       FROM millrace.logs GROUP BY toDate(received)`,
    ),
  );
}
