import { MillraceError } from '@millrace/wire';
import { sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { peersMigration } from './peers-migration.ts';

interface Migration {
  version: number;
  name: string;
  statements: readonly string[];
}

/** The one history of the records' tables. Append to it; a migration that was released never changes. */
const migrations: readonly Migration[] = [
  {
    version: 1,
    name: 'devices, tokens, presence',
    statements: [
      `CREATE TABLE devices (
         uuid text PRIMARY KEY,
         name text,
         key_hash text NOT NULL,
         created_at_ms bigint NOT NULL
       )`,
      `CREATE TABLE tokens (
         name text PRIMARY KEY,
         role text NOT NULL,
         hash text NOT NULL,
         created_at_ms bigint NOT NULL
       )`,
      'CREATE INDEX tokens_hash ON tokens (hash)',
      `CREATE TABLE presence (
         uuid text PRIMARY KEY,
         online boolean NOT NULL,
         changed_at_ms bigint NOT NULL
       )`,
    ],
  },
  peersMigration,
];

// Any number does, as long as every process uses the same.
const lockKey = 7_276_417;

/**
 * Brings the tables up to this program's version, in one transaction. Safe when several processes start at
 * once: the second waits for the first.
 *
 * @throws MillraceError `DATA_DIR_UNUSABLE` when a newer program has been here
 */
export async function migrate(database: Database): Promise<void> {
  await database.transaction(async (tx) => {
    await tx.execute(sql`SELECT pg_advisory_xact_lock(${lockKey})`);
    await tx.execute(
      sql`CREATE TABLE IF NOT EXISTS millrace_migrations (version int PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`,
    );
    const { rows } = (await tx.execute(
      sql`SELECT coalesce(max(version), 0)::int AS version FROM millrace_migrations`,
    )) as unknown as { rows: { version: number }[] };
    const current = rows[0]?.version ?? 0;
    const newest = migrations.at(-1)?.version ?? 0;
    if (current > newest) {
      throw new MillraceError(
        'DATA_DIR_UNUSABLE',
        `the records are at version ${current} and this program knows only ${newest}: it is older than the one that wrote them`,
      );
    }
    for (const { version, name, statements } of migrations) {
      if (version <= current) continue;
      for (const statement of statements) await tx.execute(sql.raw(statement));
      await tx.execute(sql`INSERT INTO millrace_migrations (version, name) VALUES (${version}, ${name})`);
    }
  });
}
