import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { startDaemon, stopDaemon } from './docker-processes.ts';
import { tempDir } from './tmp.ts';
import { until } from './wait.ts';

const run = promisify(execFile);

export interface TestJournald extends AsyncDisposable {
  /** Where its journal files are. */
  readonly folder: string;
  /** Sends lines as the program `name`; resolves when they are in the journal. */
  log(name: string, lines: readonly string[]): Promise<void>;
  /** `--rotate`, `--vacuum-files=1`, … */
  control(option: string): Promise<void>;
}

/** Starts a real systemd-journald with a namespace, and so sockets and files, of its own. Needs root. */
export async function startJournald(): Promise<TestJournald> {
  const namespace = `mr${randomBytes(6).toString('hex')}`;
  const machine = (await readFile('/etc/machine-id', 'utf8')).trim();
  // On the disk where the system keeps its journal there, else in memory.
  const root = existsSync('/var/log/journal') ? '/var/log/journal' : '/run/log/journal';
  const folder = `${root}/${machine}.${namespace}`;
  const sockets = `/run/systemd/journal.${namespace}`;
  const output = await tempDir();
  const daemon = startDaemon('/lib/systemd/systemd-journald', [namespace], join(output.path, 'log'));
  const control = async (option: string) => {
    await run('journalctl', [`--namespace=${namespace}`, option]);
  };
  const dispose = async () => {
    await stopDaemon(daemon, 5_000);
    await Promise.all([folder, sockets].map((path) => rm(path, { recursive: true, force: true })));
    await output[Symbol.asyncDispose]();
  };
  try {
    await until(() => existsSync(`${sockets}/dev-log`) && existsSync(`${sockets}/io.systemd.journal`));
    await until(() => existsSync(join(folder, 'system.journal')));
  } catch (error) {
    await dispose();
    throw error;
  }
  return {
    folder,
    control,
    async log(name, lines) {
      const child = spawn('logger', ['--socket', `${sockets}/dev-log`, '--tag', name], {
        stdio: ['pipe', 'ignore', 'inherit'],
      });
      child.stdin.end(`${lines.join('\n')}\n`);
      await once(child, 'close');
      await control('--sync');
    },
    [Symbol.asyncDispose]: dispose,
  };
}
