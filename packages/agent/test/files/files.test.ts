import { appendFile, chmod, mkdir, rmdir, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { captureLog } from '../../../../tests/support/log.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { MemoryJournal, numbered } from '../docker/memory-journal.ts';
import { messages, started, text, untilCount } from './followed-files.ts';

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

test('an entry that is the name of a folder is told of, once, and read when a file has that name', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'app');
  const captured = captureLog();
  const journal = new MemoryJournal();
  await mkdir(path);
  await using source = await started(dir.path, journal, {
    patterns: [path],
    log: captured.log,
    rescanMs: 20,
  });
  expect(source.state.error).toContain(`${path}/: it is a folder; ${path}/* are the files in it`);
  await rmdir(path);
  await writeFile(path, 'x\n');
  await untilCount(journal, 1);
  await until(() => source.state.error === undefined);
  expect(captured.messages(40)).toEqual(['a log file cannot be read; trying again']);
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
