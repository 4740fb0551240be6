/** Aborted by Ctrl-C, and when `| head` has seen enough and closes the pipe: ends like any other. */
export function untilUnwanted(stdout: NodeJS.WriteStream): AbortSignal {
  const stopping = new AbortController();
  const stop = () => stopping.abort();
  stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    stop();
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, stop);
  return stopping.signal;
}
