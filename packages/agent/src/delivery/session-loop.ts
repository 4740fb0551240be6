import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import { Backoff, type BackoffOptions } from './backoff.ts';
import { aborted, pause, withDeadline } from './pause.ts';

/** Why a session ended, and when the next one makes sense. */
export class SessionFailure extends Error {
  readonly reason: MillraceError;
  /** `slow` where trying again soon is pointless: credentials. */
  readonly retry: 'backoff' | 'slow';
  /** The far end asked for at least this pause, in ms. */
  readonly afterMs: number;

  constructor(reason: MillraceError, options: { retry?: SessionFailure['retry']; afterMs?: number } = {}) {
    super(reason.message, { cause: reason });
    this.name = 'SessionFailure';
    this.reason = reason;
    this.retry = options.retry ?? 'backoff';
    this.afterMs = options.afterMs ?? 0;
  }
}

/** What a session tells its loop while it runs. */
export interface SessionReport {
  /** The far end answered. */
  connected(): void;
  /** Something arrived: the next failure is a first one again. */
  progressed(): void;
}

export interface SessionLoopOptions {
  /**
   * Connects, delivers until the connection ends or `stop` is aborted, and lets go of everything it opened.
   * Returns when it ended as it should; throws, best a {@link SessionFailure}, when it did not.
   */
  session: (stop: AbortSignal, report: SessionReport) => Promise<void>;
  /** Called after each session, before the next. */
  onEnd: (failure: MillraceError | undefined) => void;
  backoff?: BackoffOptions;
  /** Pause after a `slow` failure, in ms; up to a quarter more by chance. Default 60 000. */
  slowMs?: number;
  log: Logger;
}

// A connection that held this long was a good one, even if there was nothing to deliver.
const settledMs = 30_000;
// A proxy may hold the first answer back for as long as there is nothing to send.
const patienceMs = 10_000;

/**
 * Runs one session after the other until stopped:
 *
 *   start ─► session ─► ended well ─────────────► session …
 *                └────► failed ─► pause ────────► session …
 *   stop() ends the session in order, or the pause at once.
 *
 * Each different failure is logged once as a warning, its repetitions at debug level.
 */
export class SessionLoop {
  readonly #options: SessionLoopOptions;
  readonly #backoff: Backoff;
  readonly #stop = new AbortController();
  readonly #firstAttempt = new AbortController();
  #lastWarning: string | undefined;
  #done: Promise<void> | undefined;

  constructor(options: SessionLoopOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.backoff);
  }

  /** Starts; resolves once the first attempt has succeeded or failed, or has taken too long to wait for. */
  async start(): Promise<void> {
    this.#done ??= this.#run();
    using patience = withDeadline(this.#firstAttempt.signal, patienceMs);
    await aborted(patience.signal);
  }

  /** Ends the session in order, and resolves when it has ended. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  async #run(): Promise<void> {
    const stop = this.#stop.signal;
    while (!stop.aborted) {
      const startedMs = performance.now();
      let pauseMs = 0;
      try {
        await this.#options.session(stop, {
          connected: () => {
            this.#lastWarning = undefined;
            this.#firstAttempt.abort();
          },
          progressed: () => this.#backoff.reset(),
        });
        this.#options.onEnd(undefined);
      } catch (error) {
        const failure = asFailure(error);
        this.#warn(failure.reason);
        if (performance.now() - startedMs > settledMs) this.#backoff.reset();
        // Added up, so that a fleet that is told the same time does not come back at the same moment.
        pauseMs = failure.afterMs + this.#pauseMs(failure.retry);
        this.#options.onEnd(failure.reason);
      }
      this.#firstAttempt.abort();
      if (!stop.aborted && pauseMs > 0) await pause(pauseMs, stop);
    }
  }

  #pauseMs(retry: SessionFailure['retry']): number {
    if (retry === 'slow') return (this.#options.slowMs ?? 60_000) * (1 + Math.random() / 4);
    return this.#backoff.nextMs();
  }

  #warn(reason: MillraceError): void {
    const { log } = this.#options;
    const key = `${reason.code} ${reason.detail}`;
    if (key === this.#lastWarning || this.#stop.signal.aborted)
      log.debug({ code: reason.code }, reason.message);
    else log.warn({ code: reason.code }, reason.message);
    this.#lastWarning = key;
  }
}

function asFailure(error: unknown): SessionFailure {
  if (error instanceof SessionFailure) return error;
  if (error instanceof MillraceError) return new SessionFailure(error);
  return new SessionFailure(new MillraceError('INTERNAL', errorText(error), { cause: error }));
}
