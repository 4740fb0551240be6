import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import { Backoff, type BackoffOptions } from '../../delivery/backoff.ts';
import { CallFailure } from '../../delivery/cloud-call.ts';
import { withDeadline } from '../../delivery/pause.ts';
import type { TargetAnswer } from './fetch-target.ts';

export interface TargetFollowerOptions {
  /** Asks the cloud; without it targets come over MQTT alone. */
  fetch: ((version: string | undefined, signal: AbortSignal) => Promise<TargetAnswer>) | undefined;
  /**
   * Writes down what a document wants of this device.
   *
   * @throws MillraceError `TARGET_INVALID` when it cannot be read; anything else is tried again
   */
  apply: (version: string, document: unknown) => Promise<void>;
  /** The target that was applied last, before this process. */
  applied: () => Promise<string | undefined>;
  /** How often the cloud is asked though nobody said that there is something new; a tenth more or less by chance. */
  pollMs: number;
  /** Pauses after a failure. Default 2 s to 5 min. */
  backoff?: BackoffOptions;
  log: Logger;
}

export interface TargetState {
  /** Of the target that was applied last. */
  version: string | undefined;
  /** When the cloud answered last, in ms since 1970. */
  askedAtMs: number | undefined;
  lastError: string | undefined;
}

interface Offered {
  version: string;
  document: unknown;
}

/**
 * Keeps the device at the newest target of its cloud:
 *
 *   ask ─► new ─► apply ─┬─► wait until something new is heard of, or it is time to ask
 *     │ └► same, none ───┘      └► ask
 *     └─► failed ─► wait, ever longer ─► ask
 *
 * However much is heard meanwhile, it comes to one more question: there is no queue. What is heard is only a reason to
 * ask, since versions have no order and a broker may hold an old one. What there is no other way to ask for, a document
 * over MQTT, is kept until it is its turn, the newest one alone.
 */
export class TargetFollower implements AsyncDisposable {
  readonly #options: TargetFollowerOptions;
  readonly #backoff: Backoff;
  readonly #stopping = new AbortController();
  readonly #state: TargetState = { version: undefined, askedAtMs: undefined, lastError: undefined };
  #heard: string | undefined;
  #offered: Offered | undefined;
  /** The version of a document that could not be read: it does not become right by itself. */
  #refused: string | undefined;
  #wake: () => void = () => undefined;
  #running: Promise<void> | undefined;

  constructor(options: TargetFollowerOptions) {
    this.#options = options;
    this.#backoff = new Backoff({ minMs: 2_000, maxMs: 300_000, ...options.backoff });
  }

  get state(): Readonly<TargetState> {
    return this.#state;
  }

  /** There is a cloud to ask, and not only one that tells. */
  get canAsk(): boolean {
    return this.#options.fetch !== undefined;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** The cloud has this version. */
  hear(version: string): void {
    if (this.#isKnown(version)) return;
    this.#heard = version;
    this.#wake();
  }

  /** A document came by itself. */
  offer(version: string, document: unknown): void {
    if (this.#isKnown(version)) return;
    this.#offered = { version, document };
    this.#wake();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  #isKnown(version: string): boolean {
    return version === this.#state.version || version === this.#refused;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    const { applied, pollMs, log } = this.#options;
    this.#state.version = await applied();
    while (!signal.aborted) {
      try {
        await this.#turn();
        this.#backoff.reset();
        this.#state.lastError = this.#refused === undefined ? undefined : this.#state.lastError;
        if (this.#offered || this.#heard !== undefined) continue;
        await this.#sleep(pollMs * (0.9 + Math.random() / 5), true);
      } catch (error) {
        if (signal.aborted) return;
        const reason = errorText(error);
        if (reason !== this.#state.lastError) {
          log.warn({ error: reason }, 'what this device is to run could not be asked for; trying again');
        }
        this.#state.lastError = reason;
        const afterMs = error instanceof CallFailure ? error.afterMs : 0;
        // That there is something new is no reason to ask a cloud sooner that does not answer.
        await this.#sleep(Math.max(afterMs, this.#backoff.nextMs()), false);
      }
    }
  }

  /** One question, or one document that came by itself. */
  async #turn(): Promise<void> {
    const { fetch } = this.#options;
    const offered = this.#offered;
    if (offered) {
      await this.#apply(offered);
      if (this.#offered === offered) this.#offered = undefined;
      return;
    }
    this.#heard = undefined;
    if (!fetch) return;
    const answer = await fetch(this.#state.version, this.#stopping.signal);
    this.#state.askedAtMs = Date.now();
    if (answer.is === 'new' && !this.#isKnown(answer.version)) {
      await this.#apply({ version: answer.version, document: readJson(answer.text) });
    }
    if (answer.is === 'same') this.#refused = undefined;
    if (this.#heard !== undefined && this.#isKnown(this.#heard)) this.#heard = undefined;
  }

  async #apply({ version, document }: Offered): Promise<void> {
    const { apply, log } = this.#options;
    try {
      await apply(version, document);
      this.#state.version = version;
      this.#refused = undefined;
    } catch (error) {
      if (!(error instanceof MillraceError && error.code === 'TARGET_INVALID')) throw error;
      if (error.message !== this.#state.lastError) {
        log.error(
          { version, error: error.detail },
          `The target ${version} of the cloud is refused: ${error.detail}; what runs goes on`,
        );
      }
      this.#refused = version;
      this.#state.lastError = error.message;
    }
  }

  async #sleep(ms: number, untilNews: boolean): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    using deadline = withDeadline(this.#stopping.signal, ms);
    deadline.signal.addEventListener('abort', () => resolve(), { once: true });
    if (deadline.signal.aborted) return;
    if (untilNews) this.#wake = resolve;
    await promise;
    this.#wake = () => undefined;
  }
}

/** What is no JSON is no document: it is refused as such. */
function readJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
