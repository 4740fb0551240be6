import { once } from 'node:events';
import { MillraceError } from '@millrace/wire';
import { painter, wantsColour } from '../terminal/colours.ts';
import { harmless } from '../terminal/harmless.ts';
import { findAccess, isThisMachine } from './access.ts';
import { type LogFilter, parseLevels, parseLimit, parseMoment } from './filter.ts';
import { follow } from './follow.ts';
import { formatLine } from './format.ts';
import { LogServer } from './server.ts';

/** The command line of `millrace logs`, as text. */
export interface LogsOptions {
  follow?: boolean;
  device?: string;
  service?: string;
  level?: string;
  stream?: 'stdout' | 'stderr';
  since?: string;
  until?: string;
  limit: string;
  json?: boolean;
  url?: string;
}

export interface LogsContext {
  env: Record<string, string | undefined>;
  stdout: NodeJS.WritableStream & { isTTY?: boolean };
  stderr: NodeJS.WritableStream & { isTTY?: boolean };
  /** Aborted to end it. */
  signal: AbortSignal;
}

/**
 * Prints lines from the cloud, oldest first, and with `follow` goes on printing those that arrive.
 *
 * @throws MillraceError `PARAMETER_INVALID`, `TOKEN_UNUSABLE`, `SERVER_UNREACHABLE`
 */
export async function printLogs(words: string[], options: LogsOptions, context: LogsContext): Promise<void> {
  const { env, stdout, stderr, signal } = context;
  const nowMs = Date.now();
  const filter: LogFilter = {
    device: options.device,
    service: options.service,
    levels: options.level === undefined ? undefined : parseLevels('--level', options.level),
    stream: options.stream,
    sinceMs: options.since === undefined ? undefined : parseMoment('--since', options.since, nowMs),
    untilMs: options.until === undefined ? undefined : parseMoment('--until', options.until, nowMs),
    query: words.length > 0 ? words.join(' ') : undefined,
  };
  const limit = parseLimit('--limit', options.limit);
  if (options.follow && filter.untilMs !== undefined) {
    throw new MillraceError('PARAMETER_INVALID', '--until has an end and --follow has none: use one of them');
  }

  const notice = (text: string) => {
    stderr.write(`${painter(wantsColour(stderr, env))('dim', `millrace: ${harmless(text)}`)}\n`);
  };
  const access = await findAccess(options.url, env);
  const { protocol, hostname } = new URL(access.url);
  if (protocol === 'http:' && !isThisMachine(hostname)) {
    notice(`the token travels to ${hostname} unencrypted; use https where you can`);
  }
  const server = new LogServer({ access, renew: () => findAccess(options.url, env) });
  if (filter.device !== undefined) filter.device = await fullUuid(server, filter.device, signal);

  const style = { json: options.json === true, colourful: wantsColour(stdout, env) };
  const print = async (line: Parameters<typeof formatLine>[0]) => {
    if (stdout.write(formatLine(line, style))) return;
    // Rejects only when the signal ends the wait, which the caller sees by itself.
    await once(stdout, 'drain', { signal }).catch(() => undefined);
  };
  if (options.follow) {
    for await (const line of follow({ server, filter, limit, signal, onNotice: notice })) await print(line);
    return;
  }
  if (limit === 0) return;
  const { logs } = await server.search(filter, { limit, order: 'desc', signal });
  for (const line of logs.reverse()) {
    if (signal.aborted) return;
    await print(line);
  }
  if (logs.length === 0) notice('no line matches');
}

/** We show the beginning of a uuid, so its beginning is also enough to ask by. */
async function fullUuid(server: LogServer, given: string, signal: AbortSignal): Promise<string> {
  const uuids = await server.deviceUuids(signal);
  if (uuids.includes(given)) return given;
  const matching = uuids.filter((uuid) => uuid.startsWith(given));
  if (matching.length === 1) return matching[0] as string;
  const some = (matching.length > 1 ? matching : uuids).slice(0, 10).join(', ') || 'none yet';
  const problem = matching.length > 1 ? 'several devices begin so' : 'there is no such device';
  throw new MillraceError('PARAMETER_INVALID', `--device ${given}: ${problem} (${some})`);
}
