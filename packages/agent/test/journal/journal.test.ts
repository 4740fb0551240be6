import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { BatchDecoder, decodePart, type LogMessage, limits } from '@millrace/wire';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { FolderDisk } from '../../src/journal/disk.ts';
import { Journal, type JournalOptions } from '../../src/journal/journal.ts';
import { memberAt, walkMembers } from '../../src/journal/member.ts';
import type { Feed } from '../../src/logging/types.ts';
import { CrashDisk } from './crash-disk.ts';

const run = promisify(execFile);

function open(path: string, options: JournalOptions = {}): Journal {
  return new Journal({ disk: new FolderDisk(path), syncIntervalMs: 1, ...options });
}

function fill(journal: Journal, from: number, to: number, text: () => string = () => ''): void {
  for (let n = from; n <= to; n++) journal.append({ message: `line ${n}${text()}`, timestamp: n });
}

/** Everything the cursor can read now, acknowledged if asked. */
async function drain(cursor: Feed, acknowledge = true): Promise<LogMessage[]> {
  const out: LogMessage[] = [];
  while (cursor.lag().lines > 0) {
    const before = out.length;
    const batch = await cursor.next(AbortSignal.timeout(200));
    if (!batch) break;
    out.push(...batch.messages());
    if (acknowledge) cursor.ack(batch.header.journal, batch.lastSeq);
    if (out.length === before) break;
  }
  return out;
}

function segments(path: string): string[] {
  return readdirSync(path)
    .filter((name) => name.endsWith('.log.gz'))
    .sort();
}

// Random text does not compress, so that segments fill up quickly.
const noise = () =>
  ` ${Buffer.from(Array.from({ length: 150 }, () => Math.random() * 256)).toString('base64')}`;

test('a segment is an ordinary gzip file whose content is wire batches', async () => {
  await using dir = await tempDir();
  await using journal = open(dir.path);
  fill(journal, 1, 3);
  await journal.flush();
  fill(journal, 4, 5);
  await journal.flush();

  const [name] = segments(dir.path);
  const { stdout } = await run('zcat', [join(dir.path, name as string)]);
  const decoder = new BatchDecoder();
  const parts = [...decoder.push(Buffer.from(stdout)), ...decoder.end()];
  expect(parts.flatMap((part) => decodePart(part).map((line) => [line.id, line.message]))).toEqual(
    [1, 2, 3, 4, 5].map((n) => [`${journal.id}-${n}`, `line ${n}`]),
  );
});

test('seqs, positions and cursors go on where they were after a restart', async () => {
  await using dir = await tempDir();
  let id: string;
  {
    await using journal = open(dir.path);
    id = journal.id;
    journal.append({ message: 'one', timestamp: 1 }, { key: 'docker:a', value: { last: '1' } });
    journal.append({ message: 'two', timestamp: 2 }, { key: 'docker:b', value: 7 });
    journal.append({ message: 'three', timestamp: 3 }, { key: 'docker:a', value: { last: '3' } });
    await journal.flush();
    const cursor = journal.cursor('cloud');
    expect((await cursor.next())?.header).toMatchObject({ first: 1, count: 3 });
    cursor.ack(id, 2);
    journal.forget('docker:b');
  }
  await using journal = open(dir.path);
  expect(journal.id).toBe(id);
  expect(journal.positions('docker:')).toEqual(new Map([['docker:a', { last: '3' }]]));
  expect(journal.append({ message: 'four', timestamp: 4 })).toBe(4);
  expect((await drain(journal.cursor('cloud'))).map((line) => [line.seq, line.message])).toEqual([
    [3, 'three'],
    [4, 'four'],
  ]);
  expect((await drain(journal.cursor('another'))).map((line) => line.seq)).toEqual([1, 2, 3, 4]);
});

test('positions are atomic with lines: a torn last member takes both away, and the journal id changes', async () => {
  await using dir = await tempDir();
  let id: string;
  {
    await using journal = open(dir.path);
    id = journal.id;
    journal.append({ message: 'kept', timestamp: 1 }, { key: 'source', value: 1 });
    await journal.flush();
    journal.append({ message: 'torn', timestamp: 2 }, { key: 'source', value: 2 });
    await journal.flush();
  }
  const path = join(dir.path, segments(dir.path)[0] as string);
  truncateSync(path, readFileSync(path).length - 3);

  await using journal = open(dir.path);
  expect(journal.position('source')).toBe(1);
  expect(journal.id).not.toBe(id);
  journal.append({ message: 'again', timestamp: 2 }, { key: 'source', value: 2 });
  const lines = await drain(journal.cursor('cloud'));
  expect(lines.map((line) => line.message)).toEqual(['kept', 'again']);
  expect(lines.map((line) => line.id)).toEqual([`${id}-1`, `${journal.id}-1`]);
});

test.each(['header', 'content'])(
  'a damaged %s further in is skipped and counted, and nothing else',
  async (where) => {
    await using dir = await tempDir();
    {
      await using journal = open(dir.path);
      for (const n of [1, 11, 21]) {
        fill(journal, n, n + 9);
        await journal.flush();
      }
    }
    const path = join(dir.path, segments(dir.path)[0] as string);
    const bytes = readFileSync(path);
    const middle = walkMembers(bytes).members.find((member) => member.header.first === 11);
    if (!middle) throw new Error('no such member');
    // In the JSON of the extra field, or in the deflated data behind it.
    bytes.fill(
      0x55,
      middle.offset + (where === 'header' ? 30 : middle.bytes.length - 30),
      middle.offset + (where === 'header' ? 40 : middle.bytes.length - 20),
    );
    writeFileSync(path, bytes);

    await using journal = open(dir.path);
    const lines = await drain(journal.cursor('cloud'));
    const numbered = lines.filter((line) => line.source.type === 'container');
    expect(numbered.map((line) => line.seq)).toEqual([...range(1, 10), ...range(21, 30)]);
    await journal.flush();
    lines.push(...(await drain(journal.cursor('cloud'))));
    expect(lines.find((line) => line.source.type === 'manager')).toMatchObject({
      level: 'warn',
      source: { type: 'manager' },
      message: 'lost 10 lines, seq 11–20: journal damaged (on the way to cloud)',
      fields: { lost: 10, first: 11, last: 20 },
    });
  },
);

test('recovery never refuses: garbage, empty and foreign files in the folder', async () => {
  await using dir = await tempDir();
  writeFileSync(join(dir.path, '0000000001.log.gz'), 'not gzip at all');
  writeFileSync(join(dir.path, '0000000002.log.gz'), '');
  writeFileSync(join(dir.path, 'notes.txt'), 'leave me');
  await using journal = open(dir.path);
  fill(journal, 1, 2);
  await journal.flush();
  expect((await drain(journal.cursor('cloud'))).length).toBe(2);
  expect(readFileSync(join(dir.path, 'notes.txt'), 'utf8')).toBe('leave me');
});

test('bounded: the oldest segments go, and what a cursor had not sent is recorded as lost', async () => {
  await using dir = await tempDir();
  const limitsOnDisk = { maxFileBytes: 8 * 1024, maxBytes: 40 * 1024, recentLines: 1 };
  await using journal = open(dir.path, limitsOnDisk);
  const cursor = journal.cursor('cloud');
  for (let n = 1; n <= 400; n += 10) {
    fill(journal, n, n + 9, noise);
    await journal.flush();
  }
  expect(journal.stats().diskBytes).toBeLessThanOrEqual(40 * 1024 + 8 * 1024);
  expect(segments(dir.path).length).toBe(journal.stats().segments);
  const lines = await drain(cursor);
  await journal.flush();
  lines.push(...(await drain(cursor)));
  const kept = lines.filter((line) => line.source.type === 'container').map((line) => line.seq as number);
  expect(kept.at(-1)).toBe(400);
  expect(kept).toEqual(range(kept[0] as number, 400));
  const losses = lines.filter((line) => line.source.type === 'manager');
  expect(losses.length).toBe(1);
  expect(losses[0]?.fields).toMatchObject({
    lost: (kept[0] as number) - 1,
    first: 1,
    reason: 'journal full',
  });
});

test('a cursor that rewinds reads again behind what was acknowledged, within a batch too', async () => {
  await using dir = await tempDir();
  await using journal = open(dir.path);
  const cursor = journal.cursor('mqtt');
  journal.append({ message: 'a', timestamp: 1, level: 'error' });
  journal.append({ message: 'b', timestamp: 2 });
  journal.append({ message: 'c', timestamp: 3, level: 'warn' });
  await journal.flush();
  await cursor.next();
  cursor.ack(journal.id, 1);
  cursor.rewind();
  const batch = await cursor.next();
  expect(batch?.header).toMatchObject({ first: 2, count: 2, levels: [0, 1, 1, 0] });
  expect(batch?.messages().map((line) => line.message)).toEqual(['b', 'c']);
  // Confirming what was never sent, or another journal, changes nothing.
  cursor.ack(journal.id, 99);
  cursor.ack('someoneelse', 3);
  expect(cursor.lag().lines).toBe(2);
});

test('isolation: a cursor that never reads holds up neither the other nor the writer', async () => {
  await using dir = await tempDir();
  await using journal = open(dir.path, { maxFileBytes: 4096 });
  journal.cursor('dead');
  const alive = journal.cursor('alive');
  for (let round = 0; round < 20; round++) {
    fill(journal, round * 50 + 1, round * 50 + 50, noise);
    await journal.flush();
    expect((await drain(alive)).length).toBe(50);
  }
  expect(journal.cursor('dead').lag().lines).toBe(1000);
});

test('a large batch goes out as it lies, and a gzip batch never exceeds the publish limit', async () => {
  await using dir = await tempDir();
  await using journal = open(dir.path, { recentLines: 1 });
  for (let n = 1; n <= 1500; n++) journal.append({ message: `${n}${noise()}`, timestamp: n });
  journal.append({ message: '\u0000'.repeat(80_000), timestamp: 1501 });
  await journal.flush();
  const cursor = journal.cursor('mqtt');
  let next = 1;
  while (next <= 1501) {
    const batch = await cursor.next();
    if (!batch) break;
    expect(batch.header.first).toBe(next);
    next += batch.header.count;
    expect(batch.gzip().length).toBeLessThanOrEqual(limits.maxPublishBytes);
    const decoder = new BatchDecoder();
    const parts = decoder.push(gunzipSync(batch.gzip()));
    expect(parts.flatMap(decodePart)).toEqual(batch.messages());
  }
  expect(next).toBe(1502);
});

test('a disk that fails for a while: appenders are slowed down, nothing is lost or written twice', async () => {
  const disk = new CrashDisk();
  await using journal = new Journal({ disk, syncIntervalMs: 1 });
  fill(journal, 1, 5);
  await journal.flush();
  disk.failWith = 'ENOSPC';
  const before = disk.appends;
  for (let n = 6; n <= 2500; n++) journal.append({ message: `line ${n} ${'x'.repeat(2000)}`, timestamp: n });
  await until(() => disk.appends > before, { what: 'a failed write' });
  expect(journal.ready()).toBeInstanceOf(Promise);
  disk.failWith = undefined;
  await journal.ready();
  await journal.flush();
  expect(journal.ready()).toBeUndefined();
  const again = new Journal({ disk });
  expect((await drain(again.cursor('cloud'))).map((line) => line.seq)).toEqual(range(1, 2500));
  await again.abandon();
});

test('syncs are grouped when lines never stop, and an error does not wait for its group', async () => {
  const disk = new CrashDisk();
  await using journal = new Journal({ disk, syncIntervalMs: 60_000 });
  const cursor = journal.cursor('cloud');
  journal.append({ message: 'first', timestamp: 1 });
  await cursor.next();
  for (let n = 0; n < 1200; n++) {
    journal.append({ message: `${n}`, timestamp: 2 });
    await journal.flush();
  }
  // Credits are used up by now: an ordinary line waits for the interval, an error does not.
  journal.append({ message: 'patient', timestamp: 3 });
  while (cursor.lag().lines > 1) {
    if (!(await cursor.next(AbortSignal.timeout(50)))) break;
  }
  const syncs = disk.syncs;
  expect(await cursor.next(AbortSignal.timeout(150))).toBeUndefined();
  expect(disk.syncs).toBe(syncs);
  journal.append({ message: 'urgent', timestamp: 4, level: 'error' });
  const batch = await cursor.next(AbortSignal.timeout(5000));
  expect(batch?.messages().map((line) => line.message)).toEqual(['patient', 'urgent']);
});

test('a snapshot of thousands of positions spans members and survives', async () => {
  await using dir = await tempDir();
  {
    await using journal = open(dir.path, { maxFileBytes: 2000 });
    for (let n = 0; n < 3000; n++) {
      const key = `docker:${String(n).padStart(64, '0')}`;
      journal.append(
        { message: 'x', timestamp: n },
        { key, value: { stdout: { last: '1700000000.000000001', n } } },
      );
    }
    await journal.flush();
    fill(journal, 1, 1);
    await journal.flush();
  }
  await using journal = open(dir.path);
  expect(journal.positions('docker:').size).toBe(3000);
  expect(journal.position(`docker:${'2999'.padStart(64, '0')}`)).toEqual({
    stdout: { last: '1700000000.000000001', n: 2999 },
  });
});

test('a header that lies about its length is not followed', () => {
  const bytes = Buffer.alloc(64);
  bytes.writeUInt32BE(0x1f8b0804, 0);
  expect(memberAt(bytes, 0)).toBeUndefined();
});

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}
