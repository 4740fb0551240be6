import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../tests/support/tmp.ts';
import type { FilesSource } from '../../src/files/source.ts';
import { MemoryJournal, numbered } from '../docker/memory-journal.ts';
import { messages, started, untilCount } from './followed-files.ts';
import { RotatedLog } from './rotated-log.ts';

type Step =
  | { do: 'write'; lines: number; isOpen: boolean }
  | { do: 'rename'; compress: boolean }
  | { do: 'copy'; compress: boolean }
  | { do: 'compress'; keepsTime: boolean }
  | { do: 'restart' }
  | { do: 'down' }
  | { do: 'settle' };

const always: fc.WeightedArbitrary<Step>[] = [
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant('write' as const), lines: fc.nat(40), isOpen: fc.boolean() }),
  },
  { weight: 1, arbitrary: fc.constant({ do: 'restart' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'down' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'settle' as const }) },
];
const rename = (compress: fc.Arbitrary<boolean>) =>
  fc.record({ do: fc.constant('rename' as const), compress });
const copy = (compress: fc.Arbitrary<boolean>) => fc.record({ do: fc.constant('copy' as const), compress });
const compress = fc.record({ do: fc.constant('compress' as const), keepsTime: fc.boolean() });
const plain = fc.constant(false);
// What compresses rotates in one way; nobody else moves or empties the files that it works on.
const scripts = [
  [
    { weight: 2, arbitrary: rename(plain) },
    { weight: 2, arbitrary: copy(plain) },
  ],
  [
    { weight: 3, arbitrary: rename(fc.boolean()) },
    { weight: 1, arbitrary: compress },
  ],
  [
    { weight: 3, arbitrary: copy(fc.boolean()) },
    { weight: 1, arbitrary: compress },
  ],
].map((rotations: fc.WeightedArbitrary<Step>[]) =>
  fc.array(fc.oneof(...always, ...rotations), { minLength: 3, maxLength: 25 }),
);

async function play(steps: readonly Step[], folder: string, pattern: string): Promise<void> {
  await using log = await RotatedLog.create(join(folder, 'app.log'));
  const journal = new MemoryJournal();
  const options = { patterns: [join(folder, pattern)], rescanMs: 30 };
  // A log must have been there under its own name once, with something in it to know it by.
  await log.write(['first']);
  let source: FilesSource | undefined = await started(folder, journal, options);
  const settle = async () => {
    if (source) await untilCount(journal, log.written.length);
  };
  for (const [index, step] of steps.entries()) {
    switch (step.do) {
      case 'write':
        await log.write(numbered(`step ${index}`, step.lines));
        if (step.isOpen) await log.begin(`begun in ${index} `);
        break;
      case 'rename':
        await log.rename();
        if (step.compress) await log.compress(true);
        break;
      case 'copy':
        // Copying cuts in two what is being written, and what is written in between is lost, to whoever reads it.
        await log.end();
        await settle();
        await log.copyAndEmpty();
        if (step.compress) await log.compress(true);
        break;
      case 'compress':
        await log.compress(step.keepsTime);
        break;
      case 'settle':
        await settle();
        break;
      case 'down':
        await source?.stop();
        source = undefined;
        break;
      case 'restart':
        await source?.stop();
        source = await started(folder, journal, options);
        break;
    }
  }
  source ??= await started(folder, journal, options);
  await log.end();
  await untilCount(journal, log.written.length);
  await source.stop();
  expect(messages(journal)).toEqual(log.written);
}

test('any sequence of writes, rotations and restarts gives the lines that were written', async () => {
  await fc.assert(
    fc.asyncProperty(fc.oneof(...scripts), fc.constantFrom('*', '*.log'), async (steps, pattern) => {
      await using dir = await tempDir();
      await play(steps, dir.path, pattern);
    }),
    { numRuns: Number(process.env.FILES_RUNS ?? 40) },
  );
}, 120_000);
