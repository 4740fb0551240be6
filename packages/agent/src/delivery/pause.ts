/** Waits, or less when the signal is aborted. Never throws. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  // By hand: a signal that is aborted at the end makes an error with a stack trace, which costs more than all the rest.
  await new Promise<void>((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, Math.max(0, ms));
    signal.addEventListener('abort', done, { once: true });
  });
}

/** Resolves when the signal is aborted. */
export async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

/** Waits for `done`, which may throw, or for the signal, and leaves no listener behind. */
export async function orAborted(done: Promise<void>, signal: AbortSignal): Promise<void> {
  // Once the signal has spoken nobody waits any more, and then a failure has nobody to tell.
  done.catch(() => {});
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const wake = () => resolve();
  signal.addEventListener('abort', wake, { once: true });
  try {
    await Promise.race([done, promise]);
  } finally {
    signal.removeEventListener('abort', wake);
  }
}

/**
 * A signal that is aborted with any of `signals`, or after `ms` (never, if infinite). Dispose it: its timer and
 * listeners end with the scope, where `AbortSignal.any` and `AbortSignal.timeout` would stay until their time comes.
 */
export function withDeadline(
  signals: AbortSignal | readonly AbortSignal[],
  ms: number,
): Disposable & { readonly signal: AbortSignal } {
  const sources = signals instanceof AbortSignal ? [signals] : signals;
  const controller = new AbortController();
  const abort = () => controller.abort();
  for (const source of sources) {
    if (source.aborted) abort();
    source.addEventListener('abort', abort, { once: true });
  }
  const timer = Number.isFinite(ms) ? setTimeout(abort, Math.max(0, ms)) : undefined;
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      clearTimeout(timer);
      for (const source of sources) source.removeEventListener('abort', abort);
    },
  };
}
