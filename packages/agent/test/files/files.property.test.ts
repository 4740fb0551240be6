import { appendFile, copyFile, rename, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../tests/support/tmp.ts';
import type { FilesSource } from '../../src/files/source.ts';
import { MemoryJournal, numbered } from '../docker/memory-journal.ts';
import { messages, started, text, untilCount } from './followed-files.ts';

type Step =
  | { do: 'write'; lines: number; part: boolean }
  | { do: 'rename' }
  | { do: 'copy' }
  | { do: 'restart' }
  | { do: 'down' }
  | { do: 'settle' };

test('any sequence of writes, rotations and restarts gives the lines that were written', async () => {
  const step: fc.Arbitrary<Step> = fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({ do: fc.constant('write' as const), lines: fc.nat(40), part: fc.boolean() }),
    },
    { weight: 2, arbitrary: fc.constant({ do: 'rename' as const }) },
    { weight: 2, arbitrary: fc.constant({ do: 'copy' as const }) },
    { weight: 1, arbitrary: fc.constant({ do: 'restart' as const }) },
    { weight: 1, arbitrary: fc.constant({ do: 'down' as const }) },
    { weight: 1, arbitrary: fc.constant({ do: 'settle' as const }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 25 }), fc.boolean(), async (steps, wide) => {
      await using dir = await tempDir();
      const path = join(dir.path, 'app.log');
      const journal = new MemoryJournal();
      const options = { patterns: [join(dir.path, wide ? '*' : '*.log')], rescanMs: 100 };
      const written = ['first'];
      // A log must have been there under its own name once.
      await writeFile(path, 'first\n');
      let begun = '';
      let source: FilesSource | undefined = await started(dir.path, journal, options);
      const end = async () => {
        // Rotation does not cut a line in two: the program that writes has ended it by then.
        if (begun !== '') await appendFile(path, `${begun}\n`);
        if (begun !== '') written.push(begun);
        begun = '';
      };
      const shift = async () => {
        // More than there are steps: a rotation that deletes what nobody has read yet is not in this property.
        for (let i = 30; i >= 1; i--) await rename(`${path}.${i}`, `${path}.${i + 1}`).catch(() => {});
      };
      for (const [index, { do: what, ...how }] of steps.entries()) {
        if (what === 'write' && 'lines' in how) {
          const lines = numbered(`step ${index}`, how.lines);
          await appendFile(path, text(lines));
          written.push(...lines);
          if (how.part) {
            await appendFile(path, `part ${index} `);
            await appendFile(path, 'ended\n');
            written.push(`part ${index} ended`);
          }
        } else if (what === 'rename') {
          await end();
          await shift();
          await rename(path, `${path}.1`).catch(() => {});
        } else if (what === 'copy') {
          await end();
          // What is read between copying and emptying is up to chance, also for whoever rotates.
          if (source) await untilCount(journal, written.length);
          await shift();
          await copyFile(path, `${path}.1`).catch(() => {});
          await truncate(path).catch(() => {});
        } else if (what === 'settle' && source) await untilCount(journal, written.length);
        else if (what === 'down') {
          await source?.stop();
          source = undefined;
        } else if (what === 'restart') {
          await source?.stop();
          source = await started(dir.path, journal, options);
        }
      }
      source ??= await started(dir.path, journal, options);
      await untilCount(journal, written.length);
      await source.stop();
      expect(messages(journal)).toEqual(written);
    }),
    { numRuns: 40 },
  );
}, 120_000);
