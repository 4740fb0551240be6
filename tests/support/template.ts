import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isAlive } from './alive.ts';
import { until } from './wait.ts';

const cacheDir = join(import.meta.dirname, '../../node_modules/.cache/millrace-test');
/** Nobody copies from one that is that old while another is made. */
const outdatedMs = 3_600_000;

/**
 * The path of a folder that is the same for all tests and takes long to make: it is made once, and kept for the runs
 * after. What it depends on is in its `version`; with another version it is made anew, and the one before goes.
 *
 * @param make puts everything into a folder that does not exist yet
 */
export async function template(
  name: string,
  version: string,
  make: (folder: string) => Promise<void>,
): Promise<string> {
  const folder = join(cacheDir, `${name}-${version}`);
  if (!existsSync(folder)) await makeOnce(folder, make);
  return folder;
}

/** Several test files may come at once: one makes it, and the others wait. */
async function makeOnce(folder: string, make: (folder: string) => Promise<void>): Promise<void> {
  const unfinished = `${folder}.${process.pid}`;
  const maker = `${folder}.maker`;
  await mkdir(cacheDir, { recursive: true });
  const made = await until(
    async () => {
      if (existsSync(folder)) return 'by another';
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
    { timeoutMs: 120_000, what: `${folder} to be made` },
  );
  if (made === 'by another') return;
  try {
    if (existsSync(folder)) return;
    await rm(unfinished, { recursive: true, force: true });
    await make(unfinished);
    // Should two have taken the place of one that was killed, either's is as good.
    await rename(unfinished, folder).catch(() => rm(unfinished, { recursive: true, force: true }));
    await removeOutdated(folder);
  } finally {
    await rm(maker, { force: true });
  }
}

async function removeOutdated(folder: string): Promise<void> {
  const prefix = folder.slice(cacheDir.length + 1, folder.lastIndexOf('-') + 1);
  for (const name of await readdir(cacheDir)) {
    const path = join(cacheDir, name);
    if (!name.startsWith(prefix) || path.startsWith(folder)) continue;
    const madeMs = (await stat(path).catch(() => undefined))?.mtimeMs ?? Number.POSITIVE_INFINITY;
    if (Date.now() - madeMs > outdatedMs) await rm(path, { recursive: true, force: true });
  }
}
