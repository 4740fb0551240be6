import { errorText, type StoredLine } from '@millrace/wire';
import type { Logger } from 'pino';
import type { AdmittedLines, Ingest } from '../ingest/index.ts';
import { deviceMatches, type LineFilter, lineMatcher } from './filter.ts';

/**
 * Takes one line as it was admitted, a moment before it is committed. It must not wait (whoever cannot take it
 * passes it over and counts), and must leave the line as it is, since all watchers get the same.
 */
export type Watch = (line: StoredLine) => void;

interface Watcher {
  filter: LineFilter;
  matches: (line: StoredLine) => boolean;
  watch: Watch;
}

/**
 * Passes lines on to watchers as they are admitted. While nobody watches, it is not even told of them; and lines
 * are decoded once for all watchers, if one of them is after the device at all.
 */
export class TailHub {
  readonly #ingest: Ingest;
  readonly #log: Logger;
  readonly #watchers = new Set<Watcher>();
  #unsubscribe: (() => void) | undefined;
  /** Lines that watchers passed over, since they were too slow. */
  skippedLines = 0;

  constructor({ ingest, log }: { ingest: Ingest; log: Logger }) {
    this.#ingest = ingest;
    this.#log = log;
  }

  /** Number of watchers. */
  get size(): number {
    return this.#watchers.size;
  }

  /** Calls `watch` with every line from now on that the filter lets through, until the handle is disposed of. */
  watch(filter: LineFilter, watch: Watch): Disposable {
    const watcher: Watcher = { filter, matches: lineMatcher(filter), watch };
    this.#watchers.add(watcher);
    this.#unsubscribe ??= this.#ingest.subscribe((lines) => this.#admitted(lines));
    return {
      [Symbol.dispose]: () => {
        this.#watchers.delete(watcher);
        if (this.#watchers.size > 0) return;
        this.#unsubscribe?.();
        this.#unsubscribe = undefined;
      },
    };
  }

  #admitted(lines: AdmittedLines): void {
    const { device } = lines;
    const interested: Watcher[] = [];
    for (const watcher of this.#watchers) {
      if (deviceMatches(watcher.filter, device)) interested.push(watcher);
    }
    if (interested.length === 0) return;
    for (const line of lines.messages()) {
      for (const watcher of interested) {
        try {
          if (watcher.matches(line)) watcher.watch(line);
        } catch (error) {
          // One watcher's trouble must not reach ingest, nor the others.
          this.#log.warn({ error: errorText(error) }, 'a watcher failed');
        }
      }
    }
  }
}
