import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { until } from './wait.ts';

/** The repository's folder. */
export const repository = fileURLToPath(new URL('../../', import.meta.url));

/** How Node was told to run the tests: of use to whatever opens an embedded PostgreSQL, see vitest.config.ts. */
export const nodeFlags = process.execArgv.filter((flag) => flag === '--liftoff-only');

export interface ProgramOptions {
  env?: Record<string, string>;
  cwd?: string;
  /** Default: the Node that runs the tests. */
  command?: string;
}

export interface Ended {
  /** `null` when a signal ended it. */
  code: number | null;
  /** From the signal, or the start, to the end. */
  tookMs: number;
}

/** A program that runs as a process of its own, and what it has printed. */
export interface Program extends AsyncDisposable {
  readonly pid: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly running: boolean;
  /** Sends a signal and waits for the end. */
  end(signal: NodeJS.Signals): Promise<Ended>;
  /** Waits until it ends by itself. */
  ended(timeoutMs?: number): Promise<Ended>;
  /** Waits until its output has a text. Fails at once when the program ends before. */
  says(text: string | RegExp, timeoutMs?: number): Promise<void>;
}

/** Only these of our own environment: a developer's MILLRACE_TOKEN or MQTT_BROKER must not change a test. */
function cleanEnv(): Record<string, string> {
  const { PATH = '', HOME = '/', TMPDIR, NODE_COMPILE_CACHE } = process.env;
  return {
    ...{ PATH, HOME, TZ: 'UTC', UV_THREADPOOL_SIZE: '24' },
    ...(TMPDIR && { TMPDIR }),
    // What it takes to read the sources is half of what a start takes; scripts/test.mjs has them read once.
    ...(NODE_COMPILE_CACHE && { NODE_COMPILE_CACHE }),
  };
}

/** Starts a Node program. It is killed, if it still runs, when its scope ends. */
export function startProgram(
  args: string[],
  { env = {}, cwd = repository, command }: ProgramOptions = {},
): Program {
  const startedMs = performance.now();
  const child: ChildProcess = spawn(command ?? process.execPath, args, {
    cwd,
    env: { ...cleanEnv(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    // A group of its own, so that what the program started can be ended with it.
    detached: true,
  });
  const killGroup = () => {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch (error) {
      // The group is gone already.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  };
  // A test run that ends in the middle must not leave it behind.
  process.once('exit', killGroup);
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  let code: number | null | undefined;
  let endedMs = 0;
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  child.once('error', (error) => {
    stderr += error.message;
    code = -1;
    resolve();
  });
  // `close` and not `exit`: by then all output has been read.
  child.once('close', (exitCode) => {
    code ??= exitCode;
    endedMs = performance.now();
    process.off('exit', killGroup);
    resolve();
  });
  const output = () => `--- stdout\n${stdout.slice(-4000)}\n--- stderr\n${stderr.slice(-4000)}`;
  const ended = async (timeoutMs = 30_000): Promise<Ended> => {
    await until(() => code !== undefined, { timeoutMs, what: () => `${args.join(' ')} to end\n${output()}` });
    return { code: code as number | null, tookMs: endedMs - startedMs };
  };
  return {
    pid: child.pid ?? -1,
    get stdout() {
      return stdout;
    },
    get stderr() {
      return stderr;
    },
    get running() {
      return code === undefined;
    },
    ended,
    async end(signal) {
      const signalledMs = performance.now();
      child.kill(signal);
      const result = await ended();
      return { ...result, tookMs: endedMs - signalledMs };
    },
    async says(text, timeoutMs = 45_000) {
      const has = () => (typeof text === 'string' ? stdout.includes(text) : text.test(stdout));
      await until(() => has() || code !== undefined, { timeoutMs, what: () => `"${text}"\n${output()}` });
      if (!has())
        throw new Error(`${args.join(' ')} ended with ${code} before it said "${text}"\n${output()}`);
    },
    async [Symbol.asyncDispose]() {
      if (code === undefined) killGroup();
      await closed;
    },
  };
}

/** The arguments that start the millrace command with the Node that runs the tests. */
export function millrace(...args: string[]): string[] {
  return [`${repository}packages/millrace/bin/millrace.mjs`, ...args];
}
