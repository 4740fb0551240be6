import { once } from 'node:events';
import { MillraceError, type StoredLine } from '@millrace/wire';
import { wantsColour } from '../terminal/colours.ts';
import { connect, type FilterOptions, type LogsContext, noticesOn, parseFilter } from './connect.ts';
import { parseLimit, serverQuery } from './filter.ts';
import { follow } from './follow.ts';
import { formatLine } from './format.ts';

/** The command line of `millrace logs`, as text. */
export interface LogsOptions extends FilterOptions {
  follow?: boolean;
  limit: string;
  json?: boolean;
}

/**
 * Prints lines from the cloud, oldest first, and with `follow` goes on printing those that arrive.
 *
 * @throws MillraceError `PARAMETER_INVALID`, `TOKEN_UNUSABLE`, `SERVER_UNREACHABLE`
 */
export async function printLogs(words: string[], options: LogsOptions, context: LogsContext): Promise<void> {
  const { env, stdout, signal } = context;
  const asked = parseFilter(words, options);
  const limit = parseLimit('--limit', options.limit);
  if (options.follow && asked.untilMs !== undefined) {
    throw new MillraceError('PARAMETER_INVALID', '--until has an end and --follow has none: use one of them');
  }
  const notice = noticesOn(context);
  const { client, filter } = await connect(asked, { url: options.url, notice, context });

  const style = { json: options.json === true, colourful: wantsColour(stdout, env) };
  const print = async (line: StoredLine) => {
    if (stdout.write(formatLine(line, style))) return;
    // Rejects only when the signal ends the wait, which the caller sees by itself.
    await once(stdout, 'drain', { signal }).catch(() => undefined);
  };
  if (options.follow) {
    for await (const line of follow({ client, filter, limit, signal, onNotice: notice })) await print(line);
    return;
  }
  if (limit === 0) return;
  const { logs } = await client.search({ ...serverQuery(filter), limit, order: 'desc' }, { signal });
  for (const line of logs.reverse()) {
    if (signal.aborted) return;
    await print(line);
  }
  if (logs.length === 0) notice('no line matches');
}
