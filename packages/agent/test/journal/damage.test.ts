import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { Journal, type JournalOptions } from '../../src/journal/journal.ts';
import { type FoundMember, walkMembers } from '../../src/journal/member.ts';
import type { Feed, FeedBatch } from '../../src/logging/types.ts';
import { CrashDisk } from './crash-disk.ts';

const quick: JournalOptions = { syncIntervalMs: 1, outageGraceMs: 5, diskRetryMs: 2 };

const open = (disk: CrashDisk, options: JournalOptions = {}) => new Journal({ disk, ...quick, ...options });

/** Each call is one batch on disk. */
async function write(journal: Journal, source: string, from: number, to: number): Promise<void> {
  for (let n = from; n <= to; n++) {
    journal.append({ message: `${source} ${n}`, timestamp: n }, { key: source, value: n });
  }
  await journal.flush();
}

/** Reads and acknowledges what there is. */
async function take(cursor: Feed): Promise<FeedBatch[]> {
  const batches: FeedBatch[] = [];
  while (cursor.lag().lines > 0) {
    const batch = await cursor.next(AbortSignal.timeout(5000));
    if (!batch) break;
    batches.push(batch);
    cursor.ack(batch.header.journal, batch.lastSeq);
  }
  return batches;
}

/** What the batches of the journal that is written now say. */
async function namedBy(journal: Journal): Promise<readonly unknown[] | undefined> {
  await write(journal, 'probe', 1, 1);
  const batches = await take(journal.cursor('probe'));
  return batches.filter(({ header }) => header.journal === journal.id).at(-1)?.header.overlaps;
}

/** Where in a member its journal's name lies, and where it has ended. */
const inName = 40;
const behindName = 70;

/** Spoils a header of the file, so that its member cannot be found. */
function spoil(
  disk: CrashDisk,
  name: string,
  which: (member: FoundMember) => boolean,
  at = behindName,
): void {
  const file = disk.files.get(name);
  const member = file && walkMembers(file.data).members.find(which);
  if (!file || !member) throw new Error(`${name}: no such member`);
  file.data.fill(0x55, member.offset + at, member.offset + at + 10);
}

const newest = (disk: CrashDisk) => disk.list().sort().at(-1) as string;

test('after a cut the new journal names what it may repeat, and goes on doing so after restarts', async () => {
  const disk = new CrashDisk();
  const first = open(disk);
  await write(first, 'a', 1, 5);
  await write(first, 'a', 6, 9);
  await first.close();
  disk.truncate(newest(disk), disk.size(newest(disk)) - 3);

  const second = open(disk);
  expect(second.position('a')).toBe(5);
  second.append({ message: 'position only', timestamp: 1 });
  await second.close();
  const third = open(disk);
  expect(third.id).toBe(second.id);
  expect(await namedBy(third)).toEqual([[first.id, 6]]);
  await third.close();
  const fourth = open(disk, { maxFileBytes: 1 });
  expect(await namedBy(fourth)).toEqual([[first.id, 6]]);
  await fourth.close();
  // A segment may have no more than its snapshot yet.
  const [snapshot] = walkMembers(disk.readAll(newest(disk))).members;
  disk.truncate(newest(disk), snapshot?.bytes.length ?? 0);
  const fifth = open(disk);
  expect(await namedBy(fifth)).toEqual([[first.id, 6]]);
  await fifth.abandon();
});

test('damage further in takes positions with it: their sources are read again under a new id, which names it', async () => {
  const disk = new CrashDisk();
  const before = open(disk);
  await write(before, 'a', 1, 3);
  await write(before, 'b', 1, 4);
  await write(before, 'a', 4, 6);
  await before.close();
  spoil(disk, newest(disk), ({ header }) => header.first === 4 && header.count > 0);

  const after = open(disk);
  expect(after.id).not.toBe(before.id);
  expect(after.position('a')).toBe(6);
  // Gone with the lines; so b is read again, and those of its lines that were sent are the same as seqs 4 to 7.
  expect(after.position('b')).toBeUndefined();
  const messages = (await take(after.cursor('cloud'))).flatMap((batch) => batch.messages());
  const loss = messages.find(({ fields }) => fields?.lost);
  expect(loss?.fields).toMatchObject({ lost: 4, first: 4, last: 7, reason: 'journal damaged' });
  expect(await namedBy(after)).toEqual([[before.id, 4]]);
  await after.abandon();
});

test('a damaged content whose header is intact costs its lines alone, and nothing is read again', async () => {
  const disk = new CrashDisk();
  const before = open(disk);
  await write(before, 'a', 1, 3);
  await write(before, 'b', 1, 4);
  await write(before, 'a', 4, 6);
  await before.close();
  const file = disk.files.get(newest(disk));
  const [, , hit] = walkMembers(file?.data ?? Buffer.alloc(0)).members;
  file?.data.fill(
    0x55,
    (hit?.offset ?? 0) + (hit?.bytes.length ?? 0) - 20,
    (hit?.offset ?? 0) + (hit?.bytes.length ?? 0) - 10,
  );
  const after = open(disk);
  expect(after.id).toBe(before.id);
  expect(after.position('b')).toBe(4);
  expect(await namedBy(after)).toBeUndefined();
  await after.abandon();
});

test('what was only in memory names the journal on disk; that one goes on as if nothing had been', async () => {
  const disk = new CrashDisk();
  const onDisk = open(disk);
  await write(onDisk, 'a', 1, 5);
  disk.failWith = 'ENOSPC';
  await write(onDisk, 'a', 6, 9);
  const inMemory = onDisk.id;
  const batches = await take(onDisk.cursor('cloud'));
  const known = batches.find(({ header }) => header.journal !== inMemory)?.header.journal as string;
  expect(batches.at(-1)?.header).toMatchObject({ journal: inMemory, overlaps: [[known, 6]] });
  await onDisk.abandon();
  disk.failWith = undefined;
  const next = open(disk);
  // Half of a write that failed may lie at its end, and then it is a new one.
  const named = await namedBy(next);
  if (next.id === known) expect(named).toBeUndefined();
  else expect(named).toEqual([[known, 6]]);
  await next.abandon();
});

test('a second outage names both journals, and so does what is on disk behind it', async () => {
  const disk = new CrashDisk();
  const journal = open(disk);
  await write(journal, 'a', 1, 5);
  const ids = [journal.id];
  for (const from of [6, 16]) {
    disk.failWith = 'EIO';
    await write(journal, 'a', from, from + 3);
    ids.push(journal.id);
    disk.failWith = undefined;
    await until(() => !journal.stats().memoryOnly, { what: 'the disk to be used again' });
  }
  await journal.close();
  const next = open(disk);
  expect(next.id).toBe(ids[2]);
  expect(await namedBy(next)).toEqual([
    [ids[1], 5],
    [ids[0], 6],
  ]);
  await next.abandon();
});

test('positions that an outage had kept are behind their lines: when they are lost, all of these may come again', async () => {
  const disk = new CrashDisk();
  const journal = open(disk);
  await write(journal, 'a', 1, 5);
  const before = journal.id;
  disk.failWith = 'EIO';
  await write(journal, 'a', 6, 9);
  await write(journal, 'a', 10, 12);
  disk.failWith = undefined;
  await until(() => !journal.stats().memoryOnly, { what: 'the disk to be used again' });
  await journal.abandon();
  const file = disk.files.get(newest(disk));
  disk.truncate(newest(disk), (file?.data.length ?? 0) - 3);

  const next = open(disk);
  expect(next.position('a')).toBe(5);
  expect(await namedBy(next)).toEqual([
    [journal.id, 1],
    [before, 6],
  ]);
  await next.abandon();
});

test('damage that reaches over a change of id names the journals on both sides of it', async () => {
  const disk = new CrashDisk();
  const first = open(disk);
  await write(first, 'a', 1, 3);
  await write(first, 'a', 4, 5);
  await write(first, 'b', 1, 1);
  await first.close();
  spoil(disk, newest(disk), ({ header }) => header.first === 6 && header.count > 0);
  const second = open(disk);
  await write(second, 'c', 1, 2);
  await second.close();
  // Without its snapshot the newest segment says nothing of a: that is in the one before, which is damaged as well.
  spoil(disk, newest(disk), ({ header }) => header.snapshot === 'last', inName);
  const third = open(disk);
  expect([...third.positions('')].sort()).toEqual([
    ['a', 5],
    ['c', 2],
  ]);
  expect(await namedBy(third)).toEqual([
    [second.id, 1],
    [first.id, 6],
  ]);
  await third.abandon();
});

test('a segment of which only the beginning is left tells its journal, though no line and no position', async () => {
  const disk = new CrashDisk();
  const first = open(disk);
  await write(first, 'a', 1, 3);
  await first.close();
  disk.truncate(newest(disk), disk.size(newest(disk)) - 3);
  const second = open(disk);
  await write(second, 'a', 1, 3);
  await second.close();
  disk.truncate(newest(disk), 200);
  const third = open(disk);
  expect(third.position('a')).toBeUndefined();
  expect(await namedBy(third)).toEqual([
    [second.id, 1],
    [first.id, 1],
  ]);
  await third.abandon();
  // A power cut may leave a file of no bytes at all.
  disk.files.set('0000000099.log.gz', { data: Buffer.alloc(0), synced: 0 });
  const fourth = open(disk);
  expect(fourth.id).not.toBe(third.id);
  await fourth.abandon();
});

test('a snapshot of several members of which one is damaged is completed from the segment before', async () => {
  const disk = new CrashDisk();
  const journal = open(disk, { maxFileBytes: 2000 });
  for (let n = 0; n < 900; n++) {
    const key = `docker:${String(n).padStart(64, '0')}`;
    journal.append(
      { message: 'x', timestamp: n },
      { key, value: { out: { last: '1700000000000000001', n } } },
    );
  }
  await journal.flush();
  await write(journal, 'a', 1, 1);
  await journal.close();
  spoil(disk, newest(disk), ({ header }) => header.snapshot === 'more');
  const next = open(disk);
  expect(next.positions('docker:').size).toBe(900);
  await next.abandon();
});

test('a first line that cannot be read any more is counted, though no reader had ever begun', async () => {
  const disk = new CrashDisk();
  const journal = open(disk);
  await write(journal, 'a', 1, 3);
  await write(journal, 'a', 4, 5);
  await journal.close();
  for (const first of [true, false]) {
    spoil(disk, newest(disk), ({ header }) => (first ? header.snapshot === 'last' : header.first === 1));
  }
  const next = open(disk);
  const messages = (await take(next.cursor('cloud'))).flatMap((batch) => batch.messages());
  const loss = messages.find(({ fields }) => fields?.lost);
  expect(loss?.fields).toMatchObject({ lost: 3, first: 1, last: 3 });
  await next.abandon();
});
