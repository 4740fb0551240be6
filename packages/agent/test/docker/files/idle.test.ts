import { expect, test } from 'vitest';
import { tempDir } from '../../../../../tests/support/tmp.ts';
import { until } from '../../../../../tests/support/wait.ts';
import { BatchJournal } from './batch-journal.ts';
import { LogWriter } from './log-writer.ts';
import { TestReader } from './test-reader.ts';

test('a thousand logs that nobody writes to cost next to nothing, and one that wakes up is read at once', async () => {
  await using dir = await tempDir();
  const journal = new BatchJournal();
  const writers = Array.from(
    { length: 1_000 },
    (_, i) => new LogWriter(dir.path, String(i).padStart(64, '0')),
  );
  for (const writer of writers) writer.write('stdout', 'one\n');
  const readers = writers.map((writer) => new TestReader(writer, journal));
  const runs = readers.map((reader) => reader.follow());
  await until(() => journal.text('stdout') === 'one\n'.repeat(1_000));
  await until(() => readers.every(({ reader }) => reader.isWatched));
  const before = process.cpuUsage();
  const sinceMs = performance.now();
  await until(() => performance.now() - sinceMs > 1_000);
  const { user, system } = process.cpuUsage(before);
  // What waiting itself takes in a test, included.
  expect((user + system) / 1_000).toBeLessThan(60);
  const wokenMs = performance.now();
  writers[500]?.write('stdout', 'two\n');
  await until(() => journal.text('stdout').endsWith('two\n'));
  expect(performance.now() - wokenMs).toBeLessThan(500);
  for (const reader of readers) reader.stop();
  await Promise.all(runs);
});
