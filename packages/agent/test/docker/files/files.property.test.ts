import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../../tests/support/tmp.ts';
import { until } from '../../../../../tests/support/wait.ts';
import { LogHolder } from '../../../src/docker/files/holder/holder.ts';
import { BatchJournal } from './batch-journal.ts';
import { LogWriter } from './log-writer.ts';
import { TestReader, type TestReaderOptions } from './test-reader.ts';

type Step =
  | {
      do: 'write';
      stream: 'stdout' | 'stderr';
      text: string;
      isPiece: boolean;
      nanos: number;
      attrs: boolean;
    }
  | { do: 'rotate'; compress: boolean }
  | { do: 'copyAndCut' }
  | { do: 'cut' }
  | { do: 'look'; turns: number }
  | { do: 'restart'; crashAfter: number; turns: number; isByMarks: boolean };

const write = fc.record({
  do: fc.constant('write' as const),
  stream: fc.constantFrom('stdout' as const, 'stderr' as const),
  text: fc.oneof(
    fc.string({ unit: 'grapheme', maxLength: 12 }),
    fc.constantFrom(
      'same',
      '  indented',
      'Error: broken',
      '{"level":"warn"}',
      'say "so" \u2028',
      '\tat a.b(c.js:1)',
      '',
    ),
    fc.constant('x'.repeat(300)),
  ),
  isPiece: fc.boolean(),
  // Equal times too: an engine's clock may be coarse.
  nanos: fc.constantFrom(0, 1, 999, 1_000_000_000),
  attrs: fc.boolean(),
});
const restart = fc.record({
  do: fc.constant('restart' as const),
  crashAfter: fc.constantFrom(0, 1, 2, 5, 1000),
  turns: fc.nat({ max: 20 }),
  // As where the engine's API was read in between, which knows of no files.
  isByMarks: fc.boolean(),
});
const look = fc.record({ do: fc.constant('look' as const), turns: fc.nat({ max: 30 }) });
const rotate = fc.record({ do: fc.constant('rotate' as const), compress: fc.boolean() });
const cut = fc.record({ do: fc.constantFrom('cut' as const, 'copyAndCut' as const) });
const readers = fc.record({
  multiline: fc.constantFrom('off' as const, 'traces' as const),
  isEncoded: fc.boolean(),
  isHeld: fc.boolean(),
});
// A log is rotated by renaming or by cutting: one by the engine and the other by somebody else beside it is no set-up.
const steps = fc.oneof(scriptOf(rotate), scriptOf(cut));

function scriptOf(change: fc.Arbitrary<Step>): fc.Arbitrary<Step[]> {
  const step = fc.oneof(
    { weight: 12, arbitrary: write },
    { weight: 3, arbitrary: change },
    { weight: 3, arbitrary: look },
    { weight: 2, arbitrary: restart },
  );
  return fc.array(step, { maxLength: 40 });
}

const isCut = (step: Step) => step.do === 'cut' || step.do === 'copyAndCut';
const streams = ['stdout', 'stderr'] as const;

/** What each stream should be read as: pieces joined until one ends the line. */
class Expected {
  readonly ended = { stdout: '', stderr: '' };
  private readonly open = { stdout: '', stderr: '' };

  write(stream: 'stdout' | 'stderr', text: string, isPiece: boolean): void {
    this.open[stream] += text;
    if (isPiece) return;
    this.ended[stream] += `${this.open[stream]}\n`;
    this.open[stream] = '';
  }

  hasOpen(stream: 'stdout' | 'stderr'): boolean {
    return this.open[stream] !== '';
  }
}

async function play(script: readonly Step[], options: TestReaderOptions, folder: string): Promise<void> {
  const writer = new LogWriter(folder, 'c'.repeat(64));
  if (options.holder)
    writer.configure({
      'max-size': '1k',
      'max-file': '100',
      compress: String(script.some((step) => step.do === 'rotate' && step.compress)),
    });
  const journal = new BatchJournal();
  const expected = new Expected();
  let reader: TestReader | undefined;
  let run: Promise<void> | undefined;
  let begin = '';
  let cuts = 0;
  let isEmpty = true;
  let text: string;
  const restart = async (crashAfter?: number, isByMarks = false) => {
    reader?.stop();
    await run;
    journal.seal();
    if (isByMarks) journal.forgetPlace(`docker:${writer.id}`);
    reader = new TestReader(writer, journal, { ...options, crashAfter });
    run = reader.follow();
  };
  // What is cut away before it was read is gone: nobody could have read it.
  const catchUp = async () => {
    const isRead = async () => {
      if (!reader || reader.hasCrashed) await restart();
      return streams.every((stream) => journal.text(stream) === expected.ended[stream]);
    };
    await until(isRead, {
      timeoutMs: 5_000,
      what: () => JSON.stringify(streams.map((stream) => [expected.ended[stream], journal.text(stream)])),
    });
  };
  try {
    for (const step of script) {
      switch (step.do) {
        case 'write':
          // All pieces of a line have the time of its first; the other stream writes at that time as well.
          if (!expected.hasOpen('stdout') && !expected.hasOpen('stderr')) writer.pass(step.nanos);
          text = begin + step.text;
          begin = '';
          isEmpty = false;
          expected.write(step.stream, text, step.isPiece && text !== '');
          writer.write(
            step.stream,
            step.isPiece && text !== '' ? text : `${text}\n`,
            step.attrs ? { tag: 'a' } : undefined,
          );
          break;
        case 'rotate':
          // The engine rotates what has reached its size. Compressed, an empty file cannot be told from another.
          if (isEmpty) break;
          writer.rotate({ maxFiles: 100, compress: step.compress });
          isEmpty = true;
          break;
        case 'cut':
          await catchUp();
          if (expected.hasOpen('stdout') || expected.hasOpen('stderr')) break;
          journal.seal();
          writer.cut();
          // A file that is gone can only be told from this one by its times.
          writer.pass(1);
          break;
        case 'copyAndCut':
          // Who follows a file must have seen its beginning to notice that it has another.
          if (run) await catchUp();
          writer.copyAndCut({ maxFiles: 100 });
          // Of two files that begin alike, one a copy, nobody could tell which. Pieces of one line have one time.
          if (expected.hasOpen('stdout') || expected.hasOpen('stderr')) begin = `behind cut ${cuts++} `;
          else writer.pass(1);
          break;
        case 'look':
          for (let i = 0; i < step.turns; i++) await nextTurn();
          break;
        case 'restart':
          await restart(step.crashAfter, step.isByMarks);
          for (let i = 0; i < step.turns; i++) await nextTurn();
          break;
      }
    }
    await catchUp();
    reader?.stop();
    await run;
    journal.seal();
    // One more life, to see that nothing comes again. It knows the marks only, and there is more of the last line's time.
    journal.forgetPlace(`docker:${writer.id}`);
    for (const stream of streams) {
      expected.write(stream, begin, false);
      writer.write(stream, `${begin}\n`);
    }
    const last = new TestReader(writer, journal, options);
    for (const stream of streams) {
      if (expected.hasOpen(stream)) expected.write(stream, '', false);
    }
    await last.readAll();
    journal.seal();
    await new TestReader(writer, journal, options).readAll();
  } finally {
    reader?.stop();
    await run;
  }
  for (const stream of streams) expect(journal.text(stream)).toBe(expected.ended[stream]);
  // Where nothing is thrown away, nothing is said to be missing.
  if (!script.some((step) => step.do === 'cut')) expect(journal.gaps).toEqual([]);
}

test('whatever is written, rotated, compressed, cut and restarted: each line is read once and in order', async () => {
  await using dir = await tempDir();
  const stopping = new AbortController();
  const holder = new LogHolder({ signal: stopping.signal });
  holder.prepare();
  await until(() => holder.isReady);
  let n = 0;
  await fc.assert(
    fc.asyncProperty(steps, readers, (script, { isHeld, ...options }) =>
      // Who cuts a log is not the engine that rotates it.
      play(
        script,
        { ...options, ...(isHeld && !script.some(isCut) && { holder }) },
        join(dir.path, String(n++)),
      ),
    ),
    { numRuns: Number(process.env.FILES_RUNS ?? 60), interruptAfterTimeLimit: 40_000 },
  );
  stopping.abort();
  await until(() => !holder.isRunning);
});
