import { access, copyFile, readFile, rename, rm, statfs } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import { restoreEmbedded } from '../records/database.ts';
import { lockFolder } from '../records/folder-lock.ts';
import { openStore, restoreStore } from '../store/index.ts';
import { keptFiles, type Manifest, readManifest, recordsFile, storeFolder } from './manifest.ts';

export interface RestoreOptions {
  /** Folder of the backup. */
  from: string;
  /** Data folder to make. It must hold neither store nor records. */
  dataDir: string;
  /** As the cloud that is to use the folder has them: with either, it would not read what is made here. */
  clickhouseUrl?: string;
  databaseUrl?: string;
  log: Logger;
}

/** Lines are those that are there now; some may have expired since the backup. */
export type Restored = Manifest;

/**
 * Makes a data folder out of a backup, for a cloud that is started on it afterwards. Nothing that is there is
 * overwritten, and one that is cut off leaves nothing that a start takes for whole.
 *
 * @throws MillraceError `BACKUP_UNUSABLE`, `DATA_DIR_UNUSABLE`, `CONFIG_INVALID`
 */
export async function restore(options: RestoreOptions): Promise<Restored> {
  const { from, dataDir, clickhouseUrl, databaseUrl, log } = options;
  const folder = resolve(from);
  const manifest = await readManifest(folder);
  const unread = clickhouseUrl !== undefined ? 'CLICKHOUSE_URL' : 'DATABASE_URL';
  if (clickhouseUrl !== undefined || (manifest.records && databaseUrl !== undefined)) {
    throw new MillraceError(
      'CONFIG_INVALID',
      `${unread}: a cloud with it does not read what would be restored into ${dataDir}. Leave it out, here and for that cloud, or restore the server by its own means`,
    );
  }
  using _lock = await lockFolder(dataDir);
  const store = join(dataDir, 'store');
  const records = join(dataDir, 'records');
  for (const path of [store, ...(manifest.records ? [records] : [])]) {
    if (!(await exists(path))) continue;
    throw new MillraceError(
      'DATA_DIR_UNUSABLE',
      `${path} is there already: move it away, or choose another DATA_DIR`,
    );
  }
  const unfinished = join(dataDir, 'store.unfinished');
  await rm(unfinished, { recursive: true, force: true });
  let at = storeFolder;
  try {
    await restoreStore({
      from: join(folder, storeFolder),
      backupDir: dirname(folder),
      dataDir: unfinished,
      log,
    });
    const lines = await linesIn(unfinished, log);
    at = recordsFile;
    if (manifest.records) await restoreEmbedded(await readFile(join(folder, recordsFile)), records);
    for (const file of keptFiles) {
      at = file;
      if (await exists(join(folder, file))) await copyFile(join(folder, file), join(dataDir, file));
    }
    // Last, since a cloud that finds no store makes an empty one.
    await rename(unfinished, store);
    return { ...manifest, lines };
  } catch (error) {
    const failure = await failureOf(error, { at: join(folder, at), dataDir });
    for (const path of [unfinished, records, `${records}.unfinished`]) {
      if (path !== records || manifest.records) await rm(path, { recursive: true, force: true });
    }
    throw failure;
  }
}

/** With less than this left, it was the disk that gave out. */
const fullBytes = 8 * 1024 * 1024;

/** What stopped a restore: the disk that it was made on, or else the part of the backup that it was at. */
async function failureOf(
  error: unknown,
  { at, dataDir }: { at: string; dataDir: string },
): Promise<MillraceError> {
  const { bavail, bsize } = await statfs(dataDir);
  const isFull = bavail * bsize < fullBytes || (error as NodeJS.ErrnoException)?.code === 'ENOSPC';
  if (isFull) {
    const detail = `${dataDir}: its disk is full; nothing was made. Make room, or choose another DATA_DIR`;
    return new MillraceError('DATA_DIR_UNUSABLE', detail, { cause: error });
  }
  const reason = error instanceof MillraceError ? error.detail : errorText(error);
  return new MillraceError('BACKUP_UNUSABLE', `${at} cannot be restored: ${reason}`, { cause: error });
}

/** Brings the schema up to this program's, too, so that a backup it cannot read is told now. */
async function linesIn(dataDir: string, log: Logger): Promise<number> {
  await using store = await openStore({ dataDir, log });
  return (await store.size()).rows;
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
