import { readdirSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { identityOf, type LogFile, openLogFile } from './log-file.ts';

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
    const opened = names.map(openIfThere);
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

/**
 * Opens the files that have come behind the one that is known, oldest first, without waiting for anything;
 * `isNext` says whether the known one was still there, so that none is missing. `undefined` when that cannot be told
 * right now: a rotation is under way, or files are compressed, which a name tells nothing of.
 */
export function openNewer(
  path: string,
  knownIdentity: string,
): { files: LogFile[]; isNext: boolean } | undefined {
  for (let attempt = 0; attempt < maxQuickAttempts; attempt++) {
    const names = namesOf(path);
    if (names.at(-1) !== path) continue;
    const identities = names.map(identityAt);
    const known = identities.lastIndexOf(knownIdentity);
    const newer = names.slice(known + 1);
    if (known < 0 && newer.some((name) => name.endsWith('.gz'))) return undefined;
    const opened = newer.map(openIfThere);
    const files = opened.filter((file) => file !== undefined);
    const isWhole = opened.every((file, i) => file?.identity === identities[known + 1 + i]);
    // Else it was rotated while we looked: a name may have meant another file before than a moment later.
    if (isWhole && String(names.map(identityAt)) === String(identities)) {
      for (const file of files.slice(0, -1)) file.isFinal = true;
      return { files, isNext: known >= 0 };
    }
    closeAll(files);
  }
  return undefined;
}

const maxQuickAttempts = 3;

export function closeAll(files: readonly LogFile[]): void {
  for (const file of files) file.close();
}

/** Which file a name means at this moment; `undefined` when it means none. */
export function identityAt(path: string): string | undefined {
  const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stats && identityOf(stats);
}

/** Names of the log's files, oldest first. */
function namesOf(path: string): string[] {
  const base = basename(path);
  const numbers = new Map<number, string>();
  for (const name of namesIn(dirname(path))) {
    if (!name.startsWith(base)) continue;
    const match = /^(?:\.(\d{1,6}))?(\.gz)?$/.exec(name.slice(base.length));
    if (!match || (match[2] && !match[1])) continue;
    const number = Number(match[1] ?? 0);
    // What is being compressed is whole only where it is not.
    if (!match[2] || !numbers.has(number)) numbers.set(number, name);
  }
  return [...numbers].sort(([a], [b]) => b - a).map(([, name]) => join(dirname(path), name));
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

function openIfThere(path: string): LogFile | undefined {
  try {
    return openLogFile(path);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

export function isMissing(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ENOTDIR';
}
