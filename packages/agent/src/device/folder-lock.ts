import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { MillraceError } from '@millrace/wire';

// What a folder that cannot be written says; see below.
const unwritable = ['EROFS', 'EACCES', 'EPERM', 'ENOSPC'];

/**
 * Keeps a second agent out of a data folder: two writers would spoil the journal. The lock is a Unix socket that
 * the process listens on, since the kernel lets go of it however the process ends; one that nobody answers on
 * was left by a crash.
 *
 * @throws MillraceError `DATA_DIR_UNUSABLE` when another process holds it
 */
export async function lockFolder(dir: string): Promise<AsyncDisposable> {
  await using locks = new AsyncDisposableStack();
  // Two places: one keeps others out whatever the folder's state, the other those on the far side of a shared one. A
  // data folder on a card that has failed can have the first alone, a container without a /tmp only the second.
  let refusal: MillraceError | undefined;
  let held = 0;
  for (const path of [socketElsewhere(dir), socketIn(dir)]) {
    if (path === undefined) continue;
    try {
      locks.use(await lock(dir, path));
      held += 1;
    } catch (error) {
      const { code } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException;
      if (!(error instanceof MillraceError) || !unwritable.includes(code ?? '')) throw error;
      refusal = error;
    }
  }
  if (held === 0 && refusal) throw refusal;
  return locks.move();
}

async function lock(dir: string, path: string): Promise<AsyncDisposable> {
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      const server = await listen(path);
      // It shall not keep a process alive that has nothing else to do.
      server.unref();
      return { [Symbol.asyncDispose]: () => new Promise((done) => server.close(() => done())) };
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code !== 'EADDRINUSE') {
        throw new MillraceError('DATA_DIR_UNUSABLE', `${dir} cannot be locked (${code})`, { cause });
      }
      if (await answers(path)) break;
      rmSync(path, { force: true });
    }
  }
  throw new MillraceError('DATA_DIR_UNUSABLE', `${dir} is used by another running agent`);
}

function socketIn(dir: string): string | undefined {
  const path = join(resolve(dir), 'agent.lock');
  // The kernel's limit for a socket's path is 108 bytes.
  return Buffer.byteLength(path) < 100 ? path : undefined;
}

function socketElsewhere(dir: string): string {
  const name = createHash('sha256').update(resolve(dir)).digest('hex').slice(0, 32);
  return join(tmpdir(), `millrace-${name}.lock`);
}

function listen(path: string): Promise<Server> {
  return new Promise((done, failed) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', failed);
    server.listen(path, () => done(server));
  });
}

function answers(path: string): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      done(true);
    });
    socket.once('error', () => done(false));
  });
}
