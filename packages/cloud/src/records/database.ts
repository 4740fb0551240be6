import { access, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { PGlite } from '@electric-sql/pglite';
import { errorText, MillraceError } from '@millrace/wire';
import { DrizzleQueryError } from 'drizzle-orm';
import { drizzle as drizzleServer } from 'drizzle-orm/node-postgres';
import type { PgDatabase, PgQueryResultHKT } from 'drizzle-orm/pg-core';
import { drizzle as drizzleEmbedded } from 'drizzle-orm/pglite';
import pg from 'pg';
import type { Logger } from 'pino';
import { type AccessChange, Notices } from './notices.ts';
import * as schema from './schema.ts';

/** PostgreSQL, whichever of the two it is. */
export type Database = PgDatabase<PgQueryResultHKT, typeof schema>;

/** Who wants to hear that what opens something has changed. */
export interface AccessListener {
  onChange: (change: AccessChange) => void;
  /** Changes may have been missed up to now. */
  onMissed: () => void;
}

export interface OpenedDatabase {
  database: Database;
  /** Hears what other processes change, of a server. */
  listen?: (listener: AccessListener) => AsyncDisposable;
  close(): Promise<void>;
  /** The whole of an embedded one, as a gzipped tar. */
  dump?: () => Promise<Uint8Array>;
}

/**
 * Opens the embedded PostgreSQL in a folder, and makes it when there is none.
 *
 * Making one takes seconds, and a process killed meanwhile leaves a folder that looks complete and is not. So
 * it is made under another name and renamed when it is whole.
 *
 * @throws MillraceError `DATA_DIR_UNUSABLE`
 */
export async function openEmbedded(folder: string): Promise<OpenedDatabase> {
  try {
    if (!(await exists(join(folder, 'PG_VERSION')))) {
      const unfinished = `${folder}.unfinished`;
      await rm(unfinished, { recursive: true, force: true });
      const made = await PGlite.create(unfinished);
      await made.close();
      await rename(unfinished, folder);
    }
    const client = await PGlite.create(folder);
    return {
      database: drizzleEmbedded({ client, schema }),
      close: () => client.close(),
      dump: async () => new Uint8Array(await (await client.dumpDataDir('gzip')).arrayBuffer()),
    };
  } catch (error) {
    throw new MillraceError(
      'DATA_DIR_UNUSABLE',
      `the records in ${folder} cannot be opened: ${errorText(error)}`,
      {
        cause: error,
      },
    );
  }
}

/**
 * Makes the folder of an embedded database out of a dump of one, a gzipped tar archive.
 *
 * @throws what is wrong with the dump or the disk
 */
export async function restoreEmbedded(dump: Uint8Array, folder: string): Promise<void> {
  const unfinished = `${folder}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  // PGlite inflates as well, but what a damaged dump makes it throw, nobody can catch.
  const archive = await promisify(gunzip)(dump);
  const loadDataDir = new Blob([archive], { type: 'application/x-tar' });
  const made = await PGlite.create({ dataDir: unfinished, loadDataDir });
  await made.close();
  await rename(unfinished, folder);
}

/**
 * Connects to a PostgreSQL server.
 *
 * @throws MillraceError `CONFIG_INVALID` naming DATABASE_URL when it cannot be reached; never with its password
 */
export async function openServer(url: string, log: Logger): Promise<OpenedDatabase> {
  const pool = new pg.Pool({
    connectionString: url,
    max: 8,
    connectionTimeoutMillis: 10_000,
    // A server that vanished without a word would otherwise be waited for for a quarter of an hour.
    query_timeout: 30_000,
    keepAlive: true,
  });
  // A connection that breaks while idle has nobody else to tell; the pool replaces it.
  pool.on('error', (error) => log.warn({ error: errorText(error) }, 'a connection to PostgreSQL broke'));
  try {
    await pool.query('SELECT 1');
  } catch (error) {
    await pool.end();
    const where = URL.parse(url)?.host ?? 'the server';
    // A server that says no has answered: a role, a password, or a database that is not there.
    const what = error instanceof pg.DatabaseError ? 'refuses' : 'does not answer';
    throw new MillraceError('CONFIG_INVALID', `DATABASE_URL: ${where} ${what}: ${errorText(error)}`, {
      cause: error,
    });
  }
  return {
    database: drizzleServer({ client: pool, schema }),
    listen: (listener) => new Notices({ url, log, ...listener }),
    close: () => pool.end(),
  };
}

/** What the database says of a failure, without the statement and its values. */
export function recordsError(error: unknown): MillraceError {
  if (error instanceof MillraceError) return error;
  const cause = error instanceof DrizzleQueryError ? error.cause : error;
  return new MillraceError('RECORDS_FAILED', errorText(cause), { cause });
}

/** The same object, whose methods throw nothing but MillraceError. */
export function guarded<T extends object>(tables: T): T {
  return new Proxy(tables, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        const result: unknown = Reflect.apply(value, target, args);
        if (!(result instanceof Promise)) return result;
        return result.catch((error) => {
          throw recordsError(error);
        });
      };
    },
  });
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
