import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** A process of a bench's own, which does what it is sent and answers. It ends with its scope. */
export interface Child extends AsyncDisposable {
  readonly pid: number;
  send(message: object | string): void;
  /** Its next message. Rejects when it ends instead. */
  answer<T>(): Promise<T>;
}

export function startChild(file: string): Child {
  const started = fork(fileURLToPath(new URL(file, import.meta.url)));
  return {
    // None only where it could not be started, which the first answer tells.
    pid: started.pid ?? 0,
    send: (message) => started.send(message),
    answer<T>(): Promise<T> {
      return new Promise((resolve, reject) => {
        const ended = (code: number | null, signal: string | null) =>
          reject(new Error(`${file} ended with ${signal ?? code}`));
        started.once('exit', ended);
        started.once('message', (message) => {
          started.off('exit', ended);
          resolve(message as T);
        });
      });
    },
    async [Symbol.asyncDispose]() {
      if (started.exitCode !== null || started.signalCode !== null) return;
      const exit = once(started, 'exit');
      started.kill('SIGKILL');
      await exit;
    },
  };
}
