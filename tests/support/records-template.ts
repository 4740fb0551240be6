import { cpSync, existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import pglite from '../../node_modules/@electric-sql/pglite/package.json' with { type: 'json' };
import { isAlive } from './alive.ts';
import { until } from './wait.ts';

const cacheDir = join(import.meta.dirname, '../../node_modules/.cache/millrace-test');

/**
 * Puts an empty embedded database into the data folder of a cloud, as its first start would. Making one takes five
 * seconds of a core, so it is made once and copied; that a first start makes one is up to the tests that are about it.
 */
export async function copyEmptyRecords(dataDir: string): Promise<void> {
  const template = join(cacheDir, `records-${pglite.version}`);
  if (!existsSync(template)) await make(template);
  await mkdir(dataDir, { recursive: true });
  // A thousand small files: one after another by promises would take ten times as long.
  cpSync(template, join(dataDir, 'records'), { recursive: true });
}

/** Several test files may come at once: one makes it, and the others wait. */
async function make(template: string): Promise<void> {
  const unfinished = `${template}.${process.pid}`;
  const maker = `${template}.maker`;
  await mkdir(cacheDir, { recursive: true });
  const made = await until(
    async () => {
      if (existsSync(template)) return 'by another';
      try {
        await writeFile(maker, String(process.pid), { flag: 'wx' });
        return 'by us';
      } catch {
        const pid = Number(await readFile(maker, 'utf8').catch(() => '0'));
        // It was killed while it made one.
        if (pid > 0 && !isAlive(pid)) await rm(maker, { force: true });
        return undefined;
      }
    },
    { timeoutMs: 120_000, what: `${template} to be made` },
  );
  if (made === 'by another') return;
  try {
    if (existsSync(template)) return;
    await rm(unfinished, { recursive: true, force: true });
    // Loaded here, since hardly anyone comes here.
    const { openEmbedded } = await import('../../packages/cloud/src/records/database.ts');
    const { close } = await openEmbedded(unfinished);
    await close();
    // Should two have taken the place of one that was killed, either's is as good.
    await rename(unfinished, template).catch(() => rm(unfinished, { recursive: true, force: true }));
  } finally {
    await rm(maker, { force: true });
  }
}
