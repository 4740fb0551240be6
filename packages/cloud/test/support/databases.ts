import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { type PostgresServer, startPostgres } from '../../../../tests/support/postgres.ts';
import { Records } from '../../src/records/records.ts';
import { copyEmptyRecords } from './records-template.ts';

/** One of the two databases that the records can be in. */
export interface TestDatabase extends AsyncDisposable {
  /** Options for `Records.open`: each call of `fresh` gives those of an empty database. */
  fresh(): Promise<{ dataDir: string; databaseUrl?: string }>;
}

const log = pino({ level: 'silent' });

/** For tests that must hold on both, run by the same code. */
export const databaseKinds = ['embedded', 'server'] as const;

export async function startDatabase(kind: (typeof databaseKinds)[number]): Promise<TestDatabase> {
  const root = await mkdtemp(join(tmpdir(), 'millrace-test-'));
  let server: PostgresServer | undefined;
  let folders = 0;
  if (kind === 'server') server = await startPostgres();
  return {
    async fresh() {
      const dataDir = join(root, String(++folders));
      if (server) return { dataDir, databaseUrl: await server.database() };
      await copyEmptyRecords(dataDir);
      return { dataDir };
    },
    async [Symbol.asyncDispose]() {
      await server?.[Symbol.asyncDispose]();
      await rm(root, { recursive: true, force: true });
    },
  };
}

export function openRecords(where: { dataDir: string; databaseUrl?: string }): Promise<Records> {
  return Records.open({ ...where, log });
}
