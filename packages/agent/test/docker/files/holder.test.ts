import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../../tests/support/tmp.ts';
import { until } from '../../../../../tests/support/wait.ts';
import { lookInto, needsHolder } from '../../../src/docker/files/container-folder.ts';
import { LogHolder } from '../../../src/docker/files/holder/holder.ts';
import { BatchJournal } from './batch-journal.ts';
import { LogWriter } from './log-writer.ts';
import type { RotatingWriterStart } from './rotating-writer.ts';
import { TestReader } from './test-reader.ts';

const id = 'c'.repeat(64);

/** How many files of a folder this process has open, those that have no name any more included. */
function openFiles(folder: string): number {
  const links = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      // The one with which they were listed.
      return '';
    }
  });
  return links.filter((link) => link.startsWith(`${folder}/`)).length;
}

/** Waits without letting anything else happen in this thread. */
function untilBlocked(condition: () => boolean, timeoutMs = 10_000): void {
  const cell = new Int32Array(new SharedArrayBuffer(4));
  for (const deadline = performance.now() + timeoutMs; !condition(); Atomics.wait(cell, 0, 0, 1)) {
    if (performance.now() > deadline) throw new Error('timed out: nobody else did it');
  }
}

/** A log of which the engine keeps two files, one line in each, that is read and held. */
class HeldCase implements AsyncDisposable {
  readonly journal = new BatchJournal();
  readonly holder: LogHolder;
  readonly writer: LogWriter;
  readonly reader: TestReader;
  expected = '';
  private readonly stopping = new AbortController();
  private readonly run: Promise<void>;
  private lines = 0;

  constructor(folder: string, { maxHeldFiles, restMs }: { maxHeldFiles?: number; restMs?: number } = {}) {
    this.writer = new LogWriter(folder, id);
    this.writer.configure({ 'max-size': '100k', 'max-file': '2' });
    this.holder = new LogHolder({ signal: this.stopping.signal, restMs });
    this.reader = new TestReader(this.writer, this.journal, { holder: this.holder, maxHeldFiles });
    this.run = this.reader.follow();
  }

  rotate(): void {
    const line = `line ${this.lines++}`;
    this.writer.pass(1_000_000);
    this.writer.write('stdout', `${line}\n`);
    this.writer.rotate({ maxFiles: 2 });
    this.expected += `${line}\n`;
  }

  async rotateAndRead(): Promise<void> {
    this.rotate();
    await this.isRead();
  }

  async isRead(): Promise<void> {
    const { journal } = this;
    await until(() => journal.text('stdout') === this.expected, { what: () => journal.text('stdout') });
  }

  /** Rotates until that is left to the holder. */
  async isHeld(): Promise<void> {
    await until(async () => {
      await this.rotateAndRead();
      return this.holder.heldLogs > 0;
    });
  }

  get openFiles(): number {
    return openFiles(this.writer.folder);
  }

  /** The container ends, and its log is read to the end. */
  async end(): Promise<void> {
    this.reader.reader.died();
    await this.run;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.reader.stop();
    this.stopping.abort();
    await this.run;
    await until(() => !this.holder.isRunning);
  }
}

test('files that come and go while nothing else gets a turn are read, each once, and closed', async () => {
  await using dir = await tempDir();
  await using held = new HeldCase(dir.path);
  await held.isHeld();
  const before = held.openFiles;
  for (let files = 1; files <= 50; files++) {
    held.rotate();
    untilBlocked(() => held.openFiles >= before + files);
  }
  await held.isRead();
  expect(held.journal.gaps).toEqual([]);
  await held.end();
  await until(() => held.openFiles === 0);
});

test('the thread that holds files dies: what it held is read, and the next files by others', async () => {
  await using dir = await tempDir();
  await using held = new HeldCase(dir.path);
  await held.isHeld();
  const before = held.openFiles;
  for (let files = 1; files <= 10; files++) {
    held.rotate();
    untilBlocked(() => held.openFiles >= before + files);
  }
  const { worker } = (held.holder as unknown as { thread: { worker: Worker } }).thread;
  const terminated = worker.terminate();
  await held.isRead();
  await terminated;
  for (let files = 0; files < 10; files++) await held.rotateAndRead();
  expect(held.journal.gaps).toEqual([]);
  await held.end();
  await until(() => held.openFiles === 0);
});

test('no more files are held than may be: of the others each is on record', async () => {
  await using dir = await tempDir();
  await using held = new HeldCase(dir.path, { maxHeldFiles: 8 });
  await held.isHeld();
  for (let files = 0; files < 30; files++) {
    held.rotate();
    untilBlocked(() => held.openFiles >= Math.min(8, files));
  }
  // More than it was asked for by as many as lie there at a look.
  expect(held.openFiles).toBeLessThan(12);
  const isLast = () => held.journal.text('stdout').endsWith(held.expected.slice(-9));
  await until(isLast, { what: () => held.journal.text('stdout') });
  const lines = held.journal.text('stdout').split('\n');
  const all = held.expected.split('\n');
  expect(lines).toEqual(all.filter((line) => lines.includes(line)));
  const missing = held.journal.gaps.reduce((files, { fields }) => files + Number(fields?.files), 0);
  expect(missing).toBe(all.length - lines.length);
  expect(missing).toBeGreaterThan(10);
});

test('a writer that nobody waits for: each of its lines is read once, or its file is on record', async () => {
  await using dir = await tempDir();
  await using held = new HeldCase(dir.path);
  await held.isHeld();
  const files = 500;
  const before = held.journal.text('stdout');
  const workerData: RotatingWriterStart = { folder: dir.path, id, files, maxFiles: 2, pauseMs: 0.5 };
  const writer = new Worker(new URL('./rotating-writer.ts', import.meta.url), { workerData });
  await once(writer, 'exit');
  const read = () => held.journal.text('stdout').slice(before.length).split('\n').slice(0, -1);
  await until(() => read().at(-1) === `fast ${files - 1}`, { what: () => String(read().at(-1)) });
  const numbers = read().map((line) => Number(line.slice(5)));
  expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
  const missing = held.journal.gaps.reduce((sum, { fields }) => sum + Number(fields?.files), 0);
  expect(missing).toBe(files - numbers.length);
});

test.for([
  { size: '100k', files: '3', isHeld: true },
  { size: '1m', files: '3', isHeld: true },
  { size: '10m', files: '3', isHeld: false },
  // That one is cut, and nothing of it can be held.
  { size: '100k', files: '1', isHeld: false },
])('$files files of $size: whether the thread is needed', async ({ size, files, isHeld }) => {
  await using dir = await tempDir();
  const writer = new LogWriter(dir.path, id);
  writer.configure({ 'max-size': size, 'max-file': files });
  expect(needsHolder(lookInto(writer.folder))).toBe(isHeld);
});

test('a log that rests is let go, and the thread ends; it is read all the same', async () => {
  await using dir = await tempDir();
  await using held = new HeldCase(dir.path, { restMs: 200 });
  await held.isHeld();
  await until(() => held.holder.heldLogs === 0 && !held.holder.isRunning);
  await held.rotateAndRead();
  // And back again.
  await held.isHeld();
  expect(held.journal.gaps).toEqual([]);
});
