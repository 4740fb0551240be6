import { randomUUID } from 'node:crypto';
import { deviceTopic, errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import { uuidPattern } from '../identity/identity.ts';
import type { Records } from '../records/records.ts';
import type { TargetBook } from './target-book.ts';

/** A broker that keeps the last message of a topic. */
export interface RetainingBroker {
  readonly connected: boolean;
  /** Resolves when the broker has it. */
  publishRetained(topic: string, payload: string): Promise<void>;
}

export interface TargetPusherOptions {
  records: Records;
  book: TargetBook;
  broker: RetainingBroker;
  log: Logger;
  tickMs?: number;
}

const devicesAtOnce = 50;
/** A process that does not go on for this long is taken for dead, and another one pushes. */
const holdMs = 30_000;

/**
 * Keeps the targets on an external broker as they are in the records. How far it has come is a record, too, so what
 * changed while broker or cloud were away is made up for; of several processes one does it.
 */
export class TargetPusher implements AsyncDisposable {
  readonly #options: TargetPusherOptions;
  readonly #id = randomUUID();
  #timer: NodeJS.Timeout | undefined;
  #pushing: Promise<void> | undefined;
  #again = false;
  #closed = false;
  #complained = '';

  constructor(options: TargetPusherOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer = setInterval(() => this.push(), this.#options.tickMs ?? 5000);
    this.push();
  }

  /** Targets have changed. */
  push(): void {
    if (this.#closed) return;
    this.#again = true;
    this.#pushing ??= this.#pushOn().finally(() => {
      this.#pushing = undefined;
      if (this.#again) this.push();
    });
  }

  async #pushOn(): Promise<void> {
    const { records, broker, log } = this.#options;
    try {
      while (this.#again && !this.#closed && broker.connected) {
        this.#again = false;
        const pushed = await records.targetChanges.claimPushing(this.#id, holdMs);
        if (pushed === undefined) break;
        const changes = await records.targetChanges.after(pushed, devicesAtOnce);
        await Promise.all(changes.map(({ device }) => this.#pushOne(device)));
        // Of the last change there may be more devices; without them it is not through.
        const isCut = changes.length === devicesAtOnce;
        const last = changes.at(-1)?.change ?? pushed;
        if (isCut) for (const device of await records.targetChanges.of(last)) await this.#pushOne(device);
        if (last > pushed) await records.targetChanges.pushed(this.#id, last);
        this.#again ||= isCut;
      }
      // Without a broker, the tick comes back to it.
      this.#again = false;
      this.#complained = '';
    } catch (error) {
      this.#again = false;
      const reason = errorText(error);
      if (reason !== this.#complained) {
        log.warn({ error: reason }, 'targets could not be given to the broker; trying again');
      }
      this.#complained = reason;
    }
  }

  async #pushOne(device: string): Promise<void> {
    // Under an external broker a device's uuid is whatever somebody wrote into a topic.
    if (!uuidPattern.test(device)) return;
    const { book, broker } = this.#options;
    await broker.publishRetained(deviceTopic(device, 'target'), await book.message(device));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    await this.#pushing;
    // When the database is gone, so is the claim in half a minute.
    await this.#options.records.targetChanges.releasePushing(this.#id).catch(() => undefined);
  }
}
