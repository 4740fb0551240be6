import { existsSync } from 'node:fs';
import { cp, mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openEmbedded } from '../../src/records/database.ts';

const cacheDir = join(import.meta.dirname, '../../../../node_modules/.cache/millrace-test');

/**
 * Puts an empty embedded database into a data folder. Making one takes seconds, so it is made once and copied;
 * the tests of the records themselves make their own.
 */
export async function copyEmptyRecords(dataDir: string): Promise<void> {
  const template = join(cacheDir, 'records-1');
  if (!existsSync(template)) {
    await mkdir(cacheDir, { recursive: true });
    const mine = join(cacheDir, `records-${process.pid}`);
    await rm(mine, { recursive: true, force: true });
    const { close } = await openEmbedded(mine);
    await close();
    // Another test file may have been quicker; its template is as good.
    await rename(mine, template).catch(() => rm(mine, { recursive: true, force: true }));
  }
  await mkdir(dataDir, { recursive: true });
  await cp(template, join(dataDir, 'records'), { recursive: true });
}
