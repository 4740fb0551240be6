import { type BigIntStats, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

export function identityOf({ dev, ino }: Pick<BigIntStats, 'dev' | 'ino'>): string {
  return `${dev}:${ino}`;
}

/** Which file a name means at this moment; `undefined` when it means none. */
export function identityAt(path: string): string | undefined {
  const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stats && identityOf(stats);
}

/** Names of a log's files, oldest first. */
export function namesOf(path: string): string[] {
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

/** What is open, and tells files apart while it is. */
export interface Opened {
  readonly identity: string;
  close(): void;
}

export interface Newer<T> {
  /** Oldest first; the last is the one that is written to. */
  files: T[];
  /** Whether the known one was still there, so that none is missing. */
  isNext: boolean;
}

/**
 * The names from the known file's on, oldest first, or all that there are: by asking for each. Who lists a folder waits
 * for whoever renames in it, and that one may be without a processor for long.
 *
 * @param maxFiles so many the engine keeps, and compresses none
 */
function namesFrom(path: string, knownIdentity: string, maxFiles: number): string[] {
  const names: string[] = [];
  for (let number = 0; number < maxFiles; number++) {
    const name = number === 0 ? path : `${path}.${number}`;
    const identity = identityAt(name);
    if (identity === undefined) continue;
    names.unshift(name);
    if (identity === knownIdentity) break;
  }
  return names;
}

/**
 * Opens the files that have come behind the one that is known, without waiting for anything. `undefined` when that
 * cannot be told right now: a rotation is under way, or files are compressed, which a name tells nothing of.
 *
 * @param maxFiles that are kept, where none is compressed
 */
export function openNewer<T extends Opened>(
  path: string,
  knownIdentity: string,
  open: (path: string) => T,
  maxFiles?: number,
): Newer<T> | undefined {
  if (maxFiles === undefined) return openByName(path, knownIdentity, open, () => namesOf(path));
  // First, whatever else there is: each look at a name may have to wait for whoever is renaming.
  const newest = openIfThere(path, open);
  if (!newest) return undefined;
  try {
    if (newest.identity === knownIdentity) {
      newest.close();
      return { files: [], isNext: true };
    }
    // Rotated once since the known one was the newest, and so the one that was opened before was what came next.
    if (identityAt(`${path}.1`) === knownIdentity) return { files: [newest], isNext: true };
  } catch (error) {
    newest.close();
    throw error;
  }
  newest.close();
  return openByName(path, knownIdentity, open, () => namesFrom(path, knownIdentity, maxFiles));
}

function openByName<T extends Opened>(
  path: string,
  knownIdentity: string,
  open: (path: string) => T,
  namesNow: () => string[],
): Newer<T> | undefined {
  for (let attempt = 0; attempt < maxAttempts; attempt++) {
    const names = namesNow();
    if (names.at(-1) !== path) continue;
    const identities = names.map(identityAt);
    const known = identities.lastIndexOf(knownIdentity);
    const newer = names.slice(known + 1);
    if (newer.some((name) => name.endsWith('.gz'))) return undefined;
    const files = openAll(newer, open);
    const isWhole = newer.every((_, i) => files[i]?.identity === identities[known + 1 + i]);
    // Else it was rotated while we looked: a name may have meant another file before than a moment later.
    if (isWhole && String(names.map(identityAt)) === String(identities)) return { files, isNext: known >= 0 };
    closeAll(files);
  }
  return undefined;
}

const maxAttempts = 3;

/** Those that are there; all or none of them. */
function openAll<T extends Opened>(paths: readonly string[], open: (path: string) => T): T[] {
  const files: T[] = [];
  try {
    for (const path of paths) {
      const file = openIfThere(path, open);
      if (file) files.push(file);
    }
    return files;
  } catch (error) {
    closeAll(files);
    throw error;
  }
}

export function closeAll(files: readonly Opened[]): void {
  for (const file of files) file.close();
}

export function openIfThere<T>(path: string, open: (path: string) => T): T | undefined {
  try {
    return open(path);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ENOTDIR';
}
