import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import type { AppEngine } from '../engine/app-engine.ts';
import { imagesNeeded } from '../reconcile/wanted.ts';
import type { AppStore, PulledImage } from '../target/store.ts';

export interface PulledImagesOptions {
  engine: AppEngine;
  store: AppStore;
  /** Old images stay. */
  keep: boolean;
  log: Logger;
}

export interface SweepOptions {
  /** Whether an image is on its way. */
  isPulling: (image: string) => boolean;
  /** Called at the end of a sweep during which another one was asked for. */
  again: () => void;
  signal: AbortSignal;
}

// What the engine refuses it will refuse for a while: an image that is built on it, a container that came in between.
const refusedMs = 3_600_000;

/**
 * Remembers which images this agent has pulled, and removes those that nothing needs any more. An image is noted before
 * the engine is asked to pull it, without its id, and once more with it when it is there: whatever happens in between,
 * the next look finds it or not. A pull that fails takes its note along, so that an image which somebody brings to the
 * device by other means is never taken for ours.
 */
export class PulledImages {
  readonly #options: PulledImagesOptions;
  readonly #refusedUntilMs = new Map<string, number>();
  #sweeping: Promise<void> | undefined;
  #isAskedAgain = false;

  constructor(options: PulledImagesOptions) {
    this.#options = options;
  }

  begun(image: string): Promise<void> {
    return this.#note({ image });
  }

  async pulled(image: string, signal: AbortSignal): Promise<void> {
    const id = await this.#options.engine.imageId(image, signal);
    if (id !== undefined) await this.#note({ image, id });
  }

  async failed(image: string): Promise<void> {
    const noted = this.#options.store.pulled.find((other) => other.image === image);
    if (noted && noted.id === undefined) await this.#replace(noted, undefined);
  }

  /** Begins to remove what no app needs, if that is not under way. Never rejects. */
  sweep(options: SweepOptions): void {
    const { log, store } = this.#options;
    this.#isAskedAgain = this.#sweeping !== undefined;
    if (this.#sweeping || store.pulled.length === 0) return;
    this.#sweeping = this.#sweep(options)
      .catch((error: unknown) => {
        if (!options.signal.aborted) {
          log.warn({ error: errorText(error) }, 'old images could not be looked at');
        }
      })
      .finally(() => {
        this.#sweeping = undefined;
        if (this.#isAskedAgain) options.again();
      });
  }

  /** Resolves when no sweep is under way. */
  async idle(): Promise<void> {
    await this.#sweeping;
  }

  async #sweep({ isPulling, signal }: SweepOptions): Promise<void> {
    const { engine, store, keep } = this.#options;
    const needed = this.#needed();
    // One that nobody can read may need any of them.
    if (!needed) return;
    for (const pulled of store.pulled) {
      const { image, id } = pulled;
      if (signal.aborted || isPulling(image) || (needed.has(image) && id !== undefined)) continue;
      const present = await engine.imageId(image, signal);
      if (needed.has(image)) {
        if (present !== undefined) await this.#replace(pulled, { image, id: present });
      } else if (present === undefined || (id !== undefined && id !== present)) {
        // Somebody else has removed it, or brought another under its name.
        await this.#replace(pulled, undefined);
      } else if (!keep) await this.#remove(pulled, present, signal);
    }
  }

  #needed(): Set<string> | undefined {
    try {
      return new Set(this.#options.store.apps.flatMap(imagesNeeded));
    } catch (error) {
      if (error instanceof MillraceError) return undefined;
      throw error;
    }
  }

  async #remove(pulled: PulledImage, id: string, signal: AbortSignal): Promise<void> {
    const { image } = pulled;
    const { engine, log } = this.#options;
    if (performance.now() < (this.#refusedUntilMs.get(image) ?? 0)) return;
    if (await engine.isImageUsed(id, signal)) return;
    // An app may have come meanwhile.
    if (this.#needed()?.has(image) !== false) return;
    try {
      log.info({ image }, `Removing image ${image}`);
      await engine.removeImage(image, signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#refusedUntilMs.set(image, performance.now() + refusedMs);
      log.warn({ image, error: errorText(error) }, `Image ${image} could not be removed; it is tried again`);
      return;
    }
    this.#refusedUntilMs.delete(image);
    await this.#replace(pulled, undefined);
  }

  #note(entry: PulledImage): Promise<void> {
    return this.#save((before) => [...before.filter(({ image }) => image !== entry.image), entry]);
  }

  /** Only that very entry: another one may have been made since it was looked at. */
  #replace(entry: PulledImage, by: PulledImage | undefined): Promise<void> {
    return this.#save((before) =>
      before.includes(entry) ? before.flatMap((other) => (other === entry ? (by ?? []) : other)) : before,
    );
  }

  /** What cannot be saved is no reason not to go on: at worst an image stays. */
  async #save(change: (before: readonly PulledImage[]) => readonly PulledImage[]): Promise<void> {
    const { store, log } = this.#options;
    try {
      await store.updateAll((before) => {
        const pulled = change(before.pulled);
        return pulled === before.pulled ? before : { ...before, pulled };
      });
    } catch (error) {
      log.error({ error: errorText(error) }, 'which images were pulled could not be saved');
    }
  }
}
