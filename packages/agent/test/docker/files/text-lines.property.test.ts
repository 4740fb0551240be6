import fc from 'fast-check';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../../tests/support/tmp.ts';
import { BatchJournal } from './batch-journal.ts';
import { LogWriter } from './log-writer.ts';
import { TestReader } from './test-reader.ts';

/** Beginnings, continuations and ends of all that is joined, and what looks like it. */
const texts = [
  'GET /a "quoted" 200',
  'WARN: slow',
  '[ERROR] failed',
  'Error: broken',
  '    at f (/a.js:1:2)',
  '\tat a.b.C.d(C.java:1)',
  'Caused by: java.io.IOException: x',
  'Traceback (most recent call last):',
  '  File "a.py", line 1',
  'ValueError: no',
  'panic: runtime error',
  'goroutine 1 [running]:',
  'PHP Fatal error:  Uncaught Exception: broken',
  'Stack trace:',
  'more of the message',
  'main.main()',
  "thread 'main' panicked at src/main.rs:1:2:",
  '/app/a.js:3',
  '  throw new Error()',
  '        ^',
  '{"level":"info"}',
  '}',
  '}\u2028',
  '  2026-11-20T12:41:25 padded',
  '',
  ' ',
  'ünï <b> & \u2028 \u0001 \\ end',
  'x'.repeat(5_000),
  `"${'y'.repeat(5_000)}`,
];

const line = fc.record({
  text: fc.oneof(fc.constantFrom(...texts), fc.string({ unit: 'grapheme', maxLength: 20 })),
  stream: fc.oneof(
    { weight: 5, arbitrary: fc.constant('stdout' as const) },
    { weight: 1, arbitrary: fc.constant('stderr' as const) },
  ),
});

/** What a container's log is read as, in each stream's order; the two may be interleaved otherwise. */
async function read(lines: readonly { text: string; stream: 'stdout' | 'stderr' }[], isEncoded: boolean) {
  await using dir = await tempDir();
  const writer = new LogWriter(dir.path, 'a'.repeat(64));
  for (const { text, stream } of lines) {
    writer.pass(1_000_000);
    writer.write(stream, `${text}\n`);
  }
  const journal = new BatchJournal();
  await new TestReader(writer, journal, { isEncoded, multiline: 'traces' }).readAll();
  const seen = journal.lines.map(({ message, timestamp, isStdErr = false, level }) => ({
    ...{ message, timestamp, isStdErr },
    level: level ?? (isStdErr ? 'error' : 'info'),
  }));
  return {
    out: seen.filter(({ isStdErr }) => !isStdErr),
    err: seen.filter(({ isStdErr }) => isStdErr),
    encodedLines: journal.encodedLines,
  };
}

test('text that goes the short way is joined, timed and classified as on the long one', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(line, { minLength: 1, maxLength: 30 }), async (lines) => {
      const [short, long] = [await read(lines, true), await read(lines, false)];
      expect(short.out).toEqual(long.out);
      expect(short.err).toEqual(long.err);
    }),
    { numRuns: Number(process.env.TEXT_RUNS ?? 150) },
  );
});

test('of text that nothing continues only the last line becomes an object', async () => {
  const lines = Array.from({ length: 100 }, (_, i) => ({
    text: `127.0.0.1 - - "GET /${i}" 200`,
    stream: 'stdout' as const,
  }));
  expect((await read(lines, true)).encodedLines).toBe(99);
  lines[50] = { text: '  indented', stream: 'stdout' };
  const { encodedLines, out } = await read(lines, true);
  expect([encodedLines, out.length]).toEqual([97, 99]);
});
