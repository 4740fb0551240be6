import { chmodSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { FolderDisk } from '../../src/journal/disk.ts';
import { Journal, type JournalOptions } from '../../src/journal/journal.ts';
import type { Feed, LogMessage } from '../../src/logging/types.ts';
import { CrashDisk } from './crash-disk.ts';

const quick: JournalOptions = { syncIntervalMs: 1, outageGraceMs: 10, diskRetryMs: 5 };

function fill(journal: Journal, from: number, to: number, more: Partial<LogMessage> = {}): void {
  for (let n = from; n <= to; n++) {
    journal.append({ message: `line ${n}`, timestamp: n, ...more }, { key: 'source', value: n });
  }
}

/** Reads and confirms until `count` lines came. */
async function take(cursor: Feed, count: number): Promise<LogMessage[]> {
  const out: LogMessage[] = [];
  while (out.length < count) {
    const batch = await cursor.next(AbortSignal.timeout(5000));
    if (!batch) break;
    out.push(...batch.messages());
    cursor.ack(batch.header.journal, batch.lastSeq);
  }
  return out;
}

const messages = (lines: LogMessage[]) => lines.map((line) => line.message);
const numbered = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => `line ${from + i}`);

test.each(['ENOSPC', 'EROFS', 'EIO'])(
  '%s: lines go on to their readers, and back to disk when it is possible',
  async (code) => {
    const disk = new CrashDisk();
    const journal = new Journal({ disk, ...quick });
    const cursor = journal.cursor('cloud');
    fill(journal, 1, 10);
    expect(messages(await take(cursor, 10))).toEqual(numbered(1, 10));

    disk.failWith = code;
    const before = journal.id;
    fill(journal, 11, 20);
    // Only memory has them: they are sent all the same, under a journal id that the disk does not know.
    expect(messages(await take(cursor, 10))).toEqual(numbered(11, 20));
    expect(journal.stats().memoryOnly).toBe(true);
    expect(journal.id).not.toBe(before);
    expect(journal.position('source')).toBe(20);
    fill(journal, 21, 30);
    await journal.flush();

    disk.failWith = undefined;
    await until(() => !journal.stats().memoryOnly, { what: 'the disk to be used again' });
    fill(journal, 31, 40);
    await journal.close();

    const next = new Journal({ disk, ...quick });
    expect(next.position('source')).toBe(40);
    expect(messages(await take(next.cursor('cloud'), 20))).toEqual(numbered(21, 40));
    await next.abandon();
  },
);

test('a process that dies in an outage reads its sources again from what the disk knew', async () => {
  const disk = new CrashDisk();
  const journal = new Journal({ disk, ...quick });
  fill(journal, 1, 5);
  await journal.flush();
  disk.failWith = 'ENOSPC';
  fill(journal, 6, 9);
  await journal.flush();
  expect(journal.position('source')).toBe(9);
  await journal.abandon();
  disk.failWith = undefined;
  const next = new Journal({ disk, ...quick });
  expect(next.position('source')).toBe(5);
  await next.abandon();
});

test('bounded in an outage: debug goes first, then info, then the oldest; all of it is counted', async () => {
  const disk = new CrashDisk();
  const journal = new Journal({ disk, ...quick, maxOutageBytes: 400_000 });
  const cursor = journal.cursor('cloud');
  disk.failWith = 'ENOSPC';
  const levels = ['debug', 'info', 'warn', 'error'] as const;
  const padding = 'x'.repeat(400);
  for (let n = 1; n <= 2000; n++) {
    journal.append({ message: `${n} ${padding}`, timestamp: n, level: levels[n % 4] });
    if (n % 50 === 0) await journal.flush();
  }
  const held = journal.recent().reduce((sum, batch) => sum + batch.lines.length, 0);
  expect(held).toBeLessThanOrEqual(400_000);
  const { shed } = journal.stats();
  expect(shed[0]).toBeGreaterThanOrEqual(450);
  expect(shed[1]).toBeGreaterThanOrEqual(400);
  expect(shed[3]).toBeLessThan(shed[1]);

  const kept = 2000 - shed.reduce((sum, n) => sum + n, 0);
  const lines = await take(cursor, kept);
  await journal.flush();
  // Each gap that the reader met is a loss record; together they count every line that was shed.
  const losses = (await take(cursor, 1)).filter((line) => line.source.type === 'manager');
  while (cursor.lag().lines > 0) losses.push(...(await take(cursor, 1)));
  const lost = [...lines, ...losses]
    .filter((line) => line.fields?.reason === 'memory full')
    .reduce((sum, line) => sum + Number(line.fields?.lost), 0);
  const got = lines.filter((line) => line.source.type !== 'manager').length;
  expect(got + lost).toBe(2000);
  expect(lost).toBe(2000 - got);
  await journal.abandon();
});

test('a folder that disappears, and comes back', async () => {
  await using dir = await tempDir();
  const logs = join(dir.path, 'logs');
  const journal = new Journal({ disk: new FolderDisk(logs), ...quick, maxFileBytes: 300 });
  const cursor = journal.cursor('cloud');
  fill(journal, 1, 50);
  await journal.flush();
  // In its place lies a file: nothing can be made there any more.
  renameSync(logs, `${logs}.away`);
  const blocked = join(dir.path, 'logs');
  const { writeFileSync } = await import('node:fs');
  writeFileSync(blocked, '');
  fill(journal, 51, 60);
  await journal.flush();
  fill(journal, 61, 70);
  await until(() => journal.stats().memoryOnly);
  rmSync(blocked);
  renameSync(`${logs}.away`, logs);
  await until(() => !journal.stats().memoryOnly);
  fill(journal, 71, 80);
  await journal.flush();
  expect(messages(await take(cursor, 80))).toEqual(numbered(1, 80));
  await journal.close();
});

test('a folder that is missing at the start is made', async () => {
  await using dir = await tempDir();
  mkdirSync(join(dir.path, 'a'));
  chmodSync(join(dir.path, 'a'), 0o700);
  await using journal = new Journal({ disk: new FolderDisk(join(dir.path, 'a', 'b', 'c')), ...quick });
  fill(journal, 1, 3);
  await journal.flush();
  expect(journal.stats()).toMatchObject({ memoryOnly: false, segments: 1 });
});
