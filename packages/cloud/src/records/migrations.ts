import { MillraceError } from '@millrace/wire';
import { sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { deployMigration } from './deploy-migration.ts';
import { divisionMigration } from './division-migration.ts';
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
  {
    version: 2,
    name: 'fleets, tags, scopes of tokens, saved searches, audit',
    statements: [
      `CREATE TABLE fleets (
         name text PRIMARY KEY,
         description text,
         created_at_ms bigint NOT NULL
       )`,
      `ALTER TABLE devices ALTER COLUMN key_hash DROP NOT NULL`,
      `ALTER TABLE devices ADD COLUMN fleet text REFERENCES fleets (name) ON DELETE SET NULL`,
      'CREATE INDEX devices_fleet ON devices (fleet)',
      `CREATE TABLE device_tags (
         device text NOT NULL REFERENCES devices (uuid) ON DELETE CASCADE,
         key text NOT NULL,
         value text NOT NULL,
         PRIMARY KEY (device, key)
       )`,
      'CREATE INDEX device_tags_value ON device_tags (key, value)',
      `ALTER TABLE tokens
         ADD COLUMN fleets text[],
         ADD COLUMN devices text[],
         ADD COLUMN created_by text,
         ADD COLUMN expires_at_ms bigint`,
      `CREATE TABLE saved_searches (
         id text PRIMARY KEY,
         name text NOT NULL UNIQUE,
         query text NOT NULL,
         since text,
         until text,
         created_by text NOT NULL,
         created_at_ms bigint NOT NULL,
         changed_at_ms bigint NOT NULL
       )`,
      `CREATE TABLE audit (
         id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
         at_ms bigint NOT NULL,
         actor text NOT NULL,
         action text NOT NULL,
         subject text NOT NULL,
         detail jsonb NOT NULL
       )`,
      'CREATE INDEX audit_subject ON audit (subject, id)',
      // What was done cannot be made undone by this program either.
      `CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$`,
      `CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
         FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()`,
    ],
  },
  {
    version: 3,
    name: 'device states',
    statements: [
      `CREATE TABLE device_states (
         uuid text PRIMARY KEY,
         state jsonb NOT NULL,
         reported_at_ms bigint NOT NULL,
         changed_at_ms bigint NOT NULL
       )`,
      `CREATE TABLE device_state_changes (
         id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
         uuid text NOT NULL,
         at_ms bigint NOT NULL,
         changes jsonb NOT NULL
       )`,
      'CREATE INDEX device_state_changes_uuid ON device_state_changes (uuid, id)',
      // A report brings a key and its uuid only in its body, which is not read for a stranger.
      'CREATE INDEX devices_key_hash ON devices (key_hash)',
    ],
  },
  {
    version: 4,
    name: 'policies, refusals over quota',
    statements: [
      `CREATE TABLE policies (
         id text PRIMARY KEY,
         selector text NOT NULL UNIQUE,
         fleet text REFERENCES fleets (name) ON DELETE CASCADE,
         device text,
         service text,
         level text,
         retention_days int,
         daily_quota_bytes bigint,
         changed_at_ms bigint NOT NULL
       )`,
      `CREATE TABLE quota_refusals (
         device text NOT NULL,
         day text NOT NULL,
         since_ms bigint NOT NULL,
         dropped bigint NOT NULL,
         dropped_bytes bigint NOT NULL,
         PRIMARY KEY (device, day)
       )`,
    ],
  },
  peersMigration,
  deployMigration,
  divisionMigration,
];

/** Version of the tables that this program makes. */
export const newestVersion = Math.max(...migrations.map(({ version }) => version));

// Any number does, as long as every process uses the same.
const lockKey = 7_276_417;

/**
 * Brings the tables up to this program's version, in one transaction. Safe when several processes start at
 * once: the second waits for the first.
 *
 * @param upTo the last version to go to; for tests of those that come after it
 * @throws MillraceError `DATA_DIR_UNUSABLE` when a newer program has been here
 */
export async function migrate(database: Database, upTo = Number.POSITIVE_INFINITY): Promise<void> {
  await database.transaction(async (tx) => {
    await tx.execute(sql`SELECT pg_advisory_xact_lock(${lockKey})`);
    await tx.execute(
      sql`CREATE TABLE IF NOT EXISTS millrace_migrations (version int PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`,
    );
    const { rows } = (await tx.execute(
      sql`SELECT coalesce(max(version), 0)::int AS version FROM millrace_migrations`,
    )) as unknown as { rows: { version: number }[] };
    const current = rows[0]?.version ?? 0;
    if (current > newestVersion) {
      throw new MillraceError(
        'DATA_DIR_UNUSABLE',
        `the records are at version ${current} and this program knows only ${newestVersion}: it is older than the one that wrote them`,
      );
    }
    for (const { version, name, statements } of migrations) {
      if (version <= current || version > upTo) continue;
      for (const statement of statements) await tx.execute(sql.raw(statement));
      await tx.execute(sql`INSERT INTO millrace_migrations (version, name) VALUES (${version}, ${name})`);
    }
  });
}
