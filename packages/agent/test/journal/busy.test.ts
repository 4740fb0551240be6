import { gunzipSync } from 'node:zlib';
import { BatchDecoder, decodePart } from '@millrace/wire';
import { expect, test } from 'vitest';
import { Journal } from '../../src/journal/journal.ts';
import type { Feed } from '../../src/logging/types.ts';
import { CrashDisk } from './crash-disk.ts';

/*
 * When lines come by the thousand, batches are compressed as soon as they are full, out of memory that the next one
 * takes over.
 */

const count = 12_000;
const text = (n: number) => `line ${n} ${'.'.repeat(n % 400)}`;
const all = Array.from({ length: count }, (_, i) => text(i + 1));

function fill(journal: Journal): void {
  for (let n = 1; n <= count; n++) journal.append({ message: text(n), timestamp: n });
}

async function take(cursor: Feed, lines: number, acknowledge = true): Promise<string[]> {
  const out: string[] = [];
  while (out.length < lines) {
    const batch = await cursor.next(AbortSignal.timeout(10_000));
    if (!batch) break;
    out.push(...batch.messages().map(({ message }) => message));
    if (acknowledge) cursor.ack(batch.header.journal, batch.lastSeq);
  }
  return out;
}

test('many lines at once: each batch keeps its own, in memory, for readers and on disk', async () => {
  const disk = new CrashDisk();
  await using journal = new Journal({ disk, syncIntervalMs: 1 });
  const cursor = journal.cursor('cloud');
  fill(journal);
  const inMemory = journal.recent().flatMap((batch) => batch.messages().map(({ message }) => message));
  expect(inMemory).toEqual(all);
  expect(await take(cursor, count)).toEqual(all);

  const decoder = new BatchDecoder();
  const onDisk = disk.list().flatMap((name) => decoder.push(gunzipSync(disk.readAll(name))));
  expect(onDisk.flatMap((part) => decodePart(part).map(({ message }) => message))).toEqual(all);
});

test('many lines at once before the disk fails: they go on from memory', async () => {
  const disk = new CrashDisk();
  await using journal = new Journal({ disk, syncIntervalMs: 1, outageGraceMs: 10, diskRetryMs: 60_000 });
  const cursor = journal.cursor('cloud');
  disk.failWith = 'EIO';
  fill(journal);
  expect(await take(cursor, count)).toEqual(all);
  expect(journal.stats().memoryOnly).toBe(true);
});

test('an error behind many lines does not wait for the next group', async () => {
  const disk = new CrashDisk();
  await using journal = new Journal({ disk, syncIntervalMs: 60_000 });
  const cursor = journal.cursor('cloud');
  fill(journal);
  journal.append({ message: 'urgent', timestamp: count + 1, level: 'error' });
  // Without acknowledgements, which bring writes of their own.
  expect((await take(cursor, count + 1, false)).at(-1)).toBe('urgent');
});

test('what every reader has confirmed leaves memory, but for the newest lines', async () => {
  const disk = new CrashDisk();
  await using journal = new Journal({ disk, syncIntervalMs: 1, recentLines: 1_000_000 });
  const cursor = journal.cursor('cloud');
  fill(journal);
  await journal.flush();
  const heldLines = () => journal.recent().reduce((sum, { header }) => sum + header.count, 0);
  expect(heldLines()).toBe(count);
  await take(cursor, count);
  journal.append({ message: 'one more', timestamp: count + 1 });
  await journal.flush();
  expect(heldLines()).toBeLessThan(count / 2);
  expect(heldLines()).toBeGreaterThan(1000);
});
