import { spawn } from 'node:child_process';
import { constants } from 'node:os';

/**
 * Runs a program in the foreground on another Node and resolves with its exit code (128 + n when signal n ended
 * it). Signals that reach this process are passed on.
 *
 * SIGINT is passed on too: a terminal sends it to the whole group, but a supervisor or `kill` to this process
 * alone. So the program may get one Ctrl-C twice, and takes a repetition within a second for the same one.
 *
 * @param {string} nodePath
 * @param {string[]} args
 * @param {{ env?: NodeJS.ProcessEnv, cwd?: string }} [options]
 * @returns {Promise<number>}
 */
export function runChild(nodePath, args, { env = process.env, cwd } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(nodePath, args, { stdio: 'inherit', env, cwd });
    const forward = (signal) => child.kill(signal);
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
    for (const signal of signals) process.on(signal, forward);
    const done = () => {
      for (const signal of signals) process.off(signal, forward);
    };
    child.once('error', (error) => {
      done();
      reject(error);
    });
    child.once('exit', (code, signal) => {
      done();
      resolve(code ?? 128 + (constants.signals[signal] ?? 0));
    });
  });
}
