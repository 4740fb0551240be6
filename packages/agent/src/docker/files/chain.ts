import { setImmediate as nextTurn } from 'node:timers/promises';
import { type LogFile, openLogFile } from './log-file.ts';
import { closeAll, identityAt, namesOf, openIfThere } from './newer.ts';

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
