import { type ChildProcess, spawn } from 'node:child_process';
import { errorText, limits, MillraceError } from '@millrace/wire';
import { type JournalEntry, readEntry, readLargeEntry, wantedFields } from './entry.ts';
import { RecordSplitter } from './records.ts';

export interface JournalctlOptions {
  /** Default: `journalctl`, from the PATH. */
  command?: string | undefined;
  /** Folder of journal files instead of this machine's own. */
  directory?: string | undefined;
  /** What to begin with, and whether to follow. */
  args: readonly string[];
  /** Ends the program. */
  signal: AbortSignal;
  /** The program says something; it goes on. */
  onSaid?(text: string): void;
}

/** A cursor and a few names are in 64 KB of both ends, whatever the message between them. */
const endBytes = 64 * 1024;
const maxSaidBytes = 4096;

/**
 * Runs `journalctl` and gives the entries that it prints. Holds it back while the reader is busy. Returns when the
 * program has ended by itself or by the signal.
 *
 * @throws MillraceError `SOURCE_UNREADABLE` when it cannot be started or ends with an error
 */
export async function* journalEntries(options: JournalctlOptions): AsyncGenerator<JournalEntry, void, void> {
  const { command = 'journalctl', directory, args, signal, onSaid } = options;
  if (signal.aborted) return;
  const child = spawn(
    command,
    [
      '--output=json',
      // Without it what is longer than 4 KB is left out.
      '--all',
      `--output-fields=${wantedFields.join(',')}`,
      '--no-pager',
      ...(directory === undefined ? [] : [`--directory=${directory}`]),
      ...args,
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const closed = closing(child);
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = `${said}${text}`.slice(-maxSaidBytes);
    onSaid?.(text.trim());
  });
  const stop = () => child.kill();
  signal.addEventListener('abort', stop, { once: true });
  const records = new RecordSplitter({ maxBytes: limits.maxReceivedLineBytes, endBytes });
  try {
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
      for (const { text, cutBytes } of records.push(chunk)) {
        const entry = cutBytes === undefined ? readEntry(text) : readLargeEntry(text, cutBytes);
        if (entry) yield entry;
        if (signal.aborted) return;
      }
    }
    const { error, code, by } = await closed;
    if (signal.aborted) return;
    if (error) throw unreadable(startFailure(command, error), error);
    if (code !== 0) {
      const why = said.trim().split('\n').at(-1) || `it ended with ${by ?? code}`;
      throw unreadable(`journalctl: ${why}`);
    }
  } finally {
    signal.removeEventListener('abort', stop);
    child.kill();
    child.stdout.destroy();
    await closed;
  }
}

interface Ending {
  error?: Error;
  code?: number | null;
  by?: NodeJS.Signals | null;
}

function closing(child: ChildProcess): Promise<Ending> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve({ error }));
    child.once('close', (code, by) => resolve({ code, by }));
  });
}

function startFailure(command: string, error: Error): string {
  return (error as NodeJS.ErrnoException).code === 'ENOENT'
    ? `the program ${command} is not installed`
    : `${command} cannot be started: ${errorText(error)}`;
}

function unreadable(detail: string, cause?: unknown): MillraceError {
  return new MillraceError('SOURCE_UNREADABLE', `the system's journal cannot be read: ${detail}`, { cause });
}
