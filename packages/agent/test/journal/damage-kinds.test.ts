import { expect, test } from 'vitest';
import { Journal } from '../../src/journal/journal.ts';
import { walkMembers } from '../../src/journal/member.ts';
import type { Feed, LogMessage } from '../../src/logging/types.ts';
import { CrashDisk } from './crash-disk.ts';

const total = 120;
const options = { syncIntervalMs: 1, maxFileBytes: 1200, recentLines: 10 };

/** A disk with `total` numbered lines, ten a batch, two batches or more a segment. */
async function written(): Promise<CrashDisk> {
  const disk = new CrashDisk();
  const journal = new Journal({ disk, ...options });
  for (let n = 1; n <= total; n++) {
    journal.append({ message: `line ${n}`, timestamp: n }, { key: 's', value: n });
    if (n % 10 === 0) await journal.flush();
  }
  await journal.close();
  expect(disk.files.size).toBeGreaterThan(3);
  return disk;
}

const names = (disk: CrashDisk) => disk.list().sort();

function change(disk: CrashDisk, name: string, edit: (bytes: Buffer) => Buffer): void {
  const bytes = edit(disk.readAll(name));
  disk.files.set(name, { data: bytes, synced: bytes.length });
}

/** Fills some bytes of the member that begins with line `first`. */
function spoil(disk: CrashDisk, first: number, at: (length: number) => [from: number, to: number]): void {
  for (const name of names(disk)) {
    const found = walkMembers(disk.readAll(name)).members.find(
      ({ header }) => header.first === first && header.count > 0,
    );
    if (!found) continue;
    const [from, to] = at(found.bytes.length);
    change(disk, name, (bytes) => bytes.fill(0x55, found.offset + from, found.offset + to));
    return;
  }
  throw new Error(`no member begins with line ${first}`);
}

async function drain(journal: Journal, cursor: Feed): Promise<LogMessage[]> {
  const out: LogMessage[] = [];
  while (cursor.lag().lines > 0) {
    const batch = await cursor.next(AbortSignal.timeout(500));
    if (!batch) break;
    out.push(...batch.messages());
    cursor.ack(batch.header.journal, batch.lastSeq);
    await journal.flush();
  }
  return out;
}

/** Opens what is left, and expects each line to arrive as it was written, or to be in a loss record. */
async function expectAllAccounted(disk: CrashDisk, meanwhile?: () => void): Promise<LogMessage[]> {
  const journal = new Journal({ disk, ...options });
  meanwhile?.();
  const lines = await drain(journal, journal.cursor('cloud'));
  await journal.abandon();
  const arrived = lines.filter((line) => line.source.type === 'container');
  for (const { seq, message } of arrived) expect(message).toBe(`line ${seq}`);
  expect(new Set(arrived.map((line) => line.seq)).size).toBe(arrived.length);
  const records = lines.filter((line) => line.fields?.lost !== undefined);
  const lost = records.reduce((sum, line) => sum + Number(line.fields?.lost), 0);
  expect(arrived.length + lost).toBe(total);
  for (const { fields } of records) expect(fields?.reason).toBe('journal damaged');
  return records;
}

const ranges = (records: LogMessage[]) => records.map(({ fields }) => [fields?.first, fields?.last]);

test('a flipped byte in a header: its lines are counted', async () => {
  const disk = await written();
  spoil(disk, 41, () => [30, 31]);
  expect(ranges(await expectAllAccounted(disk))).toEqual([[41, 50]]);
});

test('a flipped byte in a content: its lines are counted', async () => {
  const disk = await written();
  spoil(disk, 41, (length) => [length - 30, length - 29]);
  expect(ranges(await expectAllAccounted(disk))).toEqual([[41, 50]]);
});

test.each([
  ['of the member', 17],
  ['of the extra field', 10],
  ['of the subfield', 14],
])('a flipped byte in a length field (%s): its lines are counted, and it is not followed', async (_, at) => {
  const disk = await written();
  spoil(disk, 41, () => [at, at + 2]);
  expect(ranges(await expectAllAccounted(disk))).toEqual([[41, 50]]);
});

test('two damaged members: each is counted', async () => {
  const disk = await written();
  spoil(disk, 31, () => [30, 40]);
  spoil(disk, 71, (length) => [length - 30, length - 20]);
  expect(ranges(await expectAllAccounted(disk))).toEqual([
    [31, 40],
    [71, 80],
  ]);
});

test('a segment in the middle that was truncated: what it held behind the cut is counted', async () => {
  const disk = await written();
  const name = names(disk)[1] as string;
  change(disk, name, (bytes) => bytes.subarray(0, bytes.length - 40));
  expect((await expectAllAccounted(disk)).length).toBe(1);
});

test('a segment that is truncated while the journal runs: what it held behind the cut is counted, and nothing hangs', async () => {
  const disk = await written();
  const name = names(disk)[1] as string;
  const records = await expectAllAccounted(disk, () => {
    const { end } = walkMembers(disk.readAll(name).subarray(0, 900));
    disk.truncate(name, end);
  });
  expect(records.length).toBe(1);
});

test('a segment missing in the middle: its lines are counted', async () => {
  const disk = await written();
  disk.files.delete(names(disk)[2] as string);
  expect((await expectAllAccounted(disk)).length).toBe(1);
});

test('an empty segment in the middle: its lines are counted', async () => {
  const disk = await written();
  change(disk, names(disk)[2] as string, () => Buffer.alloc(0));
  expect((await expectAllAccounted(disk)).length).toBe(1);
});

test('an empty segment at the end is removed, and nothing is missing', async () => {
  const disk = await written();
  disk.files.set('0000000099.log.gz', { data: Buffer.alloc(0), synced: 0 });
  expect(await expectAllAccounted(disk)).toEqual([]);
  expect(disk.files.has('0000000099.log.gz')).toBe(false);
});

test('a foreign file in the folder is left alone', async () => {
  const disk = await written();
  for (const name of ['notes.txt', '1.log.gz', '0000000001.log', '0000000001.log.gz.bak']) {
    disk.files.set(name, { data: Buffer.from('leave me'), synced: 8 });
  }
  expect(await expectAllAccounted(disk)).toEqual([]);
  expect(disk.readAll('0000000001.log.gz.bak').toString()).toBe('leave me');
});

test('a torn tail is cut off, and its lines come again from their source', async () => {
  const disk = await written();
  const name = names(disk).findLast((candidate) =>
    walkMembers(disk.readAll(candidate)).members.some(({ header }) => header.count > 0),
  ) as string;
  for (const later of names(disk).filter((candidate) => candidate > name)) disk.files.delete(later);
  const last = walkMembers(disk.readAll(name)).members.findLast(({ header }) => header.count > 0);
  change(disk, name, (bytes) => bytes.subarray(0, (last?.offset ?? 0) + (last?.bytes.length ?? 0) - 5));
  const journal = new Journal({ disk, ...options });
  const position = journal.position('s') as number;
  expect(position).toBe((last?.header.first ?? 0) - 1);
  const arrived = (await drain(journal, journal.cursor('cloud'))).map((line) => line.message);
  expect(arrived).toEqual(Array.from({ length: position }, (_, i) => `line ${i + 1}`));
  await journal.abandon();
});

test('a disk that lies about syncing: after a power cut no line takes the place of one that was sent', async () => {
  const disk = new CrashDisk();
  disk.lies = true;
  const farEnd = new Map<string, string>();
  for (let round = 0; round < 4; round++) {
    const journal = new Journal({ disk, ...options });
    const cursor = journal.cursor('cloud');
    const from = ((journal.position('s') as number | undefined) ?? 0) + 1;
    for (let n = from; n <= (round + 1) * 30; n++) {
      journal.append({ message: `line ${n}`, timestamp: n }, { key: 's', value: n });
      if (n % 10 === 0) await journal.flush();
    }
    await journal.flush();
    for (const line of await drain(journal, cursor)) {
      expect(farEnd.get(line.id) ?? line.message).toBe(line.message);
      farEnd.set(line.id, line.message);
    }
    disk.off = true;
    await journal.abandon();
    disk.powerCycle(0.7, true);
  }
  const arrived = new Set(farEnd.values());
  for (let n = 1; n <= 120; n++) expect(arrived.has(`line ${n}`)).toBe(true);
});
