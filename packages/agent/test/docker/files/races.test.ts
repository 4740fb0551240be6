import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../../tests/support/tmp.ts';
import { until } from '../../../../../tests/support/wait.ts';
import { BatchJournal } from './batch-journal.ts';
import { LogWriter } from './log-writer.ts';
import { TestReader } from './test-reader.ts';

// As soon as a line has arrived its reader looks for the next: right then more is written, and the file goes.
test.for([
  { change: 'renamed', go: (writer: LogWriter) => writer.rotate({ maxFiles: 1_000 }) },
  { change: 'compressed', go: (writer: LogWriter) => writer.rotate({ maxFiles: 1_000, compress: true }) },
  { change: 'copied and cut', go: (writer: LogWriter) => writer.copyAndCut({ maxFiles: 1_000 }) },
])('a file that is $change the moment after its last line was written', async ({ go }) => {
  await using dir = await tempDir();
  const writer = new LogWriter(dir.path, 'c'.repeat(64));
  const journal = new BatchJournal();
  const reader = new TestReader(writer, journal);
  const run = reader.follow();
  let expected = '';
  const write = (text: string) => {
    writer.pass(1);
    writer.write('stdout', `${text}\n`);
    expected += `${text}\n`;
  };
  for (let round = 0; round < 60; round++) {
    write(`first ${round}`);
    const deadlineMs = performance.now() + 5_000;
    while (journal.text('stdout') !== expected && performance.now() < deadlineMs) await nextTurn();
    expect(journal.text('stdout')).toBe(expected);
    for (let turns = round % 4; turns > 0; turns--) await nextTurn();
    write(`last ${round}`);
    go(writer);
  }
  await until(() => journal.text('stdout') === expected, { what: () => journal.text('stdout').slice(-200) });
  reader.stop();
  await run;
});
