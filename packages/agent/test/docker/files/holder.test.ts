import { once } from 'node:events';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
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

/** How many files of a folder a process has open, those that have no name any more included. */
function openFiles(folder: string, pid: number | string = 'self'): number {
  let fds: string[];
  try {
    fds = readdirSync(`/proc/${pid}/fd`);
  } catch {
    return 0;
  }
  const links = fds.map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
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
    await until(() => this.heldFiles === 0);
  }

  /** Rotates while nothing else happens in this thread. */
  rotateBlocked(times: number): void {
    for (let files = 1; files <= times; files++) {
      this.rotate();
      untilBlocked(() => this.heldFiles >= files);
    }
  }

  /** Files that are on record as missing. */
  get missing(): number {
    return this.journal.gaps.reduce((sum, { fields }) => sum + Number(fields?.files), 0);
  }

  /** Here and in the holder's process. */
  get openFiles(): number {
    return openFiles(this.writer.folder) + this.heldFiles;
  }

  /** That the holder's process has, because this one has not got round to taking them. */
  get heldFiles(): number {
    return openFiles(this.writer.folder, this.pid);
  }

  get pid(): number {
    const { pid } = this.holder;
    if (pid === undefined) throw new Error('the holder has no process');
    return pid;
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
  held.rotateBlocked(50);
  await held.isRead();
  expect(held.journal.gaps).toEqual([]);
  await until(() => held.heldFiles === 0);
  await held.end();
  await until(() => openFiles(held.writer.folder) === 0);
});

test('the holder is killed: what nobody has taken is on record, and the next files are read by others', async () => {
  await using dir = await tempDir();
  await using held = new HeldCase(dir.path);
  await held.isHeld();
  held.rotateBlocked(10);
  process.kill(held.pid, 'SIGKILL');
  // Two have a name: the last that was written, and an empty one.
  const last = held.expected.split('\n').slice(-2).join('\n');
  await until(() => held.journal.text('stdout').endsWith(last), { what: () => held.journal.text('stdout') });
  const lines = held.journal.text('stdout').split('\n');
  expect(lines).toEqual(held.expected.split('\n').filter((line) => lines.includes(line)));
  expect(held.missing).toBe(8);
  held.expected = held.journal.text('stdout');
  for (let files = 0; files < 10; files++) await held.rotateAndRead();
  expect(held.missing).toBe(8);
  await held.end();
  await until(() => openFiles(held.writer.folder) === 0);
});

test('the holder does not answer: the log is read without it, each line once', async () => {
  await using dir = await tempDir();
  await using held = new HeldCase(dir.path);
  await held.isHeld();
  const { pid } = held;
  process.kill(pid, 'SIGSTOP');
  await held.rotateAndRead();
  expect(held.journal.gaps).toEqual([]);
  process.kill(pid, 'SIGCONT');
  await held.rotateAndRead();
  await held.rotateAndRead();
  expect(held.journal.gaps).toEqual([]);
  await until(() => openFiles(held.writer.folder, pid) === 0);
});

test('the agent is gone: so is the holder', async () => {
  const owner = new Worker(
    `const { fork } = require('node:child_process');
     const child = fork(${JSON.stringify(fileURLToPath(new URL('../../../src/docker/files/holder/process.ts', import.meta.url)))});
     const { parentPort } = require('node:worker_threads');
     child.once('message', () => {
       parentPort.postMessage(child.pid);
       child.on('message', ({ told }) => parentPort.postMessage(told));
     });
     parentPort.on('message', () => {
       child.send({ do: 'hold', log: 0, path: '/none', everyMs: 1, room: 1 });
       child.send({ do: 'end', log: 0 });
     });`,
    { eval: true },
  );
  const [pid] = (await once(owner, 'message')) as [number];
  // As a terminal does, and a service manager, to all processes at once: those are for the agent.
  process.kill(pid, 'SIGTERM');
  process.kill(pid, 'SIGINT');
  owner.postMessage('ask');
  expect(await once(owner, 'message', { signal: AbortSignal.timeout(10_000) })).toEqual(['ended']);
  await owner.terminate();
  await until(() => !existsSync(`/proc/${pid}/fd/0`));
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
  expect(held.missing).toBe(all.length - lines.length);
  expect(held.missing).toBeGreaterThan(10);
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
  expect(held.missing).toBe(files - numbers.length);
});

test.for([
  { size: '100k', files: '3', isHeld: true },
  { size: '1m', files: '3', isHeld: true },
  { size: '10m', files: '3', isHeld: false },
  // That one is cut, and nothing of it can be held.
  { size: '100k', files: '1', isHeld: false },
])('$files files of $size: whether the holder is needed', async ({ size, files, isHeld }) => {
  await using dir = await tempDir();
  const writer = new LogWriter(dir.path, id);
  writer.configure({ 'max-size': size, 'max-file': files });
  expect(needsHolder(lookInto(writer.folder))).toBe(isHeld);
});

test('a log that rests is let go, and the holder ends; it is read all the same', async () => {
  await using dir = await tempDir();
  await using held = new HeldCase(dir.path, { restMs: 200 });
  await held.isHeld();
  await until(() => held.holder.heldLogs === 0 && !held.holder.isRunning);
  await held.rotateAndRead();
  // And back again.
  await held.isHeld();
  expect(held.journal.gaps).toEqual([]);
});

/** The holder is told of a log before there is one, and whoever reads it begins later. */
class ForeseenCase implements AsyncDisposable {
  readonly writer: LogWriter;
  readonly holder: LogHolder;
  private readonly stopping = new AbortController();
  private lines = 0;
  expected = '';

  private constructor(folder: string, restMs?: number) {
    this.writer = new LogWriter(folder, id);
    this.writer.configure({ 'max-size': '100k', 'max-file': '2' });
    this.holder = new LogHolder({ signal: this.stopping.signal, restMs });
    this.holder.foresee({ path: this.writer.path, plainFiles: 2, room: 256, lifeMs: 5 });
  }

  static async start(folder: string, restMs?: number): Promise<ForeseenCase> {
    const foreseen = new ForeseenCase(folder, restMs);
    await until(() => foreseen.holder.heldLogs === 1);
    const { writer, holder } = foreseen;
    // The first file, which is there already and empty, has been taken.
    await until(() => openFiles(writer.folder) === 1 && openFiles(writer.folder, holder.pid) === 0);
    return foreseen;
  }

  /** While nothing else happens in this thread. */
  write(files: number): void {
    const { pid } = this.holder;
    for (let file = 0; file < files; file++) {
      const line = `line ${this.lines++}`;
      this.expected += `${line}\n`;
      this.writer.pass(1_000_000);
      this.writer.write('stdout', `${line}\n`);
      untilBlocked(() => openFiles(this.writer.folder, pid) >= this.lines - 1);
      if (file < files - 1) this.writer.rotate({ maxFiles: 2 });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stopping.abort();
    await until(() => !this.holder.isRunning);
  }
}

test('a log is rotated many times before its reader begins: each line is read once', async () => {
  await using dir = await tempDir();
  await using foreseen = await ForeseenCase.start(dir.path);
  foreseen.write(20);
  const journal = new BatchJournal();
  const { writer, holder } = foreseen;
  const reader = new TestReader(writer, journal, { holder });
  const run = reader.follow();
  await until(() => journal.text('stdout') === foreseen.expected, { what: () => journal.text('stdout') });
  expect(journal.gaps).toEqual([]);
  expect(holder.heldLogs).toBe(1);
  // And what comes next.
  for (let files = 0; files < 5; files++) writer.rotate({ maxFiles: 2 });
  reader.reader.died();
  await run;
  expect(journal.gaps).toEqual([]);
});

test('a log that was foreseen and that nobody reads is let go', async () => {
  await using dir = await tempDir();
  await using foreseen = await ForeseenCase.start(dir.path, 1000);
  const { pid } = foreseen.holder;
  foreseen.write(3);
  await until(() => openFiles(foreseen.writer.folder, pid) === 0);
  await until(() => !foreseen.holder.isRunning);
});

test('the holder is killed while nobody reads a log that was foreseen: no file of it stays open', async () => {
  await using dir = await tempDir();
  await using foreseen = await ForeseenCase.start(dir.path);
  const { pid } = foreseen.holder;
  expect(openFiles(foreseen.writer.folder)).toBe(1);
  process.kill(pid as number, 'SIGKILL');
  await until(() => openFiles(foreseen.writer.folder) === 0);
});
