import { type Logger, pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../../../../../tests/support/docker.ts';
import { until } from '../../../../../tests/support/wait.ts';
import { ContainerLogMonitor, type MonitorOptions } from '../../../src/logging/monitor.ts';
import { difference, MemoryJournal, numbered } from '../memory-journal.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(() => engine[Symbol.asyncDispose]());

/** Containers of earlier tests are left alone. */
async function monitorOver(journal: MemoryJournal, options: MonitorOptions = {}) {
  const monitor = new ContainerLogMonitor(journal, engine.docker, {
    positions: journal,
    historyMs: 0,
    logs: 'files',
    ...options,
  });
  await monitor.start();
  return monitor;
}

const smallLog = { 'max-size': '100k', 'max-file': '3' };

test('fast writers into logs of 100 kB, of which the engine keeps three files', async () => {
  const journal = new MemoryJournal();
  await using monitor = await monitorOver(journal);
  const loop = (name: string) =>
    `for i in $(seq 1 6000); do echo ${name} $i; [ $((i % 60)) = 0 ] && usleep 20000; done`;
  const cmd = ['sh', '-c', `(${loop('out')}) & (${loop('err')}) >&2; wait`];
  const containers = await Promise.all([0, 1].map(() => engine.run({ cmd, logOptions: smallLog })));
  await Promise.all(containers.map((container) => container.wait()));
  await until(() => monitor.state.containers === 0);
  for (const { id } of containers) {
    expect(difference(journal.messages(id, 'stdout'), numbered('out', 6_000))).toBe('');
    expect(difference(journal.messages(id, 'stderr'), numbered('err', 6_000))).toBe('');
  }
});

/** What is on record as missing of a container's log. */
const gapsOf = (journal: MemoryJournal, id: string) =>
  journal.lines.filter(({ containerId, fields }) => containerId === id && fields?.gap !== undefined);

/** {"log":"123456\n","stream":"stdout","time":"2026-11-20T18:47:40.400123456Z"} */
const entryBytes = 76;

test.for([
  { files: '3', lines: 150_000 },
  { files: '1', lines: 100_000 },
])(
  'a writer that is faster than anybody can read: what the engine threw away is on record, with $files kept',
  async ({ files, lines }) => {
    const journal = new MemoryJournal();
    await using monitor = await monitorOver(journal);
    const logOptions = { 'max-size': '100k', 'max-file': files };
    const { id } = await engine.run({ cmd: ['sh', '-c', `seq 1 ${lines}`], logOptions });
    await until(() => journal.lines.at(-1)?.message === String(lines), { timeoutMs: 30_000 });
    await until(() => monitor.state.containers === 0);
    const gaps = gapsOf(journal, id);
    const numbers = journal.lines
      .filter((line) => line.containerId === id && !gaps.includes(line))
      .map(({ message }) => Number(message));
    expect(numbers.every((n, i) => i === 0 || n > (numbers[i - 1] as number))).toBe(true);
    const count = (field: string) => gaps.reduce((sum, { fields }) => sum + Number(fields?.[field] ?? 0), 0);
    // Of each file that is on record so many lines are missing as a file holds: none more, and none unsaid.
    const missingBytes = (lines - numbers.length) * entryBytes;
    expect(Math.abs(missingBytes - count('bytes'))).toBeLessThanOrEqual(count('bytes') * 0.03);
    expect(count('bytes')).toBe(count('files') * 100_000);
    expect(monitor.gaps.rotated).toEqual({ gaps: gaps.length, bytes: count('bytes') });
  },
);

test('an agent that is down while the log is rotated and compressed, again and again', async () => {
  const journal = new MemoryJournal();
  const container = await engine.run({
    cmd: ['sh', '-c', 'for i in $(seq 1 8000); do echo line $i; [ $((i % 400)) = 0 ] && usleep 50000; done'],
    logOptions: { 'max-size': '50k', 'max-file': '50', compress: 'true' },
  });
  let restarts = 0;
  const read = () => journal.messages(container.id).length;
  while (read() < 8_000) {
    const goal = Math.min(8_000, read() + 500);
    await using _monitor = await monitorOver(journal, { historyMs: 3_600_000 });
    await until(() => read() >= goal, { what: () => `line ${goal}` });
    restarts++;
  }
  expect(difference(journal.messages(container.id), numbered('line', 8_000))).toBe('');
  expect(restarts).toBeGreaterThan(3);
});

test('an agent that is upgraded, taken back and upgraded again: from the API to files and back', async () => {
  const journal = new MemoryJournal();
  const loop = (name: string) =>
    `for i in $(seq 1 2000); do echo ${name} $i; [ $((i % 50)) = 0 ] && usleep 40000; done`;
  const { id } = await engine.run({ cmd: ['sh', '-c', `(${loop('out')}) & (${loop('err')}) >&2; wait`] });
  let lives = 0;
  while (journal.messages(id).length < 4_000) {
    const goal = Math.min(4_000, journal.messages(id).length + 400);
    const logs = lives++ % 2 === 0 ? 'api' : 'files';
    await using _monitor = await monitorOver(journal, { logs, historyMs: 3_600_000 });
    await until(() => journal.messages(id).length >= goal, { what: () => `line ${goal} by ${logs}` });
  }
  expect(difference(journal.messages(id, 'stdout'), numbered('out', 2_000))).toBe('');
  expect(difference(journal.messages(id, 'stderr'), numbered('err', 2_000))).toBe('');
  expect(lives).toBeGreaterThan(2);
});

// BRIEF_CONTAINERS=200 takes a minute.
const brief = Number(process.env.BRIEF_CONTAINERS ?? 40);

test('containers in a row that are removed as they end, each a moment after its lines', async () => {
  const journal = new MemoryJournal();
  await using _monitor = await monitorOver(journal);
  const names = new Map<string, string>();
  const waiting: Awaited<ReturnType<TestEngine['create']>>[] = [];
  let n = 0;
  // Made a little in advance, so that what an engine takes for it is not waited for.
  const make = async () => {
    for (let i = n++; i < brief; i = n++) {
      await until(() => waiting.length < 8);
      const container = await engine.create({
        name: `brief-${i}`,
        labels: { 'millrace.service-name': `service-${i}` },
        cmd: ['sh', '-c', 'echo one; echo two; printf end'],
        autoRemove: true,
      });
      names.set(container.id, `service-${i}`);
      waiting.push(container);
    }
  };
  let started = 0;
  const start = async () => {
    while (started < brief) {
      started++;
      await until(() => waiting.length > 0);
      await waiting.shift()?.start();
    }
  };
  await Promise.all([make(), make(), start(), start()]);
  await until(() => new Set(journal.forgotten).size === brief, {
    timeoutMs: 60_000,
    what: () => `${brief} forgotten, got ${journal.forgotten.length}`,
  });
  expect(names.size).toBe(brief);
  for (const [id, serviceName] of names) {
    expect(journal.messages(id)).toEqual(['one', 'two', 'end']);
    expect(journal.lines.find(({ containerId }) => containerId === id)?.serviceName).toBe(serviceName);
  }
}, 200_000);

test('100 containers at once', async () => {
  const journal = new MemoryJournal();
  await using monitor = await monitorOver(journal);
  const cmd = ['sh', '-c', 'i=0; while [ $i -lt 10 ]; do i=$((i+1)); echo line $i; sleep 0.2; done'];
  const containers = await Promise.all(Array.from({ length: 100 }, () => engine.run({ cmd })));
  await until(() => journal.lines.length >= 1_000 && monitor.state.containers === 0, {
    timeoutMs: 60_000,
    what: () => `1000 lines, got ${journal.lines.length}`,
  });
  for (const { id } of containers) expect(difference(journal.messages(id), numbered('line', 10))).toBe('');
}, 120_000);

/** A logger whose warnings a test can look at. */
function memoryLog(): { log: Logger; warnings: string[] } {
  const warnings: string[] = [];
  return { warnings, log: pino({ level: 'warn' }, { write: (line) => warnings.push(line) }) };
}

test('with files alone, a container that has none is left alone, and that is said', async () => {
  const journal = new MemoryJournal();
  const { log, warnings } = memoryLog();
  await using _monitor = await monitorOver(journal, { log });
  await engine.run({ cmd: ['echo', 'unseen'], logDriver: 'local' });
  const seen = await engine.run({ cmd: ['echo', 'seen'] });
  await until(() => journal.messages(seen.id).length === 1);
  expect(journal.lines.map(({ message }) => message)).toEqual(['seen']);
  expect(warnings.filter((line) => line.includes('no log file'))).toHaveLength(1);
});
