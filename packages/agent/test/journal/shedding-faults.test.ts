import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LogMessage } from '@millrace/wire';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { FolderDisk } from '../../src/journal/disk.ts';
import { inspectJournal } from '../../src/journal/inspect.ts';
import { Journal } from '../../src/journal/journal.ts';
import { CrashDisk } from './crash-disk.ts';
import { containers, countOf, drain, fill, losses, lostIn, settled, small } from './full-journal.ts';

test('a crash while a stretch of losses is being passed: each line arrives, or is on record once', async () => {
  const disk = new CrashDisk();
  const journal = new Journal({ disk, ...small });
  const cursor = journal.cursor('cloud');
  await fill(journal, 1, 3000);
  await settled(journal, 100_000);
  const arrived = new Map<string, LogMessage>();
  const keep = (lines: LogMessage[]) => {
    for (const line of lines) arrived.set(line.id, line);
  };
  const batch = await cursor.next(AbortSignal.timeout(5000));
  keep(batch?.messages() ?? []);
  cursor.ack(journal.id, batch?.lastSeq ?? 0);
  expect(cursor.lag().lost).toBeGreaterThan(0);
  expect(cursor.lag().lines).toBeGreaterThan(0);
  // With this the place of the cursor is saved.
  await fill(journal, 3001, 3001);
  disk.off = true;
  await journal.abandon();
  disk.powerCycle(1, false);

  const next = new Journal({ disk, ...small });
  keep(await drain(next, next.cursor('cloud')));
  const all = [...arrived.values()];
  expect(containers(all).length + lostIn(all)).toBe(3001);
  await next.abandon();
});

test('a crash between any two steps of thinning leaves the segment as it was, or thinned, and no line uncounted', async () => {
  const original = new CrashDisk();
  {
    const journal = new Journal({ disk: original, ...small, maxBytes: 1e9 });
    journal.cursor('cloud');
    await fill(journal, 1, 1200);
    await journal.close();
  }
  const whole = new Map(original.files);
  let renamed = 0;
  for (let step = 0; step < 40; step++) {
    const disk = new CrashDisk();
    for (const [name, file] of whole) disk.files.set(name, { ...file });
    const journal = new Journal({ disk, ...small, maxBytes: 60_000 });
    const cursor = journal.cursor('cloud');
    disk.operationsLeft = step;
    journal.append({ message: 'one more', timestamp: 1 });
    void journal.flush();
    await until(() => disk.off || journal.stats().diskBytes <= 60_000);
    const isOff = disk.off;
    disk.off = true;
    await journal.abandon();
    void cursor;
    renamed += disk.renames;
    disk.powerCycle(step % 2, step % 3 === 0);

    const next = new Journal({ disk, ...small, maxBytes: 1e9 });
    expect([...disk.files.keys()].filter((name) => !/^\d{10}\.log\.gz$/.test(name))).toEqual([]);
    expect([...inspectJournal(disk)].flatMap(({ report }) => [...report.damage, ...report.missing])).toEqual(
      [],
    );
    const lines = await drain(next, next.cursor('cloud'));
    const arrived = containers(lines).filter((line) => line.message.startsWith('line '));
    expect(countOf(arrived).slice(2)).toEqual([120, 120]);
    expect(arrived.length + lostIn(lines)).toBe(1200);
    await next.abandon();
    if (!isOff) break;
  }
  expect(renamed).toBeGreaterThan(5);
});

test('ENOSPC while a segment is thinned: it stays as it was, the oldest goes instead, and both are counted', async () => {
  const disk = new CrashDisk();
  disk.failWith = 'ENOSPC';
  disk.failOnlyFor = '.thin';
  const journal = new Journal({ disk, ...small });
  const cursor = journal.cursor('cloud');
  await fill(journal, 1, 2000);
  await settled(journal, 100_000);
  expect(journal.stats().memoryOnly).toBe(false);
  expect(disk.list().every((name) => name.endsWith('.log.gz'))).toBe(true);
  expect(disk.renames).toBe(0);
  const lines = await drain(journal, cursor);
  expect(containers(lines).length + lostIn(lines)).toBe(2000);
  expect(losses(lines).length).toBe(1);
  expect(journal.stats().shed.reduce((sum, n) => sum + n, 0)).toBe(lostIn(lines));
  await journal.abandon();
});

test('a segment that cannot be read is not thinned, be its levels known or not; others are', async () => {
  for (const known of [true, false]) {
    const disk = new CrashDisk();
    const name = '0000000001.log.gz';
    let journal = new Journal({ disk, ...small, maxBytes: 60_000 });
    journal.cursor('cloud');
    await fill(journal, 1, 300);
    const before = disk.readAll(name);
    if (!known) {
      await journal.close();
      journal = new Journal({ disk, ...small, maxBytes: 60_000 });
      journal.cursor('cloud');
    }
    disk.unreadable = name;
    await fill(journal, 301, 1100);
    await settled(journal, 60_000);
    expect(disk.readAll(name)).toEqual(before);
    expect(disk.renames).toBeGreaterThan(0);
    await journal.abandon();
  }
});

test('what a crash left of a segment that was being thinned is removed at the start; foreign files stay', async () => {
  await using dir = await tempDir();
  writeFileSync(join(dir.path, '0000000001.log.gz.thin'), 'half');
  writeFileSync(join(dir.path, 'notes.thin'), 'leave me');
  await using journal = new Journal({ disk: new FolderDisk(dir.path) });
  expect(journal.stats().segments).toBe(0);
  expect(readdirSync(dir.path)).toEqual(['notes.thin']);
});

test('a journal that was closed over budget is thinned after the restart, by what its headers say', async () => {
  const disk = new CrashDisk();
  const first = new Journal({ disk, ...small, maxBytes: 1e9 });
  first.cursor('cloud');
  await fill(first, 1, 2000);
  await first.close();
  const journal = new Journal({ disk, ...small });
  const cursor = journal.cursor('cloud');
  journal.append({ message: 'one more', timestamp: 1 });
  await journal.flush();
  await settled(journal, 100_000);
  expect(journal.position('s')).toBe(2000);
  expect(journal.stats().shed[0]).toBeGreaterThan(0);
  const lines = await drain(journal, cursor);
  expect(containers(lines).length + lostIn(lines)).toBe(2001);
  await journal.abandon();
});

test('ENOSPC while the end of a journal id is to go: its lines go all the same, and are counted', async () => {
  const disk = new CrashDisk();
  const journal = new Journal({ disk, ...small, outageGraceMs: 0, diskRetryMs: 1 });
  const cursor = journal.cursor('cloud');
  await fill(journal, 1, 100);
  const before = journal.id;
  disk.failWith = 'ENOSPC';
  await fill(journal, 101, 200);
  disk.failOnlyFor = '.thin';
  await until(() => !journal.stats().memoryOnly);
  expect(journal.id).not.toBe(before);
  await fill(journal, 201, 2500);
  await settled(journal, 100_000);
  expect(disk.renames).toBe(0);
  const lines = await drain(journal, cursor);
  expect(containers(lines).length + lostIn(lines)).toBe(2500);
  expect(containers(lines).length).toBeLessThan(1500);
  await journal.abandon();
});
