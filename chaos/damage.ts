import { readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Random } from './random.ts';

/** Damages a journal in one of several ways, anywhere, and says what it did. */
export async function damageJournal(dir: string, random: Random): Promise<string> {
  const way = random.pick(['flip', 'zero', 'truncate'] as const);
  const where = random.next();
  const howMuch = random.next();
  const files = (await readdir(dir)).filter((name) => name.endsWith('.log.gz')).sort();
  // A file that is cut short in the middle is what a filesystem leaves of the newest; the others may rot.
  const file = way === 'truncate' ? files.at(-1) : files[Math.floor(where * files.length)];
  if (file === undefined) return 'damage nothing';
  const path = join(dir, file);
  const bytes = await readFile(path);
  const at = Math.floor(where * bytes.length);
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
