import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { chown } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freePort } from './ports.ts';
import { memoryDir } from './tmp.ts';
import { until } from './wait.ts';

const run = promisify(execFile);

/** A real PostgreSQL server on a free port of 127.0.0.1, with files of its own. */
export interface PostgresServer extends AsyncDisposable {
  readonly port: number;
  /** Makes an empty database, and returns its URL. */
  database(): Promise<string>;
  /** Ends all its processes at once, as a power cut would. */
  kill(): Promise<void>;
  /** Starts it again on the same files and port. */
  start(): Promise<void>;
}

/** Starts PostgreSQL, as an unprivileged user, since it refuses to run as root. */
export async function startPostgres(): Promise<PostgresServer> {
  const bin = binaries();
  const dir = await memoryDir();
  const owner = process.getuid?.() === 0 ? await unprivileged() : undefined;
  if (owner) await chown(dir.path, owner.uid, owner.gid);
  const dropped = owner ? ['--reuid', String(owner.uid), '--regid', String(owner.gid), '--clear-groups'] : [];
  const data = join(dir.path, 'data');
  const port = await freePort();
  const output: string[] = [];
  let child: ChildProcess | undefined;

  const start = async () => {
    const started = spawn(
      'setpriv',
      // It ends with this process even when that is killed, as the worker of a test that hangs is. A fast shutdown
      // (SIGINT) takes its own children along.
      [
        ...[...dropped, '--pdeathsig', 'INT', join(bin, 'postgres')],
        ...['-D', data, '-p', String(port), '-k', dir.path],
        ...['-c', 'listen_addresses=127.0.0.1', '-c', 'fsync=off'],
        // One that is killed would leave shared memory behind; this kind is a file of its folder.
        ...['-c', 'dynamic_shared_memory_type=mmap'],
      ],
      { stdio: ['ignore', 'ignore', 'pipe'], cwd: dir.path },
    );
    started.stderr?.setEncoding('utf8').on('data', (text: string) => {
      output.push(text);
      if (output.length > 1000) output.shift();
    });
    child = started;
    await until(
      async () => {
        if (started.exitCode !== null) throw new Error(`PostgreSQL ended: ${output.join('')}`);
        return run(join(bin, 'pg_isready'), ['-h', '127.0.0.1', '-p', String(port)]).then(
          () => true,
          () => false,
        );
      },
      { what: () => `PostgreSQL to answer on ${port}: ${output.join('')}` },
    );
  };
  const kill = async () => {
    const running = child;
    if (!running || running.exitCode !== null || running.signalCode !== null) return;
    const ended = new Promise((resolve) => running.once('exit', resolve));
    // Of immediate effect, connections included; recovery follows at the next start.
    running.kill('SIGQUIT');
    await ended;
  };
  const dispose = async () => {
    await kill();
    await dir[Symbol.asyncDispose]();
  };
  let databases = 0;
  try {
    await run(
      'setpriv',
      [
        ...dropped,
        join(bin, 'initdb'),
        ...['-D', data, '-U', 'millrace', '-A', 'trust', '-E', 'UTF8', '--no-sync'],
        // Unlike the embedded one, whose order is that of bytes.
        ...['--locale', 'C.UTF-8', '--locale-provider', 'icu', '--icu-locale', 'en'],
      ],
      { cwd: dir.path },
    );
    await start();
  } catch (error) {
    await dispose();
    throw error;
  }
  return {
    port,
    kill,
    start,
    async database() {
      const name = `test_${++databases}`;
      await run(join(bin, 'createdb'), ['-h', '127.0.0.1', '-p', String(port), '-U', 'millrace', name]);
      return `postgres://millrace:a-password-nobody-may-see@127.0.0.1:${port}/${name}`;
    },
    [Symbol.asyncDispose]: dispose,
  };
}

/** Debian keeps one folder per version; the newest is taken. */
function binaries(): string {
  const root = '/usr/lib/postgresql';
  let versions: string[] = [];
  try {
    versions = readdirSync(root).filter((name) => /^\d+$/.test(name));
  } catch {
    // None is installed; the error below says so.
  }
  const newest = versions.sort((a, b) => Number(b) - Number(a))[0];
  if (!newest) throw new Error('these tests run a real PostgreSQL server: install it (Debian: postgresql)');
  return join(root, newest, 'bin');
}

/** The package makes this user. */
async function unprivileged(): Promise<{ uid: number; gid: number }> {
  const of = async (flag: string) => Number((await run('id', [flag, 'postgres'])).stdout.trim());
  return { uid: await of('-u'), gid: await of('-g') };
}
