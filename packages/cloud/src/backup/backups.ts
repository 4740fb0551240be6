import { copyFile, mkdir, open, readdir, rename, rm, statfs } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import type { Records } from '../records/records.ts';
import type { LogStore } from '../store/index.ts';
import {
  keptFiles,
  type Manifest,
  manifestFile,
  readManifest,
  recordsFile,
  storeFolder,
} from './manifest.ts';

export interface BackupsOptions {
  store: LogStore;
  records: Records;
  dataDir: string;
  backupDir: string;
  /** Of this program. */
  version: string;
  log: Logger;
}

export interface Backup extends Omit<Manifest, 'format'> {
  name: string;
  /** Its folder. */
  path: string;
}

const namePattern = /^\d{4}-\d{2}-\d{2}T\d{6}Z$/;
const unfinishedSuffix = '.unfinished';

/** Makes backups of the embedded databases while they are in use, one at a time. */
export class Backups {
  readonly #options: BackupsOptions;
  #running: string | undefined;
  #failed: { name: string; error: MillraceError } | undefined;

  constructor(options: BackupsOptions) {
    this.#options = options;
  }

  /** Name of the one that is being made. */
  get running(): string | undefined {
    return this.#running;
  }

  /** The last one, if it came to nothing. */
  get failed(): { name: string; error: MillraceError } | undefined {
    return this.#failed;
  }

  /**
   * Begins to copy everything that is stored at this moment into a folder of its own. Lines go on coming in meanwhile;
   * those that are committed after the beginning may be in it or not. `done` throws `BACKUP_IMPOSSIBLE` or
   * `STORE_FAILED`, and need not be waited for.
   *
   * @throws MillraceError `CONFLICT` while another one is being made
   */
  start(): { name: string; done: Promise<Backup> } {
    if (this.#running !== undefined) throw new MillraceError('CONFLICT', 'a backup is being made');
    const createdAtMs = Date.now();
    const name = new Date(createdAtMs).toISOString().replace(/:|\.\d+/g, '');
    this.#running = name;
    this.#failed = undefined;
    const done = this.#make(name, createdAtMs).finally(() => {
      this.#running = undefined;
    });
    done.catch((error: MillraceError) => {
      this.#failed = { name, error };
      this.#options.log.warn({ name, error: error.message }, 'a backup came to nothing');
    });
    return { name, done };
  }

  /** Those that are whole, the newest first. */
  async list(): Promise<Backup[]> {
    const names = await readdir(this.#options.backupDir).catch(() => []);
    const found: Backup[] = [];
    for (const name of names
      .filter((one) => namePattern.test(one))
      .sort()
      .reverse()) {
      const path = join(resolve(this.#options.backupDir), name);
      const manifest = await readManifest(path).catch(() => undefined);
      if (manifest) found.push({ name, path, ...withoutFormat(manifest) });
    }
    return found;
  }

  async #make(name: string, createdAtMs: number): Promise<Backup> {
    const { store, records, dataDir, version, log } = this.#options;
    if (store.engine.kind !== 'embedded') throw notOurs();
    const backupDir = resolve(this.#options.backupDir);
    const path = join(backupDir, name);
    const unfinished = `${path}${unfinishedSuffix}`;
    await prepare(backupDir, unfinished);
    try {
      const { rows, bytes } = await store.size();
      await checkRoom(backupDir, bytes);
      await store.backUp(join(unfinished, storeFolder));
      const dump = await records.dump();
      if (dump) await writeDurably(join(unfinished, recordsFile), dump);
      for (const file of keptFiles) await copyIfThere(join(dataDir, file), join(unfinished, file));
      const manifest: Manifest = {
        format: 1,
        createdAtMs,
        version,
        lines: rows,
        records: dump !== undefined,
      };
      await writeDurably(join(unfinished, manifestFile), Buffer.from(`${JSON.stringify(manifest)}\n`));
      await rename(unfinished, path);
      log.info({ path, lines: rows }, 'a backup was made');
      return { name, path, ...withoutFormat(manifest) };
    } catch (error) {
      await rm(unfinished, { recursive: true, force: true });
      if (error instanceof MillraceError) throw error;
      throw new MillraceError('BACKUP_IMPOSSIBLE', `${path}: ${errorText(error)}`, { cause: error });
    }
  }
}

function withoutFormat({ format: _format, ...rest }: Manifest): Omit<Manifest, 'format'> {
  return rest;
}

/** Makes the folder for one, and removes what ones that were cut off have left. */
async function prepare(backupDir: string, unfinished: string): Promise<void> {
  try {
    await mkdir(backupDir, { recursive: true, mode: 0o700 });
    for (const name of await readdir(backupDir)) {
      if (!name.endsWith(unfinishedSuffix) || !namePattern.test(name.slice(0, -unfinishedSuffix.length)))
        continue;
      await rm(join(backupDir, name), { recursive: true, force: true });
    }
    await mkdir(unfinished, { mode: 0o700 });
  } catch (error) {
    throw new MillraceError('BACKUP_IMPOSSIBLE', `BACKUP_DIR ${backupDir}: ${errorText(error)}`, {
      cause: error,
    });
  }
}

/** Room to spare, which everything else on the disk needs. */
const spareBytes = 64 * 1024 * 1024;

async function checkRoom(folder: string, neededBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (free >= neededBytes + spareBytes) return;
  const mb = (bytes: number) => `${Math.ceil(bytes / 1_000_000)} MB`;
  throw new MillraceError(
    'BACKUP_IMPOSSIBLE',
    `the lines take ${mb(neededBytes)}, ${mb(spareBytes)} must stay free, and ${folder} has ${mb(free)} left`,
  );
}

async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function copyIfThere(from: string, to: string): Promise<void> {
  try {
    await copyFile(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** What is not ours to copy. */
export function notOurs(): MillraceError {
  return new MillraceError(
    'BACKUP_IMPOSSIBLE',
    'the lines are in ClickHouse (CLICKHOUSE_URL): use BACKUP DATABASE millrace there, of a cluster BACKUP DATABASE millrace_shard on each shard, and pg_dump for the records; see docs/operations.md',
  );
}
