import { setImmediate as nextTurn } from 'node:timers/promises';
import { type LogFile, openLogFile } from './log-file.ts';
import { closeAll, identityAt, namesOf, openIfThere } from './newer.ts';
import { headOf } from './point.ts';

/**
 * A log and what the engine kept of it when it rotated it, all opened, oldest first. The engine renames `log.1` to
 * `log.2`, then `log` to `log.1`, and begins a new `log`; with compression `log.1` becomes `log.1.gz` some time
 * later, and meanwhile there are both. It may do so while we look, so whatever was opened is looked at again, and
 * counts only if every name still means the same file.
 */
export async function openChain(path: string): Promise<LogFile[]> {
  let files: LogFile[] = [];
  for (let attempt = 0; attempt < maxAttempts; attempt++) {
    const names = namesOf(path);
    const opened = names.map((name) => openIfThere(name, openLogFile));
    files = opened.filter((file) => file !== undefined);
    const isWhole = opened.every((file, i) => file && identityAt(names[i] as string) === file.identity);
    if (isWhole && String(namesOf(path)) === String(names)) break;
    if (attempt < maxAttempts - 1) closeAll(files);
    await nextTurn();
  }
  for (const file of files.slice(0, -1)) file.isFinal = true;
  return files;
}

const maxAttempts = 50;

/** How the file begins that is written to must be known before it can be cut. */
export async function readHead(live: LogFile | undefined, buffer: Buffer): Promise<void> {
  if (!live || live.isFinal) return;
  const bytes = await live.read(buffer, 0);
  const end = buffer.subarray(0, bytes).indexOf(newline);
  if (end >= 0) live.head = headOf(buffer, end + 1);
}

const newline = 0x0a;
