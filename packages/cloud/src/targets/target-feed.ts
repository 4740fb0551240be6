import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import type { Records } from '../records/records.ts';
import type { TargetBook } from './target-book.ts';

export interface TargetFeedOptions {
  records: Records;
  book: TargetBook;
  log: Logger;
  /** Whether other processes share the records, whose changes must be looked for. */
  isShared: boolean;
  lookMs?: number;
}

type Tell = (version: string) => void;

const maxDevicesPerLook = 1000;

/** Tells those that have a device connected to this process when it has got another target, whoever changed it. */
export class TargetFeed implements AsyncDisposable {
  readonly #options: TargetFeedOptions;
  readonly #watchers = new Map<string, Map<Tell, string | undefined>>();
  readonly #listeners = new Set<(devices: readonly string[]) => void | Promise<void>>();
  #seen = 0;
  #looking: Promise<void> | undefined;
  #again = false;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  private constructor(options: TargetFeedOptions) {
    this.#options = options;
  }

  static async open(options: TargetFeedOptions): Promise<TargetFeed> {
    const feed = new TargetFeed(options);
    feed.#seen = await options.records.targetChanges.last();
    const { isShared, lookMs = 2000 } = options;
    if (isShared) feed.#timer = setInterval(() => feed.look(), lookMs);
    return feed;
  }

  /** Tells the version of a device's target, if it has one, and each later one. */
  watch(uuid: string, tell: Tell): Disposable {
    const tells = this.#watchers.get(uuid) ?? new Map<Tell, string | undefined>();
    this.#watchers.set(uuid, tells);
    tells.set(tell, undefined);
    this.#tell([uuid]).catch((error) => this.#failed(error));
    return {
      [Symbol.dispose]: () => {
        tells.delete(tell);
        if (tells.size === 0 && this.#watchers.get(uuid) === tells) this.#watchers.delete(uuid);
      },
    };
  }

  /** Called with the devices whose targets may have changed, one change after another. */
  onChange(listener: (devices: readonly string[]) => void | Promise<void>): void {
    this.#listeners.add(listener);
  }

  /** Looks for changes now: there are some. */
  look(): void {
    if (this.#closed) return;
    this.#again = true;
    this.#looking ??= this.#lookOn().finally(() => {
      this.#looking = undefined;
      if (this.#again) this.look();
    });
  }

  async #lookOn(): Promise<void> {
    try {
      while (this.#again && !this.#closed) {
        this.#again = false;
        const changes = await this.#options.records.targetChanges.after(this.#seen, maxDevicesPerLook);
        if (changes.length === 0) continue;
        // Devices of one change may be more than fit into one look.
        const last = changes.at(-1)?.change ?? this.#seen;
        const isCut = changes.length === maxDevicesPerLook;
        const devices = await this.#completed(changes, isCut ? last : undefined);
        await this.#tell(devices);
        for (const listener of this.#listeners) await listener(devices);
        this.#seen = last;
        this.#again ||= isCut;
      }
    } catch (error) {
      this.#again = false;
      this.#failed(error);
    }
  }

  async #completed(
    changes: readonly { device: string; change: number }[],
    cutAt: number | undefined,
  ): Promise<string[]> {
    const devices = new Set(changes.map(({ device }) => device));
    if (cutAt !== undefined) {
      const whole = await this.#options.records.targetChanges.of(cutAt);
      for (const device of whole) devices.add(device);
    }
    return [...devices];
  }

  async #tell(devices: readonly string[]): Promise<void> {
    const watched = devices.filter((device) => this.#watchers.has(device));
    if (watched.length === 0) return;
    for (const [uuid, version] of await this.#options.book.versions(watched)) {
      const tells = this.#watchers.get(uuid);
      for (const [tell, told] of tells ?? []) {
        if (told === version) continue;
        tells?.set(tell, version);
        tell(version);
      }
    }
  }

  #failed(error: unknown): void {
    // Devices ask by themselves now and then.
    this.#options.log.warn({ error: errorText(error) }, 'devices were not told of their targets');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    await this.#looking;
  }
}
