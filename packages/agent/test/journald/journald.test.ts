import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { JournalFolder } from '../../../../tests/support/journal-files.ts';
import { startJournald } from '../../../../tests/support/journald.ts';
import { captureLog } from '../../../../tests/support/log.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { type JournaldOptions, JournaldSource } from '../../src/journald/source.ts';
import { MemoryJournal, numbered } from '../docker/memory-journal.ts';

const otherBoot = 'ab'.repeat(16);

async function started(
  folder: JournalFolder,
  journal: MemoryJournal,
  options: Partial<JournaldOptions> = {},
): Promise<JournaldSource> {
  const source = new JournaldSource({
    taker: journal,
    positions: journal,
    directory: folder.path,
    retry: { minMs: 10, maxMs: 100 },
    ...options,
  });
  await source.start();
  return source;
}

const messages = (journal: MemoryJournal) => journal.lines.map(({ message }) => message);

/** Lines that are not ours to compare: what the source says itself. */
const records = (journal: MemoryJournal) => journal.lines.filter(({ source }) => source?.type === 'manager');

async function untilLast(journal: MemoryJournal, message: string): Promise<void> {
  await until(() => messages(journal).at(-1) === message, {
    what: () => `"${message}", got ${JSON.stringify(messages(journal).slice(-5))}`,
  });
}

test('an entry becomes a line with its name, level, time and fields', async () => {
  await using dir = await tempDir();
  const folder = new JournalFolder(dir.path);
  await folder.write([
    {
      MESSAGE: 'Accepted publickey for root',
      PRIORITY: '6',
      SYSLOG_IDENTIFIER: 'sshd',
      _PID: '812',
      _COMM: 'sshd',
      _SYSTEMD_UNIT: 'ssh.service',
    },
    { MESSAGE: 'named by its unit', PRIORITY: '4', _SYSTEMD_UNIT: 'web.service', _COMM: 'node' },
    { MESSAGE: 'named by its program', PRIORITY: '3', _COMM: 'node' },
    { MESSAGE: 'nothing but a message' },
    { MESSAGE: 'usb 1-1: reset', PRIORITY: '7', SYSLOG_IDENTIFIER: 'kernel', _TRANSPORT: 'kernel' },
    { MESSAGE: 'ERROR printed', PRIORITY: '6', _TRANSPORT: 'stdout', _COMM: 'node' },
    { MESSAGE: 'INFO printed behind <3>', PRIORITY: '3', _TRANSPORT: 'stdout', _COMM: 'node' },
    { MESSAGE: 'of a user', _SYSTEMD_UNIT: 'user@1000.service', _SYSTEMD_USER_UNIT: 'sync.service' },
  ]);
  const journal = new MemoryJournal();
  await using _source = await started(folder, journal);
  const system = { isSystem: true };
  expect(journal.lines).toEqual([
    {
      ...system,
      message: 'Accepted publickey for root',
      level: 'info',
      timestamp: expect.any(Number),
      source: { type: 'system', name: 'sshd' },
      serviceName: 'sshd',
      fields: { unit: 'ssh.service', pid: 812 },
    },
    expect.objectContaining({ ...system, level: 'warn', source: { type: 'system', name: 'web.service' } }),
    expect.objectContaining({ ...system, level: 'error', source: { type: 'system', name: 'node' } }),
    expect.objectContaining({ ...system, level: 'info', source: { type: 'system', name: 'system' } }),
    expect.objectContaining({ level: 'debug', fields: { transport: 'kernel' } }),
    // Whoever takes the line looks for its level.
    expect.not.objectContaining({ level: expect.anything() }),
    expect.objectContaining({ level: 'error' }),
    expect.objectContaining({ fields: { unit: 'sync.service' } }),
  ]);
  const times = journal.lines.map(({ timestamp = 0 }) => timestamp);
  expect(times.map((ms) => ms - (times[0] ?? 0))).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  expect(Math.abs((times[0] ?? 0) - Date.now())).toBeLessThan(120_000);
});

test('no message is lost for its form: bytes, several, none, long, longer than is held', async () => {
  await using dir = await tempDir();
  const folder = new JournalFolder(dir.path);
  await folder.write([
    { MESSAGE: Buffer.from([0x61, 0xff, 0x0a, 0x62]), SYSLOG_IDENTIFIER: 'bytes' },
    { MESSAGE: ['one', Buffer.from([0x32, 0xfe])], SYSLOG_IDENTIFIER: ['first', 'second'] },
    { PRIORITY: '5', MESSAGE_ID: 'fc2e22bc6ee647b6b90729ab34a250b1' },
    { MESSAGE: 'x'.repeat(50_000), SYSLOG_IDENTIFIER: 'long' },
    { MESSAGE: `"__CURSOR":"${'y'.repeat(3_000_000)}`, SYSLOG_IDENTIFIER: 'longest', PRIORITY: '2' },
    { MESSAGE: 'last' },
  ]);
  const journal = new MemoryJournal();
  await using _source = await started(folder, journal);
  const shown = journal.lines.map(({ message, source }) => [source?.name, message]);
  expect(shown).toEqual([
    ['bytes', 'a\ufffd\nb'],
    ['first', 'one\n2\ufffd'],
    ['system', '[an entry without a message]'],
    ['long', 'x'.repeat(50_000)],
    ['longest', expect.stringMatching(/^\[an entry of 30\d{5} bytes, too large to be kept\]$/)],
    ['system', 'last'],
  ]);
  expect(journal.lines[2]?.fields).toEqual({ messageId: 'fc2e22bc6ee647b6b90729ab34a250b1' });
  expect(journal.lines[4]).toMatchObject({ level: 'error', timestamp: expect.any(Number) });
});

test("what another source ships is left out: containers' lines, and the agent's own", async () => {
  await using dir = await tempDir();
  const folder = new JournalFolder(dir.path);
  await folder.write([
    { MESSAGE: 'of a container', CONTAINER_ID_FULL: 'ab'.repeat(32), _SYSTEMD_UNIT: 'docker.service' },
    { MESSAGE: 'of the engine', _SYSTEMD_UNIT: 'docker.service' },
    { MESSAGE: 'our own', _SYSTEMD_UNIT: 'millrace.service' },
    { MESSAGE: 'about us', _SYSTEMD_UNIT: 'init.scope', UNIT: 'millrace.service' },
  ]);
  const journal = new MemoryJournal();
  await using _source = await started(folder, journal, { ownUnit: 'millrace.service' });
  expect(messages(journal)).toEqual(['of the engine', 'about us']);
});

test('units are chosen by name, with or without suffix, by pattern, and by identifier', async () => {
  await using dir = await tempDir();
  const folder = new JournalFolder(dir.path);
  const unit = (name: string) => ({ MESSAGE: name, _SYSTEMD_UNIT: name });
  await folder.write([
    unit('ssh.service'),
    unit('ssh.socket'),
    unit('nginx.service'),
    unit('nginx-exporter.service'),
    unit('web@1.service'),
    unit('web@2.service'),
    { MESSAGE: 'kernel', SYSLOG_IDENTIFIER: 'kernel' },
    { MESSAGE: 'start of nginx', UNIT: 'nginx.service', _SYSTEMD_UNIT: 'init.scope' },
  ]);
  const journal = new MemoryJournal();
  await using _source = await started(folder, journal, {
    units: ['ssh', 'nginx.service', 'web@*', 'kernel'],
  });
  const wanted = [
    'ssh.service',
    'nginx.service',
    'web@1.service',
    'web@2.service',
    'kernel',
    'start of nginx',
  ];
  expect(messages(journal)).toEqual(wanted);
});

test('goes on over restarts, new files and the death of journalctl: each line once and in order', async () => {
  await using dir = await tempDir();
  const folder = new JournalFolder(dir.path);
  const journal = new MemoryJournal();
  await folder.writeLines('line', 1, 10);
  {
    await using source = await started(folder, journal);
    await folder.writeLines('line', 11, 20);
    await untilLast(journal, 'line 20');
    expect(source.state).toEqual({ connected: true, lines: 20 });
  }
  await folder.writeLines('line', 21, 30);
  await using source = await started(folder, journal);
  await folder.writeLines('line', 31, 40, 'next.journal');
  await untilLast(journal, 'line 40');
  for (const pid of await folder.readers()) process.kill(pid, 'SIGKILL');
  await folder.writeLines('line', 41, 50, 'next.journal');
  await untilLast(journal, 'line 50');
  expect(messages(journal)).toEqual(numbered('line', 50));
  await until(() => source.state.connected);
});

test('what was written before a reboot is read after it', async () => {
  await using dir = await tempDir();
  const folder = new JournalFolder(dir.path);
  const journal = new MemoryJournal();
  folder.boot = otherBoot;
  await folder.writeLines('line', 1, 10);
  {
    // The present boot has no entry, so nothing can be followed yet.
    await using _source = await started(folder, journal);
    await untilLast(journal, 'line 10');
  }
  await folder.writeLines('line', 11, 20);
  folder.boot = 'cd'.repeat(16);
  // The device has no battery clock: this boot begins an hour before the last.
  folder.stepClock(-3_600_000);
  await folder.writeLines('line', 21, 30);
  await using _source = await started(folder, journal);
  await untilLast(journal, 'line 30');
  expect(messages(journal)).toEqual(numbered('line', 30));
});

test.for([
  { what: 'the oldest files', remove: 'a.journal', missing: 'entries may be missing' },
  { what: 'the newest files', remove: 'b.journal', missing: undefined },
])('goes on with what is there when $what are gone, and says so', async ({ remove, missing }) => {
  await using dir = await tempDir();
  const folder = new JournalFolder(dir.path);
  const journal = new MemoryJournal();
  await folder.writeLines('line', 1, 5, 'a.journal');
  if (!missing) await folder.writeLines('line', 6, 8, 'b.journal');
  {
    await using _source = await started(folder, journal);
  }
  const read = missing ? 5 : 8;
  expect(messages(journal)).toEqual(numbered('line', read));
  await folder.writeLines('line', read + 1, 20, 'c.journal');
  await rm(join(folder.path, remove));
  await using _source = await started(folder, journal);
  await untilLast(journal, 'line 20');
  expect(records(journal).map(({ message }) => message)).toEqual([
    expect.stringContaining('no longer has the entry that was read last: entries may be missing'),
  ]);
  const lines = journal.lines.filter(({ source }) => source?.type !== 'manager');
  expect(lines.map(({ message }) => message)).toEqual(numbered('line', 20));
});

test('new lines are read although the entry read last was of a clock that is ahead, and is gone', async () => {
  await using dir = await tempDir();
  const folder = new JournalFolder(dir.path);
  const journal = new MemoryJournal();
  folder.boot = otherBoot;
  await folder.writeLines('line', 1, 5, 'a.journal');
  {
    await using _source = await started(folder, journal);
    await untilLast(journal, 'line 5');
  }
  await rm(join(folder.path, 'a.journal'));
  const after = new JournalFolder(dir.path);
  after.stepClock(-3_600_000);
  await after.writeLines('line', 6, 10, 'b.journal');
  await using _source = await started(after, journal);
  await after.writeLines('line', 11, 12, 'b.journal');
  await untilLast(journal, 'line 12');
  const lines = journal.lines.filter(({ source }) => source?.type !== 'manager');
  expect(lines.map(({ message }) => message)).toEqual(numbered('line', 12));
});

test('a journald that rotates and removes what was not read: counts it, and reads the rest', async () => {
  await using journald = await startJournald();
  const folder = new JournalFolder(journald.folder);
  const journal = new MemoryJournal();
  const ofApp = () => messages(journal).filter((message) => message.startsWith('line'));
  const options = { historyMs: 3_600_000, units: ['app'] };
  {
    await using _source = await started(folder, journal, options);
    await journald.log('app', numbered('line', 100));
    await until(() => ofApp().length === 100);
    await journald.control('--rotate');
    await journald.log('app', numbered('line', 100, 101));
    await until(() => ofApp().length === 200);
  }
  await journald.log('app', numbered('line', 50, 201));
  await journald.control('--rotate');
  await journald.control('--vacuum-files=1');
  await journald.log('app', numbered('line', 50, 251));
  await using _source = await started(folder, journal, options);
  await until(() => ofApp().at(-1) === 'line 300');
  expect(ofApp()).toEqual([...numbered('line', 200), ...numbered('line', 50, 251)]);
  const [record, ...more] = records(journal);
  // The 50 lines, and what journald says itself.
  expect(record?.fields).toEqual({ reason: 'journal vacuumed', lost: expect.any(Number) });
  expect(record?.fields?.lost).toBeGreaterThanOrEqual(50);
  expect(record?.fields?.lost).toBeLessThan(70);
  expect(more).toEqual([]);
});

test('reads as much of the past as is wanted, the first time', async () => {
  await using dir = await tempDir();
  const folder = new JournalFolder(dir.path);
  const journal = new MemoryJournal();
  folder.stepClock(-3_600_000);
  await folder.writeLines('old', 1, 5);
  folder.stepClock(3_600_000);
  await folder.writeLines('line', 1, 5);
  await using _source = await started(folder, journal, { historyMs: 600_000 });
  await untilLast(journal, 'line 5');
  expect(messages(journal)).toEqual(numbered('line', 5));
});

test('a backend that is slow holds the journal back', async () => {
  await using dir = await tempDir();
  const folder = new JournalFolder(dir.path);
  await folder.writeLines('line', 1, 200);
  const journal = new MemoryJournal();
  const gate = Promise.withResolvers<void>();
  journal.gate = gate.promise;
  const source = new JournaldSource({ taker: journal, positions: journal, directory: folder.path });
  const starting = source.start();
  await until(() => journal.lines.length > 0);
  expect(source.state.lines).toBe(1);
  journal.gate = undefined;
  gate.resolve();
  await starting;
  expect(messages(journal)).toEqual(numbered('line', 200));
  await source.stop();
  expect(await folder.readers()).toEqual([]);
});

test('saves how far it is when it has passed over many lines that nobody wants', async () => {
  await using dir = await tempDir();
  const folder = new JournalFolder(dir.path);
  const journal = new MemoryJournal();
  await folder.writeLines('line', 1, 5, 'a.journal');
  {
    await using _source = await started(folder, journal, { units: ['nothing'] });
  }
  await folder.writeLines('line', 6, 10, 'a.journal');
  await using _source = await started(folder, journal);
  await untilLast(journal, 'line 10');
  expect(messages(journal)).toEqual(numbered('line', 5, 6));
});

test('says why a journal cannot be read, once, and goes on when it can', async () => {
  await using dir = await tempDir();
  const folder = new JournalFolder(join(dir.path, 'later'));
  const journal = new MemoryJournal();
  const captured = captureLog();
  await using source = await started(folder, journal, { log: captured.log });
  expect(source.state).toEqual({
    connected: false,
    lines: 0,
    error: expect.stringMatching(/^SOURCE_UNREADABLE: .*No such file or directory.* systemd-journal/),
  });
  await folder.writeLines('line', 1, 5);
  await untilLast(journal, 'line 5');
  await until(() => source.state.connected);
  expect(source.state.error).toBeUndefined();
  const said = captured.lines.filter(({ level }) => level === 40).map(({ error }) => error);
  expect(said[0]).toContain('No such file or directory');
  expect(new Set(said).size).toBe(said.length);
});

test('a machine without journalctl is told so, or passed over where the journal is optional', async () => {
  await using dir = await tempDir();
  const folder = new JournalFolder(dir.path);
  const command = join(dir.path, 'journalctl');
  const captured = captureLog();
  await using source = await started(folder, new MemoryJournal(), { command, log: captured.log });
  expect(source.state.error).toContain(`the program ${command} is not installed`);
  await using optional = await started(folder, new MemoryJournal(), { command, isOptional: true });
  expect(optional.state).toEqual({ connected: false, lines: 0 });
});
