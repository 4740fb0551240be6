import { appendFile, copyFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { MemoryJournal, numbered } from '../docker/memory-journal.ts';
import { messages, started, text, untilCount } from './followed-files.ts';

test('a file that was renamed twice, unread, is read to its end, then those that came between', async () => {
  await using dir = await tempDir();
  const journal = new MemoryJournal();
  const path = join(dir.path, 'app.log');
  await writeFile(path, text(numbered('line', 10)));
  {
    await using _source = await started(dir.path, journal);
    await untilCount(journal, 10);
  }
  await appendFile(path, text(numbered('line', 10, 11)));
  await rename(path, `${path}.2`);
  await writeFile(`${path}.1`, text(numbered('line', 10, 21)));
  await writeFile(path, text(numbered('line', 10, 31)));
  await using _source = await started(dir.path, journal);
  await untilCount(journal, 40);
  expect(messages(journal)).toEqual(numbered('line', 40));
});

test('a program that writes on into a renamed file is read, and after it the new one', async () => {
  await using dir = await tempDir();
  const journal = new MemoryJournal();
  const path = join(dir.path, 'app.log');
  await writeFile(path, text(numbered('line', 10)));
  await using _source = await started(dir.path, journal);
  await untilCount(journal, 10);
  await rename(path, `${path}.1`);
  await appendFile(`${path}.1`, text(numbered('line', 10, 11)));
  await untilCount(journal, 20);
  await writeFile(path, text(numbered('line', 10, 21)));
  await untilCount(journal, 30);
  expect(messages(journal)).toEqual(numbered('line', 30));
});

test.for(['*.log', '*'])('a file that was copied and emptied goes on in its copy: %s', async (pattern) => {
  await using dir = await tempDir();
  const journal = new MemoryJournal();
  const path = join(dir.path, 'app.log');
  const options = { patterns: [join(dir.path, pattern)] };
  await writeFile(path, text(numbered('line', 10)));
  {
    await using _source = await started(dir.path, journal, options);
    await untilCount(journal, 10);
    await copyFile(path, `${path}.1`);
    await truncate(path);
    await appendFile(path, text(numbered('line', 10, 11)));
    await untilCount(journal, 20);
  }
  await appendFile(path, text(numbered('line', 10, 21)));
  await rename(`${path}.1`, `${path}.2`);
  await copyFile(path, `${path}.1`);
  await truncate(path);
  await appendFile(path, text(numbered('line', 30, 31)));
  await using _source = await started(dir.path, journal, options);
  await untilCount(journal, 60);
  expect(messages(journal)).toEqual(numbered('line', 60));
});

test('a file that is emptied while it is still being read goes on in its copy', async () => {
  await using dir = await tempDir();
  const journal = new MemoryJournal();
  const path = join(dir.path, 'app.log');
  const lines = numbered('a line of which not all fit into one buffer', 20_000);
  await writeFile(path, text(lines));
  const gate = Promise.withResolvers<void>();
  journal.gate = gate.promise;
  const starting = started(dir.path, journal);
  await until(() => journal.lines.length === 1);
  await copyFile(path, `${path}.1`);
  await truncate(path);
  await appendFile(path, text(numbered('new', 50)));
  journal.gate = undefined;
  gate.resolve();
  await using _source = await starting;
  await untilCount(journal, 20_050);
  expect(messages(journal)).toEqual([...lines, ...numbered('new', 50)]);
});

test('a file that was empty at the end, then filled and emptied again, goes on in its copy', async () => {
  await using dir = await tempDir();
  const journal = new MemoryJournal();
  const path = join(dir.path, 'app.log');
  await writeFile(path, '');
  {
    await using _source = await started(dir.path, journal);
  }
  await appendFile(path, text(numbered('line', 10)));
  await copyFile(path, `${path}.1`);
  await truncate(path);
  await appendFile(path, text(numbered('line', 10, 11)));
  await using _source = await started(dir.path, journal);
  await untilCount(journal, 20);
  expect(messages(journal)).toEqual(numbered('line', 20));
});

test('a file that is removed is read to its end, and its inode may be given to another', async () => {
  await using dir = await tempDir();
  const journal = new MemoryJournal();
  const path = join(dir.path, 'app.log');
  await writeFile(path, 'keeps its place\n');
  const gate = Promise.withResolvers<void>();
  journal.gate = gate.promise;
  const starting = started(dir.path, journal);
  await until(() => journal.lines.length === 1);
  await appendFile(path, text(numbered('old', 50)));
  await rm(path);
  await writeFile(path, text(numbered('new', 50)));
  journal.gate = undefined;
  gate.resolve();
  await using _source = await starting;
  await untilCount(journal, 101);
  expect(messages(journal)).toEqual(['keeps its place', ...numbered('old', 50), ...numbered('new', 50)]);
  await until(() => journal.forgotten.length === 1);
});

test('another file under the inode of one that was read is read from its beginning', async () => {
  await using dir = await tempDir();
  const journal = new MemoryJournal();
  const path = join(dir.path, 'app.log');
  await writeFile(path, text(numbered('old', 50)));
  const { ino } = await stat(path);
  {
    await using _source = await started(dir.path, journal);
    await untilCount(journal, 50);
  }
  // The inode stays the same for certain, where removing and making anew only may have that effect.
  await truncate(path);
  await appendFile(path, text(numbered('new', 80)));
  expect((await stat(path)).ino).toBe(ino);
  await using _source = await started(dir.path, journal);
  await untilCount(journal, 131);
  const [gap] = journal.lines.splice(50, 1);
  expect(gap).toMatchObject({ level: 'warn', serviceName: 'app', fields: { gap: 'rotated', file: path } });
  expect(gap?.message).toMatch(/^lines of app may be missing before /);
  expect(messages(journal)).toEqual([...numbered('old', 50), ...numbered('new', 80)]);
});
