import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { errorText, MillraceError } from '@millrace/wire';

/** Whether {@link lockFolder} failed because another process holds the folder. */
export function isHeldElsewhere(error: unknown): boolean {
  return (
    error instanceof MillraceError &&
    (error.cause as { errcode?: number } | undefined)?.errcode === sqliteBusy
  );
}

const sqliteBusy = 5;

/**
 * Claims a data folder for this process, and makes the folder when there is none. The claim is a lock of the
 * operating system on the file `cloud.lock` (held through SQLite, since Node itself has none), so it ends with
 * the process however that dies, and a file left behind blocks nobody.
 *
 * @throws MillraceError `DATA_DIR_UNUSABLE` when another process holds it or it cannot be written
 */
export async function lockFolder(folder: string): Promise<Disposable> {
  let database: DatabaseSync | undefined;
  try {
    // The folder holds keys and everybody's logs.
    await mkdir(folder, { recursive: true, mode: 0o700 });
    database = new DatabaseSync(join(folder, 'cloud.lock'), { timeout: 0 });
    // Without a journal on disk nothing but the lock itself is left to clean up.
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch (error) {
    database?.close();
    const locked = (error as { errcode?: number }).errcode === sqliteBusy;
    const reason = locked ? 'another running Millrace cloud uses it' : errorText(error);
    throw new MillraceError('DATA_DIR_UNUSABLE', `${folder}: ${reason}`, { cause: error });
  }
  const held = database;
  return { [Symbol.dispose]: () => held.close() };
}
