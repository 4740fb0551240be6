import { expect, test } from 'vitest';
import { startEngine } from '../../../../tests/support/docker.ts';
import { until } from '../../../../tests/support/wait.ts';
import { isRisky, rotationBytes } from '../../src/docker/rotation.ts';
import { ContainerLogMonitor } from '../../src/logging/monitor.ts';
import { MemoryJournal, numbered } from './memory-journal.ts';

// An engine 20.10 that follows a log skips files and repeats lines when the log is rotated under it.
test.for([
  { speed: 'as fast as it can', lines: 40_000, pause: ':', maxSize: '1m' },
  { speed: 'steadily', lines: 8_000, pause: 'usleep 10000', maxSize: '200k' },
])('a container whose log is rotated while it prints $speed: each line once and in order', async (shape) => {
  await using engine = await startEngine();
  const journal = new MemoryJournal();
  await using monitor = new ContainerLogMonitor(journal, engine.docker, { positions: journal, logs: 'api' });
  await monitor.start();
  const { id } = await engine.run({
    cmd: [
      'sh',
      '-c',
      `for i in $(seq 1 ${shape.lines}); do echo line $i; [ $((i % 100)) = 0 ] && ${shape.pause}; done`,
    ],
    logOptions: { 'max-size': shape.maxSize, 'max-file': '100' },
  });
  await until(() => journal.messages(id).at(-1) === `line ${shape.lines}`, {
    timeoutMs: 40_000,
    what: () => `${shape.lines} lines, got ${journal.lines.length}`,
  });
  await until(() => monitor.state.containers === 0);
  expect(journal.messages(id)).toEqual(numbered('line', shape.lines));
});

test('a backend that holds a rotated log back for seconds misses no file of it', async () => {
  await using engine = await startEngine();
  const journal = new MemoryJournal();
  await using monitor = new ContainerLogMonitor(journal, engine.docker, { positions: journal, logs: 'api' });
  await monitor.start();
  const gate = Promise.withResolvers<void>();
  journal.gate = gate.promise;
  const container = await engine.run({
    cmd: ['sh', '-c', 'echo line 1; sleep 0.5; seq 2 30000 | sed "s/^/line /"; sleep 1000'],
    logOptions: { 'max-size': '500k', 'max-file': '100' },
  });
  await until(() => journal.lines.length === 1);
  // Its last line is in the engine's log, several files further on.
  await until(async () =>
    (await container.logs({ stdout: true, tail: 1 })).toString().includes('line 30000'),
  );
  journal.gate = undefined;
  gate.resolve();
  await until(() => journal.lines.length >= 30_000, {
    what: () => `30 000 lines, got ${journal.lines.length}`,
  });
  expect(journal.messages(container.id)).toEqual(numbered('line', 30_000));
});

test('the size at which a log is rotated is read as the engine reads it', () => {
  const sizes: [string, Record<string, string> | null, number | undefined][] = [
    ['json-file', null, undefined],
    ['json-file', {}, undefined],
    ['json-file', { 'max-size': '10m' }, 10_000_000],
    ['json-file', { 'max-size': '200k', 'max-file': '3' }, 200_000],
    ['json-file', { 'max-size': '1.5GB' }, 1_500_000_000],
    ['json-file', { 'max-size': '-1' }, undefined],
    ['local', {}, 20_000_000],
    ['journald', { 'max-size': '10m' }, undefined],
  ];
  for (const [type, config, bytes] of sizes) {
    expect(rotationBytes({ Type: type, Config: config })).toBe(bytes);
  }
  expect(isRisky(1_000_000, 100, 10_000_000)).toBe(false);
  expect(isRisky(3_000_000, 100, 10_000_000)).toBe(true);
  expect(isRisky(3_000_000, 2_000, 10_000_000)).toBe(false);
});

test('a log of the driver local that is rotated faster than the engine can send it: what is gone is on record', async () => {
  await using engine = await startEngine();
  const journal = new MemoryJournal();
  await using monitor = new ContainerLogMonitor(journal, engine.docker, { positions: journal });
  await monitor.start();
  const gate = Promise.withResolvers<void>();
  journal.gate = gate.promise;
  const count = 40_000;
  const container = await engine.run({
    // The first line is read before the rest comes.
    cmd: ['sh', '-c', `echo 0; sleep 0.5; seq 1 ${count}`],
    logDriver: 'local',
    logOptions: { 'max-size': '50k', 'max-file': '2', compress: 'false' },
  });
  await container.wait();
  journal.gate = undefined;
  gate.resolve();
  await until(() => journal.lines.at(-1)?.message === String(count), { timeoutMs: 30_000 });
  await until(() => monitor.state.containers === 0);
  const [gap, ...others] = journal.lines.filter(({ fields }) => fields?.gap !== undefined);
  expect(others).toEqual([]);
  const at = journal.lines.indexOf(gap as (typeof journal.lines)[number]);
  const numbers = journal.messages(container.id).map(Number);
  expect(gap?.message).toMatch(
    / may be missing between \S+Z and \S+Z: rotated away before they could be read$/,
  );
  expect(Number(numbers[at - 1]) + 1).toBeLessThan(Number(numbers[at + 1]));
  expect(numbers.slice(at + 1)).toEqual(
    Array.from({ length: numbers.length - at - 1 }, (_, i) => Number(numbers[at + 1]) + i),
  );
  expect(monitor.gaps.rotated.gaps).toBe(1);
});
