import { access } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { CloudConfig } from '../config.ts';
import { inspectRecords } from '../records/inspect.ts';
import { clockResult } from './clock.ts';
import { type CheckResult, failed } from './result.ts';

/** Whether the records open, and how their tables stand. */
export async function checkRecords(
  config: CloudConfig,
  { isRunning, log }: { isRunning: boolean; log: Logger },
): Promise<CheckResult[]> {
  const part = 'records';
  const { databaseUrl } = config;
  const folder = join(config.dataDir, 'records');
  if (databaseUrl === undefined) {
    if (isRunning) return [];
    const isThere = await access(folder).then(
      () => true,
      () => false,
    );
    if (!isThere) return [{ part, state: 'ok', detail: 'embedded; will be made at the first start' }];
  }
  const place = databaseUrl === undefined ? 'embedded' : URL.parse(databaseUrl)?.host;
  try {
    const found = await inspectRecords({ folder, databaseUrl, log });
    const clocks = databaseUrl === undefined ? [] : [clockResult('clock of PostgreSQL', found.nowMs)];
    const { version, newest, server } = found;
    if (version > newest) {
      return [
        {
          part,
          state: 'failed',
          detail: `${place}: made by a newer program (version ${version}, this one knows ${newest})`,
          action: 'Install that version of Millrace or a later one.',
        },
        ...clocks,
      ];
    }
    const tables =
      version === newest
        ? `version ${version}`
        : `version ${version}, brought up to ${newest} at the next start`;
    return [{ part, state: 'ok', detail: `${place}, PostgreSQL ${server}, ${tables}` }, ...clocks];
  } catch (error) {
    const action =
      databaseUrl === undefined ? undefined : 'Check DATABASE_URL, the database, the server and the network.';
    return [{ ...failed(part, error), ...(action && { action }) }];
  }
}
