import { readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Random } from './random.ts';

/** A place in a journal: everything in files before, and in this file before `bytes`, lies behind it. */
export interface JournalPlace {
  file: string;
  bytes: number;
}

async function filesOf(dir: string): Promise<string[]> {
  return (await readdir(dir)).filter((name) => name.endsWith('.log.gz')).sort();
}

/** Where a journal ends now. */
export async function journalEnd(dir: string): Promise<JournalPlace> {
  const file = (await filesOf(dir)).at(-1);
  return file === undefined ? { file: '', bytes: 0 } : { file, bytes: (await stat(join(dir, file))).size };
}

/** Damages something that was written after `from`, in one of several ways, and says what it did. */
export async function damageJournal(dir: string, from: JournalPlace, random: Random): Promise<string> {
  const way = random.pick(['flip', 'zero', 'truncate'] as const);
  const where = random.next();
  const howMuch = random.next();
  const files = (await filesOf(dir)).filter((file) => file >= from.file);
  // A file that is cut short in the middle is what a filesystem leaves of the newest; the others may rot.
  const file = way === 'truncate' ? files.at(-1) : files[Math.floor(where * files.length)];
  if (file === undefined) return 'damage nothing';
  const path = join(dir, file);
  const bytes = await readFile(path);
  const start = file === from.file ? Math.min(from.bytes, bytes.length) : 0;
  const at = start + Math.floor(where * (bytes.length - start));
  const length = Math.min(bytes.length - at, 1 + Math.floor(howMuch * 4_096));
  if (length <= 0) return 'damage nothing';
  if (way === 'truncate') await truncate(path, at);
  else {
    if (way === 'flip') bytes[at] = (bytes[at] ?? 0) ^ (1 << Math.floor(howMuch * 8));
    else bytes.fill(0, at, at + length);
    await writeFile(path, bytes);
  }
  const place = `${file} at ${at} of ${bytes.length}`;
  return way === 'flip' ? `flip a bit of ${place}` : `${way} ${length} bytes or more of ${place}`;
}
