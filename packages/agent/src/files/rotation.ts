import { type BigIntStats, statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import type { Folders } from './folders.ts';
import { isCompressed, isRotated } from './patterns.ts';
import { type FilePosition, fileKey } from './position.ts';
import { TailedFile } from './tailed-file.ts';

export interface FoundFile {
  path: string;
  key: string;
  inode: bigint;
  device: bigint;
  writtenNs: bigint;
  bornMs: number;
  /** Changes whenever the file does. */
  state: string;
}

/** What a path names now; `undefined` when it is nothing, or no file. */
export async function look(path: string): Promise<FoundFile | undefined> {
  return found(path, await stat(path, { bigint: true }).catch(() => undefined));
}

/** The same at once, which is a tenth of the work: for files that are open and on a disk of this machine. */
export function lookNow(path: string): FoundFile | undefined {
  return found(path, statSync(path, { bigint: true, throwIfNoEntry: false }));
}

function found(path: string, stats: BigIntStats | undefined): FoundFile | undefined {
  if (!stats?.isFile()) return undefined;
  const { ino, dev, mtimeNs, birthtimeMs, size } = stats;
  return {
    path,
    key: fileKey(ino, dirname(path)),
    inode: ino,
    device: dev,
    writtenNs: mtimeNs,
    bornMs: Number(birthtimeMs),
    state: `${dev}:${ino}:${size}:${mtimeNs}`,
  };
}

/** What tells a file from all others while both are there. */
export function identityOf({ inode, device }: { inode: bigint; device: bigint }): string {
  return `${device}:${inode}`;
}

/** The files that a rotation may have made of `path`, the one written last at the end. */
export async function rotatedFrom(path: string, folders: Folders): Promise<FoundFile[]> {
  let files = await listRotated(path, folders);
  for (let attempt = 0; attempt < maxAttempts; attempt++) {
    const again = await listRotated(path, folders);
    // Else a rotation was under way: a file may be there under two names, or under none.
    if (namesOf(again) === namesOf(files)) break;
    files = again;
  }
  return files.sort(byAge);
}

const maxAttempts = 50;

function namesOf(files: readonly FoundFile[]): string {
  const names = files.map(({ path, key }) => `${path}=${key}`);
  return names.sort().join('\n');
}

async function listRotated(path: string, folders: Folders): Promise<FoundFile[]> {
  const base = basename(path);
  const found: FoundFile[] = [];
  const names = await folders.names(dirname(path));
  for (const name of names) {
    if (!isRotated(name, base)) continue;
    // While it is being compressed there are both, and only the one is whole.
    if (isCompressed(name) && names.includes(name.slice(0, -extname(name).length))) continue;
    const file = await look(join(dirname(path), name));
    if (file) found.push(file);
  }
  return found;
}

/** Whether a rotation compressed files of `path` in a way that is not read here. */
export async function isCompressedOtherwise(path: string, folders: Folders): Promise<boolean> {
  const base = basename(path);
  const names = await folders.names(dirname(path));
  return names.some((name) => {
    const extension = extname(name);
    return extension !== '.gz' && isCompressed(name) && isRotated(name.slice(0, -extension.length), base);
  });
}

/**
 * Oldest first. Within one tick of the kernel's clock names decide: `.2` was `.1` before, dates count upwards. So they
 * do for a compressed file, which may have the time of its compression.
 */
function byAge(a: FoundFile, b: FoundFile): number {
  const isNamed = isCompressed(a.path) || isCompressed(b.path);
  if (!isNamed && a.writtenNs !== b.writtenNs) return a.writtenNs < b.writtenNs ? -1 : 1;
  const [first, second] = [numberOf(a.path), numberOf(b.path)];
  if (first !== undefined && second !== undefined) return second - first;
  return a.path < b.path ? -1 : 1;
}

function numberOf(path: string): number | undefined {
  const match = /\.(\d{1,4})(?:\.gz)?$/.exec(path);
  return match ? Number(match[1]) : undefined;
}

/**
 * The file that has the name, opened, and those that had it before. In between nothing was rotated: else it would be in
 * neither of the two. Without the one when rotations do not stop.
 *
 * @throws Error as `open` does
 */
export async function openBehindRotated(
  path: string,
  isWanted: boolean,
  folders: Folders,
): Promise<{ rotated: FoundFile[]; current: TailedFile | undefined }> {
  let rotated = await rotatedFrom(path, folders);
  for (let attempt = 0; isWanted && attempt < maxAttempts; attempt++) {
    const current = await TailedFile.open(path);
    const again = await rotatedFrom(path, folders);
    if (namesOf(again) === namesOf(rotated)) return { rotated, current };
    await current.close();
    rotated = again;
  }
  return { rotated, current: undefined };
}

/** Opens a file that a rotation made, to be read under the name it had; `undefined` when that cannot be done. */
export async function openRotated(
  file: FoundFile,
  name: string,
  folders: Folders,
): Promise<TailedFile | undefined> {
  let found: FoundFile | undefined = file;
  for (let attempt = 0; found && attempt < maxAttempts; attempt++) {
    // It is gone again, or its rights were taken away: then nothing is to be had from it.
    const opened = await TailedFile.open(found.path, name).catch(() => undefined);
    if (opened && identityOf(opened) === identityOf(file)) return opened;
    await opened?.close();
    // The name means another file already.
    found = (await rotatedFrom(name, folders)).find((other) => identityOf(other) === identityOf(file));
  }
  return undefined;
}

/** The same, if it is what was read or a copy of that, at the place where that was read to. */
export async function openAt(
  file: FoundFile,
  name: string,
  position: FilePosition,
  folders: Folders,
): Promise<TailedFile | undefined> {
  const opened = await openRotated(file, name, folders);
  if (opened && (await opened.resume(position).catch(() => false))) return opened;
  await opened?.close();
  return undefined;
}
