import { once } from 'node:events';
import type { ExportFile } from '@millrace/client';
import { MillraceError } from '@millrace/wire';
import { connect, type FilterOptions, type LogsContext, noticesOn, parseFilter } from './connect.ts';
import { serverQuery } from './filter.ts';

/** The command line of `millrace export`, as text. */
export interface ExportOptions extends FilterOptions {
  format: 'ndjson' | 'csv' | 'text';
  order: 'asc' | 'desc';
  formulas: 'escape' | 'keep';
}

const progressIntervalMs = 200;
const newline = 10;
const quote = 34;

/**
 * Writes all lines of a query to stdout, and on a terminal how far it is to stderr. What it wrote is whole if it
 * returns and the signal is not aborted.
 *
 * @throws MillraceError `PARAMETER_INVALID`, `TOKEN_UNUSABLE`, `SERVER_UNREACHABLE`
 */
export async function exportLogs(
  words: string[],
  options: ExportOptions,
  context: LogsContext,
): Promise<void> {
  const { stdout, stderr, signal } = context;
  const notice = noticesOn(context);
  const { client, filter } = await connect(parseFilter(words, options), {
    url: options.url,
    notice,
    context,
  });
  const { format, order, formulas } = options;
  const file = await client.export({ ...serverQuery(filter), format, order, formulas }, { signal });
  // Both on one terminal would only be in each other's way.
  const progress = new Progress(file, stderr.isTTY && !stdout.isTTY ? stderr : undefined);
  try {
    for await (const chunk of file.bytes) {
      progress.count(chunk, format);
      if (!stdout.write(chunk)) await once(stdout, 'drain', { signal });
    }
  } catch (error) {
    progress.end();
    if (signal.aborted || !(error instanceof MillraceError)) throw error;
    throw new MillraceError(error.code, `the export broke off and is not whole: ${error.detail}`, {
      cause: error,
    });
  }
  progress.end();
  if (file.lines === 0) notice('no line matches');
}

class Progress {
  readonly #file: ExportFile;
  readonly #terminal: NodeJS.WritableStream | undefined;
  #lines = 0;
  #bytes = 0;
  #isQuoted = false;
  #shownAtMs = 0;

  constructor(file: ExportFile, terminal: NodeJS.WritableStream | undefined) {
    this.#file = file;
    this.#terminal = terminal;
  }

  count(chunk: Uint8Array, format: ExportOptions['format']): void {
    if (!this.#terminal) return;
    this.#bytes += chunk.length;
    for (const byte of chunk) {
      // A cell of a CSV may have lines of its own.
      if (byte === quote && format === 'csv') this.#isQuoted = !this.#isQuoted;
      else if (byte === newline && !this.#isQuoted) this.#lines++;
    }
    if (Date.now() - this.#shownAtMs >= progressIntervalMs) this.#show();
  }

  end(): void {
    if (!this.#terminal || this.#bytes === 0) return;
    this.#show();
    this.#terminal.write('\n');
  }

  #show(): void {
    this.#shownAtMs = Date.now();
    const total = this.#file.lines;
    // The header row of a CSV is none of them.
    const lines = Math.min(this.#lines, total);
    const percent = total === 0 ? 100 : Math.floor((lines / total) * 100);
    const megabytes = (this.#bytes / 1e6).toFixed(1);
    this.#terminal?.write(`\r\x1b[K${lines} of ${total} lines (${percent} %), ${megabytes} MB`);
  }
}
