import { MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';

export interface Running {
  /** Ends it cleanly: what it holds is saved or sent on first. */
  stop(): Promise<void>;
}

export interface UntilStoppedOptions {
  log: Logger;
  /** A clean stop that takes longer is given up. Default 5 s. */
  stopWithinMs?: number;
  /** A start that a signal came into is waited for this long, then abandoned. Default 15 s. */
  startWithinMs?: number;
  /** Replaced in tests. */
  signals?: NodeJS.EventEmitter;
}

const stopSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
/** npm, our own runner and the terminal may each send one Ctrl-C: these come within moments. */
const sameSignalMs = 1000;

/**
 * Starts a program and runs it until a signal asks it to stop. Resolves with the exit code: 0 after a clean stop,
 * 130 when a second signal forces the end. A signal in the middle of the start lets that finish first: the
 * embedded store cannot be left half open. A start that takes too long is abandoned, which loses nothing, since nothing
 * was taken in yet.
 *
 * @throws what `start` throws; MillraceError `STOP_TIMED_OUT` when the stop takes too long
 */
export async function untilStopped(
  start: () => Promise<Running>,
  { log, stopWithinMs = 5000, startWithinMs = 15_000, signals = process }: UntilStoppedOptions,
): Promise<number> {
  const asked = Promise.withResolvers<void>();
  const forced = Promise.withResolvers<number>();
  let askedAtMs: number | undefined;
  const onSignal = () => {
    const nowMs = Date.now();
    if (askedAtMs === undefined) {
      askedAtMs = nowMs;
      asked.resolve();
    } else if (nowMs - askedAtMs > sameSignalMs) forced.resolve(130);
  };
  for (const signal of stopSignals) signals.on(signal, onSignal);
  let timer: NodeJS.Timeout | undefined;
  let hasStarted = false;
  const started = Promise.withResolvers<void>();
  try {
    const run = async () => {
      const running = await start();
      hasStarted = true;
      started.resolve();
      await asked.promise;
      log.info('stopping (Ctrl-C again to force)');
      await running.stop();
      return 0;
    };
    const late = async () => {
      await asked.promise;
      const wait = (ms: number) =>
        new Promise<void>((resolve) => {
          timer = setTimeout(resolve, ms);
        });
      if (!hasStarted) {
        log.info('stopping as soon as the start is over (Ctrl-C again to force)');
        await Promise.race([started.promise, wait(startWithinMs)]);
        clearTimeout(timer);
      }
      if (hasStarted) {
        await wait(stopWithinMs);
        throw new MillraceError('STOP_TIMED_OUT', `still not stopped after ${stopWithinMs} ms`);
      }
      log.warn('ended in the middle of a slow start');
      return 0;
    };
    return await Promise.race([run(), forced.promise, late()]);
  } finally {
    clearTimeout(timer);
    for (const signal of stopSignals) signals.off(signal, onSignal);
  }
}
