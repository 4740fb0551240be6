import { monitorEventLoopDelay } from 'node:perf_hooks';

const sampleEveryMs = 20;

export interface ProcessFigures {
  /** User and system time since the start. */
  cpuSeconds: number;
  rssBytes: number;
  uptimeSeconds: number;
  /** How late timers were since the last reading; 0 without a sample. */
  eventLoopDelaySeconds: { mean: number; p99: number; max: number };
}

/** Measures this process from its construction to its disposal. */
export class ProcessMeter implements Disposable {
  readonly #delay = monitorEventLoopDelay({ resolution: sampleEveryMs });

  constructor() {
    this.#delay.enable();
  }

  read(): ProcessFigures {
    const { user, system } = process.cpuUsage();
    const delay = this.#delay;
    const late = (nanoseconds: number) =>
      delay.count === 0 ? 0 : Math.max(0, nanoseconds / 1e9 - sampleEveryMs / 1000);
    const eventLoopDelaySeconds = {
      mean: late(delay.mean),
      p99: late(delay.percentile(99)),
      max: late(delay.max),
    };
    delay.reset();
    return {
      cpuSeconds: (user + system) / 1e6,
      rssBytes: process.memoryUsage.rss(),
      uptimeSeconds: process.uptime(),
      eventLoopDelaySeconds,
    };
  }

  [Symbol.dispose](): void {
    this.#delay.disable();
  }
}
