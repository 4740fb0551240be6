import { setTimeout as pause } from 'node:timers/promises';
import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import { StoreError } from '../store/engine.ts';

export interface Persistence {
  log: Logger;
  /** Pause after a failure; doubled each time, up to `retryMaxMs`. */
  retryMinMs: number;
  retryMaxMs: number;
  /** Ends the attempts. */
  closing: AbortSignal;
}

/**
 * Asks the store until it answers, however long that takes.
 *
 * @throws StoreError when closing
 */
export async function persistently<T>(
  ask: () => Promise<T>,
  { log, retryMinMs, retryMaxMs, closing }: Persistence,
  about: Record<string, string>,
): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    if (closing.aborted) throw new StoreError('ingest is closed');
    try {
      return await ask();
    } catch (error) {
      log.warn({ ...about, attempt, reason: errorText(error) }, 'log store: does not answer');
      const ms = Math.min(retryMinMs * 2 ** Math.min(attempt, 20), retryMaxMs);
      await pause(ms, undefined, { signal: closing }).catch(() => undefined);
    }
  }
}
