import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { uptime } from 'node:os';
import { ClockHistory, type ClockStamp, earliestMs, stepMs } from './history.ts';

/** What the operating system tells about time. Tests put their own in place. */
export interface ClockSource {
  /** Changes with every boot. */
  boot: string;
  /** Ms since 1970, for what it is worth. */
  wallMs(): number;
  /** Ms since booting, time asleep included: the same for every process of a boot. */
  sinceBootMs(): number;
  /** A monotonic clock that is cheap to read; where it starts does not matter. */
  tickMs(): number;
}

/** The clock was set. */
export interface ClockStep {
  /** The clock until now. */
  before: ClockStamp;
  /** What it would show at this moment. */
  wallMs: number;
}

const checkMs = 1000;
// A line's time is that of its writing by the engine, whose clock is read to the millisecond.
const slackMs = 2000;

/**
 * The device's clock, and how wrong it was. A device without a battery clock boots in 1970, or at the time of its
 * last shutdown, and has its clock set some time later. The time since booting runs on all the same, so that a
 * boot's last offset between the two tells the true time of all that was noted down in that boot.
 */
export class DeviceClock {
  readonly #source: ClockSource;
  #history = new ClockHistory();
  #stamp: ClockStamp;
  /** Wall clock minus ticks: changes with a step, or when the machine slept. */
  #base: number;
  /** No boot can have begun before the last batch of the one before it was sealed. */
  #floorMs = 0;
  readonly #watchers = new Set<(step: ClockStep) => void>();
  #timer: NodeJS.Timeout | undefined;

  constructor(source: ClockSource = systemClock()) {
    this.#source = source;
    this.#base = source.wallMs() - source.tickMs();
    this.#stamp = this.#read();
    this.#history.note(this.#stamp, source.wallMs());
  }

  /** The clock in force, as of the last {@link check}. */
  get stamp(): ClockStamp {
    return this.#stamp;
  }

  get wallMs(): number {
    return this.#source.wallMs();
  }

  /** Takes over what earlier processes have noted; this process has noted nothing that matters yet. */
  recall(history: ClockHistory): void {
    this.#history = history;
    this.#floorMs = history.endOfOthers(this.#stamp.boot);
    const last = history.eras(this.#stamp.boot).at(-1);
    // Reading two clocks is never exact: the same clock keeps the offset by which it is known.
    if (last && Math.abs(last.offset - this.#stamp.offset) < stepMs) {
      this.#stamp = { boot: this.#stamp.boot, offset: last.offset };
    }
    history.note(this.#stamp, this.#source.wallMs());
  }

  /** Looks whether the clock was set since the last look. If so, the watchers are called before it returns. */
  check(): void {
    const base = this.#source.wallMs() - this.#source.tickMs();
    if (Math.abs(base - this.#base) < stepMs) return;
    this.#base = base;
    const before = this.#stamp;
    const stamp = this.#read();
    // The machine slept: the ticks stood still meanwhile, the clock is what it was.
    if (Math.abs(stamp.offset - before.offset) < stepMs) return;
    const wallMs = Math.round(this.#source.sinceBootMs() + before.offset);
    this.#history.note(before, wallMs);
    this.#history.note(stamp, this.#source.wallMs());
    this.#stamp = stamp;
    for (const watcher of [...this.#watchers]) watcher({ before, wallMs });
  }

  /** Calls `watcher` at every step, which are looked for each second. Returns the way to stop. */
  watch(watcher: (step: ClockStep) => void): () => void {
    this.#watchers.add(watcher);
    this.#timer ??= setInterval(() => this.check(), checkMs).unref();
    return () => {
      this.#watchers.delete(watcher);
      if (this.#watchers.size > 0) return;
      clearInterval(this.#timer);
      this.#timer = undefined;
    };
  }

  /**
   * The time of a line by the clock in force, when it was stamped by an earlier one of this boot: its writer was
   * ahead of a step, its reader behind it.
   */
  present(timestampMs: number): number {
    const eras = this.#history.eras(this.#stamp.boot);
    if (eras.length < 2) return timestampMs;
    const { fromMs, offset } = eras.at(-1) as (typeof eras)[number];
    if (timestampMs >= fromMs + offset && timestampMs <= this.#source.wallMs() + slackMs) return timestampMs;
    for (const era of eras.slice(0, -1).reverse()) {
      const sinceBootMs = timestampMs - era.offset;
      if (sinceBootMs >= era.fromMs - slackMs && sinceBootMs <= era.toMs) return sinceBootMs + offset;
    }
    return timestampMs;
  }

  /**
   * What to add to the times of a batch to make them true; `undefined` when nobody can tell, because the clock of
   * its boot was never set.
   *
   * @param wallMs what the clock of `stamp` showed at the time
   */
  correction(stamp: ClockStamp | undefined, wallMs: number): number | undefined {
    // Batches from before clocks were noted down have to be believed.
    if (!stamp) return 0;
    const truth = this.#history.truth(stamp.boot);
    if (truth === undefined) return wallMs >= earliestMs ? 0 : undefined;
    const deltaMs = truth - stamp.offset;
    return Math.abs(deltaMs) < stepMs ? 0 : deltaMs;
  }

  /** A time that the clock of `stamp` showed, as it truly was; `undefined` when nobody can tell. */
  trueMs(wallMs: number, stamp: ClockStamp | undefined): number | undefined {
    const deltaMs = this.correction(stamp, wallMs);
    return deltaMs === undefined ? undefined : wallMs + deltaMs;
  }

  /** True for a batch of this boot as long as the clock is likely to be set still. */
  isAwaited(stamp: ClockStamp | undefined): boolean {
    if (stamp?.boot !== this.#stamp.boot) return false;
    const truth = this.#history.truth(stamp.boot);
    return truth === undefined || truth < this.#floorMs;
  }

  /** What later processes must know of earlier boots. */
  state(): Record<string, number> {
    return this.#history.state();
  }

  #read(): ClockStamp {
    const { boot } = this.#source;
    return { boot, offset: Math.round(this.#source.wallMs() - this.#source.sinceBootMs()) };
  }
}

function systemClock(): ClockSource {
  const clock = { wallMs: () => Date.now(), tickMs: () => performance.now() };
  try {
    const id = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').replaceAll('-', '').slice(0, 12);
    // Elsewhere than on Linux the uptime is rounded, or follows the wall clock.
    return { ...clock, boot: id, sinceBootMs: () => uptime() * 1000 };
  } catch {
    return { ...clock, boot: randomBytes(6).toString('hex'), sinceBootMs: () => performance.now() };
  }
}
