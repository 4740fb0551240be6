import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A daemon that writes its output to a file and can be waited for. */
export interface Daemon {
  readonly pid: number;
  readonly exited: Promise<void>;
  isRunning(): boolean;
  signal(name: NodeJS.Signals): void;
}

/**
 * Starts a daemon whose output goes to `logPath`. It gets a SIGTERM when this process dies without cleaning up
 * (a test worker that is killed), where the system has `setpriv` for that.
 */
export function startDaemon(command: string, args: string[], logPath: string): Daemon {
  const log = openSync(logPath, 'a');
  const guarded = existsSync('/usr/bin/setpriv');
  let child: ChildProcess;
  try {
    child = spawn(
      guarded ? '/usr/bin/setpriv' : command,
      guarded ? ['--pdeathsig', 'TERM', command, ...args] : args,
      { stdio: ['ignore', log, log] },
    );
  } finally {
    closeSync(log);
  }
  let running = true;
  const exited = new Promise<void>((resolve) => {
    const over = () => {
      running = false;
      resolve();
    };
    child.once('exit', over);
    child.once('error', over);
  });
  if (child.pid === undefined) throw new Error(`${command} could not be started`);
  return {
    pid: child.pid,
    exited,
    isRunning: () => running,
    signal: (name) => void child.kill(name),
  };
}

/** SIGTERM, and SIGKILL when it is still there after `graceMs`. */
export async function stopDaemon(daemon: Daemon, graceMs: number): Promise<void> {
  if (!daemon.isRunning()) return;
  // A daemon that was stopped with SIGSTOP would not see the SIGTERM.
  daemon.signal('SIGCONT');
  daemon.signal('SIGTERM');
  await Promise.race([daemon.exited, pause(graceMs)]);
  if (daemon.isRunning()) daemon.signal('SIGKILL');
  await daemon.exited;
}

/** Ends every process that has `root` on its command line, and the children of those: shims and their containers. */
export async function killProcessesOf(root: string): Promise<void> {
  for (const pid of await processesOf(root)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}

async function processesOf(root: string): Promise<number[]> {
  const found = new Set<number>();
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue;
    const commandLine = await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '');
    if (!commandLine.split('\0').some((part) => part.includes(`${root}/`))) continue;
    found.add(Number(entry));
    const children = await readFile(`/proc/${entry}/task/${entry}/children`, 'utf8').catch(() => '');
    for (const child of children.split(' ').filter(Boolean)) found.add(Number(child));
  }
  return [...found];
}

/** Removes the sockets of killed shims, which lie outside the engine's own folder. */
export async function removeShimSockets(stateFolder: string): Promise<void> {
  const tasks = `${stateFolder}/io.containerd.runtime.v2.task/moby`;
  for (const id of await readdir(tasks).catch(() => [])) {
    const address = await readFile(`${tasks}/${id}/address`, 'utf8').catch(() => '');
    if (address.startsWith('unix://')) await rm(address.slice('unix://'.length), { force: true });
  }
}

/** Unmounts whatever is mounted below `root`, innermost first, and removes the folder. */
export async function removeTree(root: string): Promise<void> {
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8'))
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((point) => point.startsWith(`${root}/`));
  // One at a time and the newest first: an overlay's parent cannot go before it.
  for (const point of mounts.reverse()) await run('umount', ['-l', point]).catch(() => undefined);
  await rm(root, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
}

/** Runs a program and gives what it wrote. */
export async function outputOf(command: string, args: string[]): Promise<string> {
  return (await run(command, args, { maxBuffer: 16 * 1024 * 1024 })).stdout;
}

/** Runs a program and gives what it writes, as it is written. */
export function streamOf(command: string, args: string[]): NodeJS.ReadableStream {
  return spawn(command, args, { stdio: ['ignore', 'pipe', 'ignore'] }).stdout;
}
