/** Questions asked of the store in one statement. */
const mostAtOnce = 200;
/** Statements at once: more would only wait for each other's sessions. */
const mostRunning = 2;

interface Waiting<K, V> {
  key: K;
  resolve(value: V): void;
  reject(error: unknown): void;
}

/**
 * Asks one question for many that ask the same of different things. The first is asked at once; those that come while it
 * is under way go together in the next. When a fleet comes back after a restart that is a statement for two hundred
 * devices instead of one for each.
 *
 * A statement begins after all of its questions were asked, so nobody gets an answer from before.
 */
export class Gathering<K, V> {
  readonly #read: (keys: readonly K[]) => Promise<readonly V[]>;
  #waiting: Waiting<K, V>[] = [];
  #running = 0;

  /** @param read answers in the order of the keys */
  constructor(read: (keys: readonly K[]) => Promise<readonly V[]>) {
    this.#read = read;
  }

  ask(key: K): Promise<V> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ key, resolve, reject });
      this.#start();
    });
  }

  #start(): void {
    while (this.#running < mostRunning && this.#waiting.length > 0) {
      const some = this.#waiting.splice(0, mostAtOnce);
      this.#running++;
      void this.#answer(some).finally(() => {
        this.#running--;
        this.#start();
      });
    }
  }

  async #answer(some: readonly Waiting<K, V>[]): Promise<void> {
    try {
      const values = await this.#read(some.map(({ key }) => key));
      some.forEach(({ resolve }, i) => {
        resolve(values[i] as V);
      });
    } catch (error) {
      for (const { reject } of some) reject(error);
    }
  }
}
