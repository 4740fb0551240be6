import { MillraceClient } from '@millrace/client';
import { backUpOffline, restore } from '@millrace/cloud/backup';
import { type CheckResult, checkCloud } from '@millrace/cloud/check';
import { readCloudConfig } from '@millrace/cloud/config';
import { type Backup, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import { findAccess } from '../logs/access.ts';
import { painter, wantsColour } from '../terminal/colours.ts';
import { harmless } from '../terminal/harmless.ts';

export interface CloudCommandContext {
  env: Record<string, string | undefined>;
  stdout: NodeJS.WritableStream & { isTTY?: boolean };
  log: Logger;
}

/** `millrace cloud check`. Returns whether nothing has failed. */
export async function check(json: boolean, { env, stdout, log }: CloudCommandContext): Promise<boolean> {
  const results = await checkCloud({ env, log });
  if (json) stdout.write(`${JSON.stringify(results, undefined, 2)}\n`);
  else stdout.write(table(results, painter(wantsColour(stdout, env))));
  return results.every(({ state }) => state !== 'failed');
}

function table(results: readonly CheckResult[], paint: ReturnType<typeof painter>): string {
  const colours = { ok: 'green', warning: 'yellow', failed: 'red' } as const;
  const width = Math.max(...results.map(({ part }) => part.length));
  const lines = results.flatMap(({ part, state, detail, action }) => [
    `${paint(colours[state], state.padEnd(7))}  ${part.padEnd(width)}  ${harmless(detail)}`,
    ...(action === undefined ? [] : [`${' '.repeat(9 + width)}  ${harmless(action)}`]),
  ]);
  return `${lines.join('\n')}\n`;
}

/** `millrace cloud backup`: by the cloud that runs, or without it when there is none. */
export async function backUp(
  { url, json = false }: { url?: string; json?: boolean },
  { env, stdout, log }: CloudCommandContext,
): Promise<void> {
  const made = await backUpRunning(url, env).catch((error) => {
    const isRunning = !(error instanceof MillraceError) || !offlineCodes.has(error.code);
    // An address that was named is the one that is meant.
    if (isRunning || url !== undefined || env.MILLRACE_URL) throw error;
    return backUpOffline(readCloudConfig(env), log).catch((offline: unknown) => {
      throw withAddress(offline, error);
    });
  });
  if (json) stdout.write(`${JSON.stringify({ path: made.path, lines: made.lines })}\n`);
  else stdout.write(`${harmless(made.path)}: ${made.lines} lines${recordsNote(made.records)}\n`);
}

/** A folder that is in use though nobody answered: then the cloud is looked for in the wrong place. */
function withAddress(offline: unknown, online: MillraceError): unknown {
  if (!(offline instanceof MillraceError) || offline.code !== 'DATA_DIR_UNUSABLE') return offline;
  return new MillraceError(offline.code, `${offline.detail} | and no cloud was found: ${online.detail}`, {
    cause: offline,
  });
}

/** What says that no cloud runs here: nobody answers, or none has left a token. */
const offlineCodes = new Set(['SERVER_UNREACHABLE', 'TOKEN_UNUSABLE']);

async function backUpRunning(
  url: string | undefined,
  env: CloudCommandContext['env'],
): Promise<Pick<Backup, 'path' | 'lines' | 'records'>> {
  return new MillraceClient(await findAccess(url, env)).store.backUp();
}

function recordsNote(isInside: boolean): string {
  return isInside
    ? ' and the records'
    : '; the records are in a PostgreSQL server, which has backups of its own';
}

/** `millrace cloud restore`. */
export async function restoreFrom(from: string, { env, stdout, log }: CloudCommandContext): Promise<void> {
  const { dataDir, clickhouseUrl, databaseUrl } = readCloudConfig(env);
  const { lines, records, createdAtMs } = await restore({ from, dataDir, clickhouseUrl, databaseUrl, log });
  const from1970 = new Date(createdAtMs).toISOString();
  stdout.write(`${dataDir}: ${lines} lines${recordsNote(records)}, as of ${from1970}\n`);
}
