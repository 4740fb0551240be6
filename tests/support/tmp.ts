import { statfsSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { isAlive } from './alive.ts';

export interface TempDir extends AsyncDisposable {
  path: string;
}

/** A new folder that is removed, with all in it, when its scope ends. */
export async function tempDir(prefix = 'millrace-test-'): Promise<TempDir> {
  return removedAtTheEnd(await mkdtemp(join(tmpdir(), prefix)));
}

const memoryFs = '/dev/shm';
const memoryPrefix = 'millrace-test-';
/** What may come together in the folders of all test files that run at a time. */
const roomBytes = 1024 ** 3 * availableParallelism();

/**
 * A new folder for the files of a database, in memory where the machine has plenty: making a database is making a
 * thousand files, which costs a second of a core on a disk and a twentieth of it here. It outlives any process, so what
 * is killed finds its files again. Everything that watches files, or is about a disk, belongs on a real one: see
 * {@link tempDir}.
 */
export async function memoryDir(): Promise<TempDir> {
  if (!hasRoom()) return tempDir();
  await sweepStale();
  return removedAtTheEnd(await mkdtemp(join(memoryFs, `${memoryPrefix}${process.pid}-`)));
}

function removedAtTheEnd(path: string): TempDir {
  return {
    path,
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true, maxRetries: 5 }),
  };
}

function hasRoom(): boolean {
  try {
    const { type, bavail, bsize } = statfsSync(memoryFs);
    // TMPFS_MAGIC: elsewhere it may be a folder like any other.
    return type === 0x01021994 && bavail * bsize > roomBytes && process.availableMemory() > roomBytes;
  } catch {
    return false;
  }
}

let swept: Promise<void> | undefined;

/** Nothing but the next restart would empty what a test run that was killed has left in memory. */
function sweepStale(): Promise<void> {
  swept ??= (async () => {
    for (const name of await readdir(memoryFs)) {
      const owner = name.startsWith(memoryPrefix) ? Number.parseInt(name.slice(memoryPrefix.length), 10) : 0;
      if (owner > 0 && !isAlive(owner)) await rm(join(memoryFs, name), { recursive: true, force: true });
    }
  })();
  return swept;
}
