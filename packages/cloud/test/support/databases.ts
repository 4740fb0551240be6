import { join } from 'node:path';
import pino from 'pino';
import { copyNewRecords } from '../../../../tests/support/cloud-template.ts';
import { type PostgresServer, startPostgres } from '../../../../tests/support/postgres.ts';
import { memoryDir } from '../../../../tests/support/tmp.ts';
import { Records } from '../../src/records/records.ts';

/** One of the two databases that the records can be in. */
export interface TestDatabase extends AsyncDisposable {
  /** Options for `Records.open`: each call of `fresh` gives those of an empty database. */
  fresh(): Promise<{ dataDir: string; databaseUrl?: string }>;
}

const log = pino({ level: 'silent' });

/** For tests that must hold on both, run by the same code. */
export const databaseKinds = ['embedded', 'server'] as const;

export async function startDatabase(kind: (typeof databaseKinds)[number]): Promise<TestDatabase> {
  const root = await memoryDir();
  let server: PostgresServer | undefined;
  let folders = 0;
  if (kind === 'server') server = await startPostgres();
  return {
    async fresh() {
      const dataDir = join(root.path, String(++folders));
      if (server) return { dataDir, databaseUrl: await server.database() };
      await copyNewRecords(dataDir);
      return { dataDir };
    },
    async [Symbol.asyncDispose]() {
      await server?.[Symbol.asyncDispose]();
      await root[Symbol.asyncDispose]();
    },
  };
}

export function openRecords(where: { dataDir: string; databaseUrl?: string }): Promise<Records> {
  return Records.open({ ...where, log });
}
