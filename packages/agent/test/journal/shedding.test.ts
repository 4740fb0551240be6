import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { BatchDecoder, decodePart, limits } from '@millrace/wire';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { FolderDisk } from '../../src/journal/disk.ts';
import { inspectJournal } from '../../src/journal/inspect.ts';
import { Journal } from '../../src/journal/journal.ts';
import { queryJournal } from '../../src/journal/query.ts';
import { CrashDisk } from './crash-disk.ts';
import {
  containers,
  countOf,
  drain,
  fill,
  levelOf,
  losses,
  lostIn,
  noise,
  settled,
  small,
} from './full-journal.ts';

test('over budget, debug goes first, oldest first, then info; the rest arrives, and what is gone is on record', async () => {
  const disk = new CrashDisk();
  const journal = new Journal({ disk, ...small });
  const cursor = journal.cursor('cloud');
  const total = 3000;
  await fill(journal, 1, total);
  await settled(journal, 100_000);
  const { shed } = journal.stats();
  expect(shed[0]).toBeGreaterThan(0);
  expect(shed.slice(2)).toEqual([0, 0]);
  // While one closed segment has debug lines, none has lost others.
  const reports = [...inspectJournal(disk)].map(({ report }) => report);
  const closed = reports.slice(0, -1);
  if (shed[1] > 0) expect(closed.every((report) => report.levels[0] === 0)).toBe(true);
  const firstWhole = closed.findIndex((report) => report.shed[1] === 0);
  expect(closed.slice(firstWhole < 0 ? closed.length : firstWhole).every((r) => r.shed[1] === 0)).toBe(true);

  const lines = await drain(journal, cursor);
  const arrived = containers(lines);
  expect(countOf(arrived).slice(2)).toEqual([300, 300]);
  expect(arrived.length + lostIn(lines)).toBe(total);
  expect(lostIn(lines)).toBe(shed[0] + shed[1]);
  expect(arrived.every((line) => line.message.startsWith(`line ${line.seq} `))).toBe(true);
  expect(cursor.lag()).toEqual({ lines: 0, lost: shed[0] + shed[1] });
  // One record for the whole stretch, though it has a gap at every second line.
  const [record, ...more] = losses(lines);
  expect(more).toEqual([]);
  expect(record?.message).toMatch(
    /^lost \d+ lines \(debug(, info)?\), seq 1–\d+: journal full \(on the way to cloud\)$/,
  );
  expect(record?.fields).toMatchObject({
    ...{ first: 1, reason: 'journal full', backend: 'cloud' },
    levels: { debug: shed[0], ...(shed[1] > 0 && { info: shed[1] }) },
  });
  await journal.abandon();
});

test('when even warnings and errors are too many, the oldest segments go whole, and are counted by level', async () => {
  const disk = new CrashDisk();
  const journal = new Journal({ disk, ...small });
  const cursor = journal.cursor('cloud');
  const total = 9000;
  await fill(journal, 1, total);
  await settled(journal, 100_000);
  const { shed } = journal.stats();
  expect(shed[2]).toBeGreaterThan(0);
  expect([...inspectJournal(disk)].slice(0, -1).every(({ report }) => report.levels[1] === 0)).toBe(true);
  const lines = await drain(journal, cursor);
  expect(containers(lines).length + lostIn(lines)).toBe(total);
  expect(lostIn(lines)).toBe(shed.reduce((sum, n) => sum + n, 0));
  const [record] = losses(lines);
  expect(record?.fields).toMatchObject({ levels: { warn: expect.any(Number), error: expect.any(Number) } });
  await journal.abandon();
});

test('bounded: while segments are thinned, appending waits rather than exceed the budget by more than a segment', async () => {
  const journal = new Journal({ disk: new CrashDisk(), ...small });
  journal.cursor('cloud');
  let most = 0;
  for (let n = 1; n <= 4000; n++) {
    journal.append({ message: noise(), timestamp: n, level: levelOf(n) });
    if (n % 50 === 0) await journal.flush();
    most = Math.max(most, journal.stats().diskBytes);
  }
  expect(most).toBeLessThanOrEqual(120_000);
  await journal.abandon();
});

test('what every reader has confirmed goes first, whole; a device without a reader keeps its newest lines whole', async () => {
  for (const reading of [true, false]) {
    const disk = new CrashDisk();
    const journal = new Journal({ disk, ...small });
    const cursor = reading ? journal.cursor('cloud') : undefined;
    for (let n = 1; n <= 3000; n += 500) {
      await fill(journal, n, n + 499);
      if (cursor) await drain(journal, cursor);
      // The place of the cursor is saved with the next batch.
      await journal.flush();
    }
    await settled(journal, 100_000);
    expect(disk.renames).toBe(0);
    expect(journal.stats().shed).toEqual([0, 0, 0, 0]);
    expect([...inspectJournal(disk)].every(({ report }) => report.levels[0] > 0 || report.lines < 50)).toBe(
      true,
    );
    await journal.abandon();
  }
});

test('a thinned segment is an ordinary gzip file of wire batches, and local queries find what is left', async () => {
  await using dir = await tempDir();
  const journal = new Journal({ disk: new FolderDisk(dir.path), ...small });
  journal.cursor('cloud');
  await fill(journal, 1, 2000);
  await settled(journal, 100_000);
  const names = readdirSync(dir.path).sort();
  expect(names.every((name) => /^\d{10}\.log\.gz$/.test(name))).toBe(true);
  const text = execFileSync('zcat', [join(dir.path, names[0] as string)], { maxBuffer: 1e8 });
  const decoder = new BatchDecoder();
  const lines = [...decoder.push(text), ...decoder.end()].flatMap(decodePart);
  expect(lines.length).toBeGreaterThan(10);
  expect(lines.every((line) => line.message.startsWith(`line ${line.seq} `))).toBe(true);
  expect(countOf(lines)[0]).toBe(0);

  const found = await queryJournal(journal, { level: 'error', limit: 10_000 });
  expect(found.map((line) => line.timestamp)).toEqual(Array.from({ length: 200 }, (_, i) => i * 10 + 3));
  const debug = await queryJournal(journal, { level: 'debug', limit: 10_000 });
  expect(debug.length).toBe(800 - journal.stats().shed[0]);
  await journal.close();
});

test('a thinned batch goes out as it lies, within the publish limit', async () => {
  const journal = new Journal({ disk: new CrashDisk(), ...small, maxFileBytes: 60_000, maxBytes: 400_000 });
  const cursor = journal.cursor('mqtt');
  for (let n = 1; n <= 6000; n++) {
    journal.append({ message: noise(), timestamp: n, level: n % 2 ? 'debug' : 'info' });
    if (n % 1500 === 0) await journal.flush();
  }
  await settled(journal, 400_000);
  let thinned = 0;
  for (let batch = await cursor.next(); batch; batch = await cursor.next(AbortSignal.timeout(20))) {
    const gzip = batch.gzip();
    expect(gzip.length).toBeLessThanOrEqual(limits.maxPublishBytes);
    const content = gunzipSync(gzip);
    expect(content).toEqual(batch.encoded());
    expect(content.length).toBeLessThanOrEqual(limits.maxBatchBytes);
    const decoder = new BatchDecoder();
    expect([...decoder.push(content), ...decoder.end()].flatMap(decodePart)).toEqual(batch.messages());
    if (batch.runs.length > 1) thinned++;
  }
  expect(thinned).toBeGreaterThan(1);
  await journal.abandon();
});

test('a reader in the middle of a segment that is replaced goes on by position', async () => {
  // Larger than what a reader takes into memory at a time.
  const maxBytes = 3_000_000;
  const journal = new Journal({ disk: new CrashDisk(), ...small, maxFileBytes: 1_200_000, maxBytes });
  const cursor = journal.cursor('cloud');
  const print = async (from: number, to: number) => {
    for (let n = from; n <= to; n++) {
      journal.append({ message: `line ${n} ${noise(2000)}`, timestamp: n, level: levelOf(n) });
      if (n % 20 === 0) await journal.flush();
    }
    await journal.flush();
  };
  await print(1, 800);
  const before = containers((await cursor.next())?.messages() ?? []);
  expect(before.length).toBeGreaterThan(5);
  await print(801, 2000);
  await settled(journal, maxBytes);
  expect(journal.stats().shed[0]).toBeGreaterThan(200);
  cursor.ack(journal.id, before.length);
  const lines = await drain(journal, cursor);
  const arrived = [...before, ...containers(lines)];
  expect(arrived.every((line) => line.message.startsWith(`line ${line.seq} `))).toBe(true);
  expect(new Set(arrived.map((line) => line.seq)).size).toBe(arrived.length);
  // What was handed out before it was shed has arrived: it is not lost.
  expect(arrived.length + lostIn(lines)).toBe(2000);
  expect(losses(lines).every((line) => line.fields?.reason === 'journal full')).toBe(true);
  await journal.abandon();
});

test('a reader that starts again and again counts what it passes once', async () => {
  const journal = new Journal({ disk: new CrashDisk(), ...small });
  const cursor = journal.cursor('cloud');
  await fill(journal, 1, 3000);
  await settled(journal, 100_000);
  for (let round = 0; round < 3; round++) {
    expect(await cursor.next(AbortSignal.timeout(5000))).toBeDefined();
    expect(cursor.lag().lost).toBeGreaterThan(0);
    cursor.rewind();
    expect(cursor.lag().lost).toBe(0);
  }
  const lines = await drain(journal, cursor);
  expect(containers(lines).length + lostIn(lines)).toBe(3000);
  await journal.abandon();
});

test('flash wear: over budget, thinning writes at most 1.64 times what was written without it', async () => {
  const written = async (maxBytes: number) => {
    const journal = new Journal({ disk: new CrashDisk(), ...small, maxBytes });
    journal.cursor('cloud');
    await fill(journal, 1, 6000);
    await settled(journal, maxBytes);
    const { writtenBytes } = journal.stats();
    await journal.abandon();
    return writtenBytes;
  };
  const within = await written(1e9);
  const over = await written(100_000);
  expect(over).toBeGreaterThan(within);
  // Measured: 1.8, with 40 % debug and 40 % info.
  expect(over / within).toBeLessThan(2.64);
});
