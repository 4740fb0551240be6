import { cpSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import pglite from '../../node_modules/@electric-sql/pglite/package.json' with { type: 'json' };
import { template } from './template.ts';

/**
 * Puts an empty embedded database, without tables, into the data folder of a cloud, for tests that are about its first
 * start. Making one takes five seconds of a core, so it is made once and copied; that a first start makes one is up to the
 * tests that are about just that. All others begin where a first start has ended: see `copyNewCloud`.
 */
export async function copyEmptyRecords(dataDir: string): Promise<void> {
  const empty = await template('records', pglite.version, async (folder) => {
    // Loaded here, since hardly anyone comes here.
    const { openEmbedded } = await import('../../packages/cloud/src/records/database.ts');
    const { close } = await openEmbedded(folder);
    await close();
  });
  await mkdir(dataDir, { recursive: true });
  // A thousand small files: one after another by promises would take ten times as long.
  cpSync(empty, join(dataDir, 'records'), { recursive: true });
}
