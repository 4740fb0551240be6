import { monitorEventLoopDelay } from 'node:perf_hooks';

/** What this process takes of its machine. */
export interface ProcessFigures {
  /** Since the start, in seconds. */
  uptimeSeconds: number;
  /** User and system time since the start. */
  cpuSeconds: number;
  rssBytes: number;
  /** How late timers were since the last reading, in ms; 0 without a sample. */
  eventLoopDelayMs: { mean: number; p99: number; max: number };
}

// Each sample wakes the process: four a second cost nothing that can be measured, and still see what people notice.
const sampleEveryMs = 250;

/** Measures this process from its construction to its disposal. */
export class ProcessMeter implements Disposable {
  readonly #delay = monitorEventLoopDelay({ resolution: sampleEveryMs });

  constructor() {
    this.#delay.enable();
  }

  read(): ProcessFigures {
    const { user, system } = process.cpuUsage();
    const delay = this.#delay;
    const late = (nanoseconds: number) => {
      const ms = nanoseconds / 1e6 - sampleEveryMs;
      return delay.count === 0 ? 0 : Math.max(0, Math.round(ms * 100) / 100);
    };
    const eventLoopDelayMs = {
      mean: late(delay.mean),
      p99: late(delay.percentile(99)),
      max: late(delay.max),
    };
    delay.reset();
    return {
      uptimeSeconds: Math.round(process.uptime()),
      cpuSeconds: (user + system) / 1e6,
      rssBytes: process.memoryUsage.rss(),
      eventLoopDelayMs,
    };
  }

  [Symbol.dispose](): void {
    this.#delay.disable();
  }
}
