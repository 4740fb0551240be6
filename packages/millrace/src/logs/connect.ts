import { MillraceClient } from '@millrace/client';
import { MillraceError } from '@millrace/wire';
import { painter, wantsColour } from '../terminal/colours.ts';
import { harmless } from '../terminal/harmless.ts';
import { findAccess, isThisMachine } from './access.ts';
import { type LogFilter, parseLevels, parseMoment } from './filter.ts';

/** What of a command line says which lines are meant, and where they are; as text. */
export interface FilterOptions {
  device?: string;
  service?: string;
  level?: string;
  stream?: 'stdout' | 'stderr';
  since?: string;
  until?: string;
  url?: string;
}

export interface LogsContext {
  env: Record<string, string | undefined>;
  stdout: NodeJS.WritableStream & { isTTY?: boolean };
  stderr: NodeJS.WritableStream & { isTTY?: boolean };
  /** Aborted to end it. */
  signal: AbortSignal;
}

/** Tells something on stderr that is no error. */
export type Notice = (text: string) => void;

export function noticesOn({ stderr, env }: LogsContext): Notice {
  return (text) => {
    stderr.write(`${painter(wantsColour(stderr, env))('dim', `millrace: ${harmless(text)}`)}\n`);
  };
}

/** @throws MillraceError `PARAMETER_INVALID` that names the option */
export function parseFilter(words: readonly string[], options: FilterOptions): LogFilter {
  const nowMs = Date.now();
  return {
    device: options.device,
    service: options.service,
    levels: options.level === undefined ? undefined : parseLevels('--level', options.level),
    stream: options.stream,
    sinceMs: options.since === undefined ? undefined : parseMoment('--since', options.since, nowMs),
    untilMs: options.until === undefined ? undefined : parseMoment('--until', options.until, nowMs),
    query: words.length > 0 ? words.join(' ') : undefined,
  };
}

/**
 * The server, and the filter with the whole uuid of its device.
 *
 * @throws MillraceError `PARAMETER_INVALID`, `TOKEN_UNUSABLE`, `SERVER_UNREACHABLE`
 */
export async function connect(
  filter: LogFilter,
  { url, notice, context }: { url: string | undefined; notice: Notice; context: LogsContext },
): Promise<{ client: MillraceClient; filter: LogFilter }> {
  const client = await openClient(url, notice, context);
  if (filter.device === undefined) return { client, filter };
  return { client, filter: { ...filter, device: await fullUuid(client, filter.device, context.signal) } };
}

/**
 * The server.
 *
 * @throws MillraceError `PARAMETER_INVALID`, `TOKEN_UNUSABLE`
 */
export async function openClient(
  url: string | undefined,
  notice: Notice,
  { env }: Pick<LogsContext, 'env'>,
): Promise<MillraceClient> {
  const access = await findAccess(url, env);
  const { protocol, hostname } = new URL(access.url);
  if (protocol === 'http:' && !isThisMachine(hostname)) {
    notice(`the token travels to ${hostname} unencrypted; use https where you can`);
  }
  return new MillraceClient({ ...access, renew: () => findAccess(url, env) });
}

/** We show the beginning of a uuid, so its beginning is also enough to ask by. */
async function fullUuid(client: MillraceClient, given: string, signal: AbortSignal): Promise<string> {
  const uuids: string[] = [];
  for await (const { uuid } of client.devices({}, { signal })) uuids.push(uuid);
  if (uuids.includes(given)) return given;
  const matching = uuids.filter((uuid) => uuid.startsWith(given));
  if (matching.length === 1) return matching[0] as string;
  const some = (matching.length > 1 ? matching : uuids).slice(0, 10).join(', ') || 'none yet';
  const problem = matching.length > 1 ? 'several devices begin so' : 'there is no such device';
  throw new MillraceError('PARAMETER_INVALID', `--device ${given}: ${problem} (${some})`);
}
