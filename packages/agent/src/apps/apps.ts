import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { AppManager, AppManagerOptions } from './manager.ts';

export interface AppsOptions extends Omit<AppManagerOptions, 'store'> {
  dataDir: string;
  /** Told when it changed what the apps shall be, or what became of them. */
  onChange?: () => void;
}

/** The door to the apps of this device. Behind it nothing is loaded, and nothing runs, until there is one. */
export class Apps implements AsyncDisposable {
  readonly #options: AppsOptions;
  #manager: Promise<AppManager> | undefined;

  constructor(options: AppsOptions) {
    this.#options = options;
  }

  get #path(): string {
    return join(this.#options.dataDir, 'apps.json');
  }

  /** Goes on with the apps that there were before a restart, if there were any. */
  async start(): Promise<void> {
    await this.known();
  }

  /** `undefined` as long as this device has never had an app. */
  async known(): Promise<AppManager | undefined> {
    return this.#manager || existsSync(this.#path) ? this.manager() : undefined;
  }

  manager(): Promise<AppManager> {
    this.#manager ??= this.#load();
    return this.#manager;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const manager = await this.#manager;
    await manager?.[Symbol.asyncDispose]();
  }

  async #load(): Promise<AppManager> {
    const [{ AppManager }, { AppStore }] = await Promise.all([
      import('./manager.ts'),
      import('./target/store.ts'),
    ]);
    const { log, onChange } = this.#options;
    const store = new AppStore({ path: this.#path, log, onChange });
    await store.load();
    return new AppManager({ ...this.#options, store });
  }
}
