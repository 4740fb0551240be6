import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import manifest from '../../package.json' with { type: 'json' };
import type { CloudConfig } from '../config.ts';
import { lockFolder } from '../records/folder-lock.ts';
import { Records } from '../records/records.ts';
import { openStore } from '../store/index.ts';
import { type Backup, Backups, notOurs } from './backups.ts';

/**
 * Makes a backup of a data folder that no cloud uses.
 *
 * @throws MillraceError `DATA_DIR_UNUSABLE` while one does, or when there is no store in it; `BACKUP_IMPOSSIBLE` when the
 * lines are in a ClickHouse server or cluster
 */
export async function backUpOffline(config: CloudConfig, log: Logger): Promise<Backup> {
  const { dataDir, backupDir = join(dataDir, 'backups'), databaseUrl, clickhouseUrl } = config;
  // Before anything is opened: servers need not be reached to say so.
  if (clickhouseUrl !== undefined) throw notOurs();
  const storeDir = join(dataDir, 'store');
  await checkIsThere(storeDir);
  await using stack = new AsyncDisposableStack();
  stack.use(await lockFolder(dataDir));
  const records = stack.use(await Records.open({ dataDir, databaseUrl, log }));
  const store = stack.use(await openStore({ dataDir: storeDir, backupDir, log }));
  const backups = new Backups({ records, store, dataDir, backupDir, version: manifest.version, log });
  // Awaited here: the stack ends with this function.
  return await backups.start().done;
}

/** Or a backup from the wrong folder would make a store there, and be empty. */
async function checkIsThere(storeDir: string): Promise<void> {
  try {
    await access(storeDir);
  } catch (error) {
    throw new MillraceError('DATA_DIR_UNUSABLE', `${storeDir}: there is no store, and no cloud that runs`, {
      cause: error,
    });
  }
}
