import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import type { AppEngine } from '../engine/app-engine.ts';
import type { Observed } from '../engine/observed.ts';
import { imagesNeeded } from '../reconcile/wanted.ts';
import type { AppStore, PulledImage } from '../target/store.ts';

export interface PulledImagesOptions {
  engine: AppEngine;
  store: AppStore;
  /** Old images stay. */
  keep: boolean;
  log: Logger;
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

  constructor(options: PulledImagesOptions) {
    this.#options = options;
  }

  /** What is to be looked at, beside the images of the apps. */
  get names(): string[] {
    return this.#options.store.pulled.map(({ image }) => image);
  }

  begun(image: string): Promise<void> {
    return this.#note(image, { image });
  }

  async pulled(image: string, signal: AbortSignal): Promise<void> {
    const id = await this.#options.engine.imageId(image, signal);
    if (id !== undefined) await this.#note(image, { image, id });
  }

  async failed(image: string): Promise<void> {
    const noted = this.#options.store.pulled.find((other) => other.image === image);
    if (noted && noted.id === undefined) await this.#note(image, undefined);
  }

  /**
   * Begins to remove what no app needs, if that is not under way. `isPulling` tells of images that are on their way.
   * Never rejects.
   */
  sweep(seen: Observed, isPulling: (image: string) => boolean, signal: AbortSignal): void {
    if (this.#sweeping || this.#options.store.pulled.length === 0) return;
    const { log } = this.#options;
    this.#sweeping = this.#sweep(seen, isPulling, signal)
      .catch((error: unknown) => {
        if (!signal.aborted) log.warn({ error: errorText(error) }, 'old images could not be looked at');
      })
      .finally(() => {
        this.#sweeping = undefined;
      });
  }

  /** Resolves when no sweep is under way. */
  async idle(): Promise<void> {
    await this.#sweeping;
  }

  async #sweep(seen: Observed, isPulling: (image: string) => boolean, signal: AbortSignal): Promise<void> {
    const { store, keep } = this.#options;
    const needed = this.#needed();
    // One that nobody can read may need any of them.
    if (!needed) return;
    for (const pulled of store.pulled) {
      const { image, id } = pulled;
      if (signal.aborted || isPulling(image)) continue;
      const present = seen.images.get(image);
      if (needed.has(image)) {
        if (id === undefined && present !== undefined) await this.#note(image, { image, id: present });
      } else if (present === undefined || (id !== undefined && id !== present)) {
        // Somebody else has removed it, or brought another under its name.
        await this.#note(image, undefined);
      } else if (!keep) await this.#remove({ image, id: present }, signal);
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

  async #remove({ image, id }: Required<PulledImage>, signal: AbortSignal): Promise<void> {
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
    await this.#note(image, undefined);
  }

  /** One that cannot be saved is no reason not to go on: at worst an image stays. */
  async #note(image: string, entry: PulledImage | undefined): Promise<void> {
    const { store, log } = this.#options;
    try {
      await store.updateAll((before) => {
        const others = before.pulled.filter((other) => other.image !== image);
        if (!entry && others.length === before.pulled.length) return before;
        return { ...before, pulled: entry ? [...others, entry] : others };
      });
    } catch (error) {
      log.error({ image, error: errorText(error) }, 'which images were pulled could not be saved');
    }
  }
}
