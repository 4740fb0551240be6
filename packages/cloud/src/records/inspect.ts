import { sql } from 'drizzle-orm';
import type { Logger } from 'pino';
import { openEmbedded, openServer, recordsError } from './database.ts';
import { newestVersion } from './migrations.ts';

export interface RecordsState {
  /** Of the server. */
  server: string;
  /** Of the tables; 0 when there are none. */
  version: number;
  /** That this program knows. */
  newest: number;
  /** By the database's clock. */
  nowMs: number;
}

/**
 * Looks at the records without changing them.
 *
 * @throws MillraceError `CONFIG_INVALID`, `DATA_DIR_UNUSABLE`, `RECORDS_FAILED`
 */
export async function inspectRecords(options: {
  folder: string;
  databaseUrl?: string;
  log: Logger;
}): Promise<RecordsState> {
  const { folder, databaseUrl, log } = options;
  const { database, close } = databaseUrl ? await openServer(databaseUrl, log) : await openEmbedded(folder);
  try {
    const one = async <T>(statement: ReturnType<typeof sql>) =>
      ((await database.execute(statement)) as unknown as { rows: T[] }).rows[0] as T;
    const { server, now, tables } = await one<{ server: string; now: string; tables: string | null }>(
      sql`SELECT current_setting('server_version') AS server, (extract(epoch FROM clock_timestamp()) * 1000)::text AS now,
        to_regclass('millrace_migrations')::text AS tables`,
    );
    const version =
      tables === null
        ? 0
        : (
            await one<{ version: number }>(
              sql`SELECT coalesce(max(version), 0)::int AS version FROM millrace_migrations`,
            )
          ).version;
    return { server, version, newest: newestVersion, nowMs: Number(now) };
  } catch (error) {
    throw recordsError(error);
  } finally {
    await close();
  }
}
