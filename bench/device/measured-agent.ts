import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { freshBundle } from '../../packages/millrace/bin/bundle.mjs';
import { nodeEnv, nodeFlags } from '../../packages/millrace/bin/flags.mjs';
import { freePort } from '../../tests/support/ports.ts';
import { type Program, repository, startProgram } from '../../tests/support/programs.ts';
import { until } from '../../tests/support/wait.ts';

export interface MeasuredAgentOptions {
  dataDir: string;
  dockerHost: string;
  cloudPort: number;
  env?: Record<string, string>;
  /** Leaves a .cpuprofile there. */
  profileDir?: string;
}

/** The agent as a device runs it, from its bundle, and what it costs by the kernel's account. */
export class MeasuredAgent implements AsyncDisposable {
  /** User and system time until it answered for the first time. */
  readonly startUpSeconds: number;
  readonly #program: Program;

  private constructor(program: Program) {
    this.#program = program;
    this.startUpSeconds = cpuSecondsOf(program.pid);
  }

  static async start(options: MeasuredAgentOptions): Promise<MeasuredAgent> {
    const { dataDir, dockerHost, cloudPort, env, profileDir } = options;
    if (!freshBundle()) execFileSync(process.execPath, [join(repository, 'scripts/build.mjs')]);
    const apiPort = await freePort();
    const program = startProgram(
      [
        ...nodeFlags('agent'),
        ...(profileDir ? ['--cpu-prof', `--cpu-prof-dir=${profileDir}`] : []),
        // What millrace.mjs becomes once it has found the bundle.
        join(repository, 'packages/millrace/bin/bundled.cjs'),
        'agent',
      ],
      {
        env: nodeEnv('agent', {
          DATA_DIR: dataDir,
          DOCKER_HOST: dockerHost,
          CLOUD_ENDPOINT: `http://127.0.0.1:${cloudPort}`,
          CLOUD_API_KEY: 'bench',
          DEVICE_API_PORT: String(apiPort),
          API_PORT: String(await freePort()),
          LOG_LEVEL: 'warn',
          // Node's own number, and not that of the tests' programs.
          UV_THREADPOOL_SIZE: '4',
          ...env,
        }) as Record<string, string>,
      },
    );
    await until(() =>
      fetch(`http://127.0.0.1:${apiPort}/v1/device`).then(
        ({ ok }) => ok,
        () => false,
      ),
    );
    return new MeasuredAgent(program);
  }

  /** What it has printed to complain. */
  get stderr(): string {
    return this.#program.stderr;
  }

  /** User and system time since it has answered for the first time, that of processes it has started and are there included. */
  get cpuSeconds(): number {
    const seconds = [this.#program.pid, ...this.#children].map(cpuSecondsOf).reduce((sum, one) => sum + one);
    return seconds - this.startUpSeconds;
  }

  /** Memory of processes that it has started: what they share with others counts by its share. */
  get childrenMb(): number {
    const kb = this.#children.map((pid) => {
      const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
      return Number(/^Pss:\s+(\d+) kB/m.exec(text)?.[1]);
    });
    return Math.round(kb.reduce((sum, one) => sum + one, 0) / 1024);
  }

  get #children(): number[] {
    const { pid } = this.#program;
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  }

  get writtenBytes(): number {
    const io = readFileSync(`/proc/${this.#program.pid}/io`, 'utf8');
    return Number(/^write_bytes: (\d+)/m.exec(io)?.[1]);
  }

  /** Resident memory: now, or the most that it was. */
  memoryMb(which: 'now' | 'peak'): number {
    const status = readFileSync(`/proc/${this.#program.pid}/status`, 'utf8');
    const name = which === 'now' ? 'VmRSS' : 'VmHWM';
    return Math.round(Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024);
  }

  async stop(): Promise<void> {
    await this.#program.end('SIGTERM');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#program[Symbol.asyncDispose]();
  }
}

/** User and system time of a process, by /proc: ticks of 10 ms. */
function cpuSecondsOf(pid: number): number {
  const [user, system] = fieldsOf(pid).slice(11, 13);
  return (Number(user) + Number(system)) / 100;
}

/** That of the children of this process which have ended. */
export function childrenCpuSeconds(): number {
  const [user, system] = fieldsOf(process.pid).slice(13, 15);
  return (Number(user) + Number(system)) / 100;
}

/** From the third on: the second may hold spaces. */
function fieldsOf(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

export function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
