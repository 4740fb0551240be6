import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync } from 'node:fs';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pglite from '../../node_modules/@electric-sql/pglite/package.json' with { type: 'json' };
import chdb from '../../node_modules/chdb/package.json' with { type: 'json' };
import { nodeFlags } from './programs.ts';
import { template } from './template.ts';

/*
 * What a cloud makes at its first start, both databases with all their tables, takes it a second of a core, and is the
 * same each time. So it is made once per state of the sources that it comes from, and copied. First starts themselves
 * are tested where `copyEmptyRecords` or nothing at all is given, and on servers.
 */

/** Puts both embedded databases into a data folder, as a first start leaves them: with tables, without rows. */
export async function copyNewCloud(dataDir: string): Promise<void> {
  await copy(await newCloud(), dataDir);
}

/** The same of the records alone. */
export async function copyNewRecords(dataDir: string): Promise<void> {
  await copy(join(await newCloud(), 'records'), join(dataDir, 'records'));
}

/** The store alone, in the folder `storeDir`. */
export async function copyNewStore(storeDir: string): Promise<void> {
  await copy(join(await newCloud(), 'store'), storeDir);
}

/** Links among what is copied stay within the copy. */
async function copy(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  cpSync(from, to, { recursive: true, verbatimSymlinks: true });
}

let path: Promise<string> | undefined;

function newCloud(): Promise<string> {
  path ??= findOrMake();
  return path;
}

async function findOrMake(): Promise<string> {
  return template('cloud', await version(), async (folder) => {
    // In a process of its own: an embedded store is one per process, and one may be open here.
    const maker = join(import.meta.dirname, 'new-cloud.ts');
    await promisify(execFile)(process.execPath, [...nodeFlags, maker, folder], {
      env: { ...process.env, UV_THREADPOOL_SIZE: '24' },
    });
    if (!existsSync(join(folder, 'store'))) throw new Error(`${maker} made no store in ${folder}`);
  });
}

/** Of everything that may change what a first start makes. */
async function version(): Promise<string> {
  const hash = createHash('sha256').update(`${pglite.version} ${chdb.version}`);
  for (const part of ['records', 'store']) {
    const folder = join(import.meta.dirname, '../../packages/cloud/src', part);
    for (const name of (await readdir(folder, { recursive: true })).sort()) {
      if (name.endsWith('.ts')) hash.update(name).update(await readFile(join(folder, name)));
    }
  }
  return hash.digest('hex').slice(0, 12);
}
