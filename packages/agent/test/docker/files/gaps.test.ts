import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LogInput } from '@millrace/wire';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../../tests/support/tmp.ts';
import { until } from '../../../../../tests/support/wait.ts';
import { BatchJournal } from './batch-journal.ts';
import { LogWriter } from './log-writer.ts';
import { TestReader } from './test-reader.ts';

const id = 'c'.repeat(64);

function print(writer: LogWriter, ...texts: string[]): void {
  for (const text of texts) {
    writer.pass(1_000_000);
    writer.write('stdout', `${text}\n`);
  }
}

const gapOf = ({ fields }: LogInput) => fields?.gap;
const shown = (journal: BatchJournal) =>
  journal.lines.map((line) => (gapOf(line) === undefined ? line.message : `gap: ${gapOf(line)}`));

test('a file that the engine cut before it was read to its end: what is missing at least, and between which lines', async () => {
  await using dir = await tempDir();
  const writer = new LogWriter(dir.path, id);
  writer.configure({ 'max-size': '1000', 'max-file': '1' });
  const journal = new BatchJournal();
  const reader = new TestReader(writer, journal);
  const run = reader.follow();
  print(writer, 'one', 'two');
  await until(() => journal.lines.length === 2);
  print(writer, 'never read', 'nor this');
  writer.cut();
  print(writer, 'three');
  await until(() => shown(journal).includes('three'));
  reader.stop();
  await run;
  expect(shown(journal)).toEqual(['one', 'two', 'gap: cut', 'three']);
  const read = 2 * '{"log":"one\\n","stream":"stdout","time":"2026-09-21T13:33:20.124456789Z"}\n'.length;
  const [gap] = journal.lines.filter((line) => gapOf(line));
  expect(gap).toMatchObject({
    level: 'warn',
    source: { type: 'manager', name: 'capture' },
    serviceName: 'test',
    containerId: id,
    timestamp: journal.lines.at(-1)?.timestamp,
    fields: { gap: 'cut', bytes: 1000 - read },
  });
  expect(gap?.message).toMatch(
    /^lines of test are missing between 2026-\S+Z and 2026-\S+Z: cut away before they could be read \(at least \d+ bytes\)$/,
  );
  const { from, to } = gap?.fields ?? {};
  expect([from, to].map((time) => Date.parse(String(time)))).toEqual([
    journal.lines[1]?.timestamp,
    journal.lines[3]?.timestamp,
  ]);
});

test('a file that was cut when it had been read to its end: nothing is missing', async () => {
  await using dir = await tempDir();
  const writer = new LogWriter(dir.path, id);
  writer.configure({ 'max-size': '100', 'max-file': '1' });
  const journal = new BatchJournal();
  const reader = new TestReader(writer, journal);
  const run = reader.follow();
  print(writer, 'one', 'two');
  await until(() => journal.lines.length === 2);
  writer.cut();
  print(writer, 'three');
  await until(() => journal.lines.length === 3);
  reader.stop();
  await run;
  expect(shown(journal)).toEqual(['one', 'two', 'three']);
});

test('files that came and went unseen are counted; one that was rotated away when it had been read is not', async () => {
  await using dir = await tempDir();
  const writer = new LogWriter(dir.path, id);
  writer.configure({ 'max-size': '100', 'max-file': '2' });
  const journal = new BatchJournal();
  const reader = new TestReader(writer, journal);
  const run = reader.follow();
  print(writer, 'one');
  await until(() => journal.lines.length === 1);
  const rotate = () => writer.rotate({ maxFiles: 2 });
  rotate();
  print(writer, 'two');
  rotate();
  print(writer, 'three');
  await until(() => journal.lines.length === 3);
  for (const text of ['lost', 'lost too', 'four', 'five']) {
    rotate();
    print(writer, text);
  }
  await until(() => shown(journal).includes('five'));
  reader.stop();
  await run;
  expect(shown(journal)).toEqual(['one', 'two', 'three', 'gap: rotated', 'four', 'five']);
  expect(journal.lines[3]?.fields).toMatchObject({ gap: 'rotated', files: 2, bytes: 200 });
  expect(journal.lines[3]?.message).toContain('(at least 200 bytes in 2 files)');
});

test('what was rotated away while the agent was down may be missing: that is said once', async () => {
  await using dir = await tempDir();
  const writer = new LogWriter(dir.path, id);
  const journal = new BatchJournal();
  print(writer, 'one', 'two');
  await new TestReader(writer, journal).readAll();
  journal.seal();
  print(writer, 'lost');
  writer.rotate({ maxFiles: 2 });
  rmSync(`${writer.path}.1`);
  print(writer, 'three');
  for (let life = 0; life < 2; life++) {
    await new TestReader(writer, journal).readAll();
    journal.seal();
  }
  expect(shown(journal)).toEqual(['one', 'two', 'gap: rotated', 'three']);
  expect(journal.lines[2]?.message).toMatch(/^lines of test may be missing between /);
});

test('a crash between a gap and the line behind it: the gap is on record, and no line twice', async () => {
  await using dir = await tempDir();
  const writer = new LogWriter(dir.path, id);
  writer.configure({ 'max-size': '1000', 'max-file': '1' });
  const journal = new BatchJournal();
  const reader = new TestReader(writer, journal, { isEncoded: false, crashAfter: 3 });
  const run = reader.follow();
  print(writer, 'one', 'two');
  await until(() => journal.lines.length === 2);
  print(writer, 'never read');
  writer.cut();
  print(writer, 'three', 'four');
  await until(() => reader.hasCrashed);
  reader.stop();
  await run;
  await new TestReader(writer, journal).readAll();
  journal.seal();
  expect(shown(journal).slice(-2)).toEqual(['three', 'four']);
  expect(shown(journal).filter((text) => text.startsWith('gap'))).toHaveLength(1);
});

test.each([
  { created: '2026-09-01T00:00:00Z', expected: ['gap: rotated', 'two', 'three'] },
  { created: '2026-01-01T00:00:00Z', expected: ['two', 'three'] },
])(
  'the beginning of a log that was rotated away before it was opened, of a container of $created',
  async ({ created, expected }) => {
    await using dir = await tempDir();
    const writer = new LogWriter(dir.path, id);
    writer.configure({ 'max-size': '100', 'max-file': '2' });
    writeFileSync(join(writer.folder, 'config.v2.json'), JSON.stringify({ Name: '/test', Created: created }));
    const journal = new BatchJournal();
    for (const text of ['one', 'two', 'three']) {
      if (text !== 'one') writer.rotate({ maxFiles: 2 });
      print(writer, text);
    }
    for (let life = 0; life < 2; life++) {
      await new TestReader(writer, journal, { startMs: Date.parse('2026-08-01T00:00:00Z') }).readAll();
      journal.seal();
    }
    expect(shown(journal)).toEqual(expected);
    if (expected.length === 3) {
      expect(journal.lines[0]?.message).toMatch(
        /^lines of test may be missing before 2026-\S+Z: rotated away/,
      );
    }
  },
);
