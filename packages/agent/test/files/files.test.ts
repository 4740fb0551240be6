import {
  appendFile,
  chmod,
  copyFile,
  mkdir,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { captureLog } from '../../../../tests/support/log.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { type FilesOptions, FilesSource } from '../../src/files/source.ts';
import { MemoryJournal, numbered } from '../docker/memory-journal.ts';

async function started(
  folder: string,
  journal: MemoryJournal,
  options: Partial<FilesOptions> = {},
): Promise<FilesSource> {
  const source = new FilesSource({
    taker: journal,
    positions: journal,
    patterns: [join(folder, '*.log')],
    ...options,
  });
  await source.start();
  return source;
}

const messages = (journal: MemoryJournal) => journal.lines.map(({ message }) => message);
const text = (lines: readonly string[]) => lines.map((line) => `${line}\n`).join('');

async function untilCount(journal: MemoryJournal, count: number): Promise<void> {
  await until(() => journal.lines.length >= count, {
    timeoutMs: 5_000,
    what: () => `${count} lines, got ${journal.lines.length}: ${JSON.stringify(messages(journal).slice(-5))}`,
  });
}

test('follows files, and those that come; a line counts when it is ended', async () => {
  await using dir = await tempDir();
  const journal = new MemoryJournal();
  await writeFile(join(dir.path, 'shop.log'), 'first\r\nsecond\nthi');
  await using source = await started(dir.path, journal);
  await untilCount(journal, 2);
  await appendFile(join(dir.path, 'shop.log'), 'rd\n\n');
  await untilCount(journal, 4);
  await writeFile(join(dir.path, 'till.log'), 'from the till\n');
  await untilCount(journal, 5);
  expect(messages(journal)).toEqual(['first', 'second', 'third', '', 'from the till']);
  expect(journal.lines[0]).toEqual({
    message: 'first',
    timestamp: expect.any(Number),
    source: { type: 'system', name: 'shop' },
    serviceName: 'shop',
    isSystem: true,
    fields: { file: join(dir.path, 'shop.log') },
  });
  expect(Math.abs((journal.lines[0]?.timestamp ?? 0) - Date.now())).toBeLessThan(10_000);
  expect(source.state).toEqual({ connected: true, detail: '2 files', lines: 5 });
});

test('goes on after a restart with what was written meanwhile', async () => {
  await using dir = await tempDir();
  const journal = new MemoryJournal();
  const path = join(dir.path, 'app.log');
  await writeFile(path, text(numbered('line', 100)));
  {
    await using _source = await started(dir.path, journal);
    await untilCount(journal, 100);
  }
  await appendFile(path, text(numbered('line', 100, 101)));
  await using _source = await started(dir.path, journal);
  await untilCount(journal, 200);
  expect(messages(journal)).toEqual(numbered('line', 200));
});

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
  await untilCount(journal, 130);
  expect(messages(journal)).toEqual([...numbered('old', 50), ...numbered('new', 80)]);
});

test('files from long before are read from their end, those made since from their beginning', async () => {
  await using dir = await tempDir();
  const journal = new MemoryJournal();
  const options = { historyMs: -60_000 };
  await writeFile(join(dir.path, 'old.log'), `${text(numbered('old', 50_000))}begun`);
  await using source = await started(dir.path, journal, options);
  await appendFile(join(dir.path, 'old.log'), ' and ended\n');
  await untilCount(journal, 1);
  expect(messages(journal)).toEqual(['begun and ended']);
  expect(source.state.lines).toBe(1);
});

test('lines of any length and any bytes are kept: long ones cut, with a mark', async () => {
  await using dir = await tempDir();
  const journal = new MemoryJournal();
  const path = join(dir.path, 'app.log');
  const long = 'x'.repeat(700_000);
  await writeFile(
    path,
    Buffer.concat([Buffer.of(0, 0, 0), Buffer.from('hole\n'), Buffer.of(0xff, 0x41, 10)]),
  );
  await appendFile(path, `${'y'.repeat(50_000)}\n${long}`);
  await using _source = await started(dir.path, journal);
  await untilCount(journal, 3);
  await appendFile(path, `${long}\nlast\n`);
  await untilCount(journal, 5);
  const cut = 1_400_000 - 60 * 1024;
  expect(messages(journal)).toEqual([
    'hole',
    '\ufffdA',
    'y'.repeat(50_000),
    `${'x'.repeat(60 * 1024)}… [truncated ${cut} bytes]`,
    'last',
  ]);
});

test('names: given ones, links, several patterns, and none that are compressed or ours', async () => {
  await using dir = await tempDir();
  const journal = new MemoryJournal();
  const { path } = dir;
  await mkdir(join(path, 'deep', 'er'), { recursive: true });
  await mkdir(join(path, 'own'));
  await writeFile(join(path, 'deep', 'er', 'a.txt'), 'deep\n');
  await writeFile(join(path, 'b.log'), 'b\n');
  await writeFile(join(path, 'b.log.gz'), 'no\n');
  await writeFile(join(path, 'own', 'journal.log'), 'no\n');
  await writeFile(join(path, 'target'), 'linked\n');
  await symlink(join(path, 'target'), join(path, 'link.log'));
  const patterns = [`shop=${path}/deep/**/*.txt`, `${path}/**/*.log*`];
  await using _source = await started(path, journal, { patterns, exceptBelow: join(path, 'own') });
  await untilCount(journal, 3);
  await appendFile(join(path, 'target'), 'more\n');
  await untilCount(journal, 4);
  const named = journal.lines.map(({ source, message }) => `${source?.name}: ${message}`);
  expect(named.sort()).toEqual(['b: b', 'link: linked', 'link: more', 'shop: deep']);
});

test('a thousand files are followed by one watch per folder', async () => {
  await using dir = await tempDir();
  const journal = new MemoryJournal();
  const paths = Array.from({ length: 1000 }, (_, i) => join(dir.path, `f${i}.log`));
  for (const path of paths) await writeFile(path, 'one\n');
  await using source = await started(dir.path, journal, { rescanMs: 3_600_000 });
  await untilCount(journal, 1000);
  for (const path of paths.slice(0, 50)) await appendFile(path, 'two\n');
  await untilCount(journal, 1050);
  expect(source.state.detail).toBe('1000 files');
});

test('what the kernel does not tell of is found by looking', async () => {
  await using dir = await tempDir();
  const journal = new MemoryJournal();
  const later = join(dir.path, 'later', 'still');
  const options = { patterns: [join(later, '*.log')], rescanMs: 50 };
  await using source = await started(dir.path, journal, options);
  expect(source.state).toEqual({ connected: false, detail: '0 files', lines: 0 });
  await mkdir(later, { recursive: true });
  await writeFile(join(later, 'a.log'), 'found\n');
  await untilCount(journal, 1);
  // A change that leaves the watch silent: only the time of the file tells.
  await utimes(join(later, 'a.log'), new Date(), new Date());
  await appendFile(join(later, 'a.log'), 'again\n');
  await untilCount(journal, 2);
});

test('a file without the right to read it is told of, once, and read when there is the right', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'a.log');
  const captured = captureLog();
  const journal = new MemoryJournal();
  await writeFile(path, 'x\n');
  await chmod(path, 0);
  await chmod(dir.path, 0o755);
  const isRoot = process.geteuid?.() === 0;
  // Root may read everything.
  if (isRoot) process.seteuid?.(65_534);
  try {
    await using source = await started(dir.path, journal, { log: captured.log, rescanMs: 20 });
    expect(source.state).toEqual({
      connected: false,
      detail: '0 files',
      lines: 0,
      error: expect.stringMatching(/^SOURCE_UNREADABLE: .*a\.log: this user may not read it/),
    });
    if (isRoot) process.seteuid?.(0);
    await chmod(path, 0o644);
    await untilCount(journal, 1);
    await until(() => source.state.error === undefined);
    expect(captured.messages(40)).toEqual(['a log file cannot be read; trying again']);
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
});

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
