import { setTimeout as pause } from 'node:timers/promises';
import type { CloudLine, CloudReader } from '../tests/support/cloud.ts';

const askEveryMs = 200;

interface Awaited {
  sinceMs: number;
  startedMs: number;
  back: (tookMs: number) => void;
}

/**
 * Finds out when a cloud has lines again that were written after a fault. It asks for all faults at once, and goes
 * on asking while the cloud itself is down.
 */
export class Recoveries implements AsyncDisposable {
  readonly #cloud: CloudReader;
  readonly #service: string;
  readonly #awaited = new Set<Awaited>();
  readonly #stop = new AbortController();
  readonly #asking: Promise<void>;

  /** @param service a container that writes all the time */
  constructor(cloud: CloudReader, service: string) {
    this.#cloud = cloud;
    this.#service = service;
    this.#asking = this.#ask();
  }

  /** Milliseconds until a line of this moment or later is in the cloud; `undefined` when it took too long. */
  async fromNow(timeoutMs: number): Promise<number | undefined> {
    const { promise, resolve } = Promise.withResolvers<number | undefined>();
    const awaited = { sinceMs: Date.now(), startedMs: performance.now(), back: resolve };
    this.#awaited.add(awaited);
    const timer = setTimeout(() => resolve(undefined), timeoutMs);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#awaited.delete(awaited);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#asking;
  }

  async #ask(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      if (this.#awaited.size > 0) {
        // Down, or answering with an error: it is asked again.
        const newestMs = (await this.#newestMs().catch(() => undefined)) ?? 0;
        for (const { sinceMs, startedMs, back } of this.#awaited) {
          if (sinceMs <= newestMs) back(performance.now() - startedMs);
        }
      }
      await pause(askEveryMs, undefined, { signal: this.#stop.signal }).catch(() => undefined);
    }
  }

  async #newestMs(): Promise<number | undefined> {
    const sinceMs = Math.min(...[...this.#awaited].map((awaited) => awaited.sinceMs));
    const query = new URLSearchParams({
      service: this.#service,
      since: String(sinceMs),
      order: 'desc',
      limit: '1',
    });
    const { logs } = await this.#cloud.get<{ logs: CloudLine[] }>(`/api/v1/logs?${query}`);
    return logs[0]?.timestamp;
  }
}
