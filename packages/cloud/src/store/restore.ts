import type { Logger } from 'pino';
import { EmbeddedEngine } from './embedded-engine.ts';
import { string } from './sql.ts';

export interface RestoreStoreOptions {
  /** A folder that {@link LogStore.backUp} made. */
  from: string;
  /** The folder around it. */
  backupDir: string;
  /** Of the embedded engine to make. */
  dataDir: string;
  log: Logger;
}

/** Makes a store as it was when it was backed up, schema included. @throws StoreError */
export async function restoreStore({ from, backupDir, dataDir, log }: RestoreStoreOptions): Promise<void> {
  await using engine = await EmbeddedEngine.open({ dataDir, backupDir, log });
  await engine.command(`RESTORE DATABASE millrace FROM File(${string(from)})`);
}
