import { MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import type { LogEngine } from '../engine.ts';
import { integer, string } from '../sql.ts';
import { logsMigration } from './0001-logs.ts';
import { repeatsMigration } from './0002-repeats.ts';
import { retentionMigration } from './0003-retention.ts';
import { fencesMigration } from './0004-fences.ts';
import { countsMigration } from './0005-counts.ts';
import { mergingMigration } from './0006-merging.ts';
import { smallBlocksMigration } from './0007-small-blocks.ts';
import type { Migration } from './migration.ts';

export type { Migration } from './migration.ts';

export const migrations: readonly Migration[] = [
  logsMigration,
  repeatsMigration,
  retentionMigration,
  fencesMigration,
  countsMigration,
  mergingMigration,
  smallBlocksMigration,
];

/**
 * Brings the schema up to date and returns the versions that were applied just now.
 *
 * @throws MillraceError `STORE_TOO_NEW` when a later program made it, `STORE_FAILED` when the engine fails
 */
export async function migrate(
  engine: LogEngine,
  log: Logger,
  steps: readonly Migration[] = migrations,
): Promise<number[]> {
  await engine.command(`CREATE DATABASE IF NOT EXISTS ${engine.database}`);
  await engine.command(
    `CREATE TABLE IF NOT EXISTS millrace.migrations (version UInt32, name String, applied DateTime DEFAULT now())
     ENGINE = MergeTree ORDER BY version SETTINGS fsync_after_insert = 1, fsync_part_directory = 1`,
  );
  const rows = await engine.query<{ version: number }>('SELECT DISTINCT version FROM millrace.migrations');
  const done = new Set(rows.map((row) => row.version));
  const newest = Math.max(0, ...steps.map((step) => step.version));
  const unknown = Math.max(0, ...done);
  if (unknown > newest) {
    throw new MillraceError(
      'STORE_TOO_NEW',
      `${engine.place} is at version ${unknown}, this program knows ${newest}`,
    );
  }
  const applied: number[] = [];
  for (const step of steps) {
    if (done.has(step.version)) continue;
    for (const part of step.statements) {
      if (typeof part === 'string') await engine.command(part);
      else if ((await engine.query(part.onlyIf)).length > 0) await engine.command(part.statement);
    }
    await engine.command(
      `INSERT INTO millrace.migrations (version, name) SELECT ${integer(step.version)}, ${string(step.name)}`,
    );
    log.info({ version: step.version, name: step.name }, 'log store: schema step applied');
    applied.push(step.version);
  }
  return applied;
}
