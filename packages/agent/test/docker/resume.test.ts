import { readFile, writeFile } from 'node:fs/promises';
import pino from 'pino';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../../../../tests/support/docker.ts';
import { freePort } from '../../../../tests/support/ports.ts';
import { until } from '../../../../tests/support/wait.ts';
import { EngineApi } from '../../src/docker/api.ts';
import { connectEngine } from '../../src/docker/engine.ts';
import { ContainerReader } from '../../src/docker/reader.ts';
import { ContainerLogMonitor, type MonitorOptions, type MonitorState } from '../../src/logging/monitor.ts';
import type { Json, SourcePosition } from '../../src/logging/types.ts';
import { MemoryJournal, numbered, printBoth } from './memory-journal.ts';

// Engines come and go here: nobody should wait for the longer of the usual pauses.
const retry = { minMs: 50, maxMs: 500 };

/** For the tests that do it no harm; each of them finds it empty. The others start one of their own. */
let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterEach(() => engine.clear());
afterAll(() => engine[Symbol.asyncDispose]());

async function monitorOver(engine: TestEngine, journal: MemoryJournal, options: MonitorOptions = {}) {
  const monitor = new ContainerLogMonitor(journal, engine.docker, {
    positions: journal,
    retry,
    logs: 'api',
    ...options,
  });
  await monitor.start();
  return monitor;
}

/** Prints numbered lines on both streams over a few seconds. */
function printSlowly(count: number): string[] {
  const loop = (prefix: string) =>
    `for i in $(seq 1 ${count}); do echo ${prefix} $i; [ $((i % 20)) = 0 ] && sleep 0.01; done`;
  return ['sh', '-c', `(${loop('out')}) & (${loop('err')}) >&2; wait`];
}

function expectAll(journal: MemoryJournal, id: string, count: number): void {
  expect(journal.messages(id, 'stdout')).toEqual(numbered('out', count));
  expect(journal.messages(id, 'stderr')).toEqual(numbered('err', count));
}

test('an agent that is restarted again and again in the middle of a burst loses nothing and repeats nothing', async () => {
  const journal = new MemoryJournal();
  const containers = await Promise.all([
    engine.run({ cmd: printSlowly(3_000) }),
    engine.run({ cmd: printBoth(10_000) }),
    engine.run({ cmd: ['sh', '-c', 'seq 1 10000'], tty: true }),
  ]);
  const total = 6_000 + 20_000 + 10_000;
  let restarts = 0;
  while (journal.lines.length < total) {
    const goal = Math.min(total, journal.lines.length + 1 + Math.floor(Math.random() * 4_000));
    await using _monitor = await monitorOver(engine, journal);
    await until(() => journal.lines.length >= goal, {
      what: () => `line ${goal}, got ${journal.lines.length}`,
    });
    restarts++;
  }
  // One more life, to see that nothing comes again.
  await using monitor = await monitorOver(engine, journal);
  const last = await engine.run({ cmd: ['echo', 'last'] });
  await until(() => journal.messages(last.id).length === 1 && monitor.state.containers === 0);
  expect(restarts).toBeGreaterThan(5);
  const [slow, burst, terminal] = containers as [typeof last, typeof last, typeof last];
  expectAll(journal, slow.id, 3_000);
  expectAll(journal, burst.id, 10_000);
  expect(journal.messages(terminal.id)).toEqual(Array.from({ length: 10_000 }, (_, i) => String(i + 1)));
  expect(journal.lines).toHaveLength(total + 1);
});

test('what containers wrote while the agent was down is read, also of those that have ended; positions of removed ones go', async () => {
  // One of its own: of what earlier tests removed an engine tells, too.
  await using engine = await startEngine();
  const journal = new MemoryJournal();
  const script =
    'echo 1; while [ ! -e /tmp/go ]; do sleep 0.01; done; seq 2 500; echo error >&2; printf half';
  const followed = await engine.run({ cmd: ['sh', '-c', script] });
  const removed = await engine.run({ cmd: ['echo', 'removed'] });
  {
    await using _monitor = await monitorOver(engine, journal);
    await until(() => journal.lines.length === 2);
  }
  await removed.remove();
  // As if it had been removed long ago: of the one above the engine may still tell.
  const ghost = 'docker:'.padEnd(71, 'f');
  void journal.log({ message: 'ghost' }, { key: ghost, value: { out: { last: '1'.repeat(19), n: 1 } } });
  journal.lines.pop();
  const exec = await followed.exec({ Cmd: ['touch', '/tmp/go'] });
  await exec.start({});
  await followed.wait();
  const unseen = await engine.run({ cmd: ['echo', 'unseen'] });
  await unseen.wait();
  {
    await using monitor = await monitorOver(engine, journal);
    await until(() => journal.lines.length === 504 && monitor.state.containers === 0, {
      what: () => `504 lines, got ${journal.lines.length}`,
    });
    expect(new Set(journal.forgotten)).toEqual(new Set([`docker:${removed.id}`, ghost]));
  }
  // A last line without an end is one line, however often it is looked at.
  await using monitor = await monitorOver(engine, journal);
  await until(() => monitor.state.containers === 0);
  expect(journal.lines).toHaveLength(504);
  expect(journal.messages(followed.id, 'stdout')).toEqual([
    ...numbered('', 500).map((text) => text.trim()),
    'half',
  ]);
  expect(journal.messages(unseen.id)).toEqual(['unseen']);
});

test("a terminal's unfinished last line is not repeated when later runs of the container have continued it", async () => {
  const journal = new MemoryJournal();
  const script = 'n=$(cat /n 2>/dev/null || echo 0); n=$((n+1)); echo $n >/n; echo run $n; printf "half $n"';
  const container = await engine.run({ cmd: ['sh', '-c', script], tty: true });
  {
    await using _monitor = await monitorOver(engine, journal);
    await until(() => journal.lines.length === 2);
  }
  for (let again = 0; again < 2; again++) {
    await container.wait();
    await container.start();
  }
  await container.wait();
  {
    await using monitor = await monitorOver(engine, journal);
    await until(() => monitor.state.containers === 0 && journal.messages(container.id).includes('half 3'));
  }
  // Where one run ends and the next begins within a line cannot always be told; nothing is lost or repeated.
  const all = journal.messages(container.id).join('\n');
  for (const text of ['run 1', 'half 1', 'run 2', 'half 2', 'run 3', 'half 3']) {
    expect(all.split(text)).toHaveLength(2);
  }
});

test('a container that ended before the wanted history is not read', async () => {
  const journal = new MemoryJournal();
  const old = await engine.run({ cmd: ['echo', 'old'] });
  await old.wait();
  await using monitor = await monitorOver(engine, journal, { historyMs: 0 });
  const fresh = await engine.run({ cmd: ['echo', 'fresh'] });
  await until(() => journal.lines.length === 1 && monitor.state.containers === 0);
  expect(journal.messages(fresh.id)).toEqual(['fresh']);
});

test('the engine is restarted in order: its containers are stopped, and read on when they start again', async () => {
  await using engine = await startEngine();
  const journal = new MemoryJournal();
  const states: MonitorState[] = [];
  await using monitor = await monitorOver(engine, journal, { onStateChange: (state) => states.push(state) });
  const script =
    'n=$(cat /tmp/n 2>/dev/null || echo 0); n=$((n+1)); echo $n >/tmp/n; echo run $n; exec sleep 1000';
  const { id } = await engine.run({ cmd: ['sh', '-c', script], restart: 'always' });
  await until(() => journal.messages(id).length === 1);
  await engine.restart();
  await until(() => journal.messages(id).length === 2);
  expect(journal.messages(id)).toEqual(['run 1', 'run 2']);
  // It may be unreachable for one reason after another.
  expect([states.at(0), states.at(-1)].map((state) => state?.engine)).toEqual(['connected', 'connected']);
  for (const state of states.slice(1, -1)) {
    expect(state).toMatchObject({ engine: 'unreachable', error: { code: 'ENGINE_UNREACHABLE' } });
  }
  expect(states.length).toBeGreaterThan(2);
  expect(monitor.state.error).toBeUndefined();
});

test('the engine is killed in the middle of a burst, twice, while its containers write on', async () => {
  await using engine = await startEngine({ liveRestore: true });
  const journal = new MemoryJournal();
  await using _monitor = await monitorOver(engine, journal);
  const { id } = await engine.run({ cmd: printSlowly(4_000) });
  for (const goal of [1_000, 3_000]) {
    await until(() => journal.lines.length >= goal);
    await engine.kill();
    await engine.start();
  }
  await engine.docker.getContainer(id).wait();
  // What the dying engine had taken from the pipes and not written to its log is lost before anyone could read it:
  // the engine's own log is the measure here.
  const logged = await loggedBy(engine, id);
  await until(() => journal.lines.length >= logged.length, {
    what: () => `${logged.length} lines, got ${journal.lines.length}`,
  });
  for (const stream of ['stdout', 'stderr'] as const) {
    const expected = logged.filter((line) => line.stream === stream).map((line) => line.text);
    expect(journal.messages(id, stream)).toEqual(expected);
  }
  expect(logged.length).toBeGreaterThan(7_000);
});

interface Logged {
  stream: string;
  text: string;
}

/** Reads the file of the driver json-file itself. */
async function loggedBy(engine: TestEngine, id: string): Promise<Logged[]> {
  const { LogPath } = (await engine.docker.getContainer(id).inspect()) as unknown as { LogPath: string };
  return (await readFile(LogPath, 'utf8'))
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { stream: string; log: string })
    .map(({ stream, log }) => ({ stream, text: log.replace(/\n$/, '') }));
}

test('without an engine the monitor starts, says so, and reads once there is one', async () => {
  await using engine = await startEngine();
  const { id } = await engine.run({ cmd: ['echo', 'early'] });
  await engine.docker.getContainer(id).wait();
  await engine.stop();
  const journal = new MemoryJournal();
  const messages: string[] = [];
  const log = pino({ level: 'warn' }, { write: (line) => messages.push(line) });
  await using monitor = await monitorOver(engine, journal, { log });
  expect(monitor.state.engine).toBe('unreachable');
  expect(monitor.state.error).toMatchObject({ code: 'ENGINE_UNREACHABLE' });
  await engine.start();
  await until(() => journal.messages(id).length === 1);
  expect(monitor.state.engine).toBe('connected');
  // However many attempts failed, the reason was said once for each reason.
  expect(messages.length).toBeLessThanOrEqual(3);
});

test('an engine that accepts connections but never answers is noticed and comes back without a gap', async () => {
  await using engine = await startEngine();
  const journal = new MemoryJournal();
  await using monitor = await monitorOver(engine, journal, { heartbeatMs: 300, answerTimeoutMs: 500 });
  const { id } = await engine.run({ cmd: printSlowly(2_000) });
  await until(() => journal.lines.length > 500);
  engine.signal('SIGSTOP');
  await until(() => monitor.state.engine === 'unreachable');
  expect(monitor.state.error?.message).toContain('did not answer');
  engine.signal('SIGCONT');
  await until(() => journal.lines.length >= 4_000, { what: () => `4000 lines, got ${journal.lines.length}` });
  await until(() => monitor.state.containers === 0);
  expectAll(journal, id, 2_000);
});

test('an engine behind TCP is read too, and a monitor that is stopped lets go of it at once', async () => {
  const tcpPort = await freePort();
  await using engine = await startEngine({ tcpPort });
  const journal = new MemoryJournal();
  const docker = connectEngine({ env: { DOCKER_HOST: `tcp://127.0.0.1:${tcpPort}` } });
  const monitor = new ContainerLogMonitor([journal], docker, { logs: 'api' });
  await monitor.start();
  const { id } = await engine.run({ cmd: ['sh', '-c', 'echo over tcp; sleep 1000'] });
  await until(() => journal.messages(id).length === 1);
  const before = performance.now();
  await monitor.stop();
  expect(performance.now() - before).toBeLessThan(1_000);
  expect(monitor.state.containers).toBe(0);
});

test('a log that a power cut has damaged is read on behind the damage', async () => {
  await using engine = await startEngine();
  const journal = new MemoryJournal();
  const container = await engine.run({ cmd: ['sh', '-c', 'seq 1 20000'] });
  await container.wait();
  const { LogPath } = (await container.inspect()) as unknown as { LogPath: string };
  const text = await readFile(LogPath);
  const hole = text.indexOf('"log":"5000\\n"');
  // Small holes the engine gets over by itself; in this one it gives up after 20 000 attempts.
  const garbage = Buffer.concat([Buffer.from('{"log":"'), Buffer.alloc(20_000_000, 'a')]);
  await writeFile(LogPath, Buffer.concat([text.subarray(0, hole), garbage, text.subarray(hole)]));
  const messages: string[] = [];
  const log = pino({ level: 'warn' }, { write: (line) => messages.push(line) });
  await using monitor = await monitorOver(engine, journal, { log });
  await until(() => journal.messages(container.id).includes('20000'));
  await until(() => monitor.state.containers === 0);
  const numbers = journal.messages(container.id).map(Number);
  expect(new Set(numbers).size).toBe(numbers.length);
  expect(numbers.slice(0, 4_999)).toEqual(Array.from({ length: 4_999 }, (_, i) => i + 1));
  expect(numbers.slice(-10_000)).toEqual(Array.from({ length: 10_000 }, (_, i) => i + 10_001));
  expect(messages.some((line) => line.includes('cannot read all'))).toBe(true);
});

test('a clock that was set back neither hides nor repeats lines', async () => {
  const { id } = await engine.run({ cmd: ['sh', '-c', 'seq 1 100'] });
  await engine.docker.getContainer(id).wait();
  const positions: SourcePosition[] = [];
  const read = async (count: number, saved?: Json) => {
    const journal = new MemoryJournal();
    if (saved) void journal.log({ message: '' }, { key: `docker:${id}`, value: saved });
    journal.lines.length = 0;
    const observer = {
      name: 'observer',
      log: (_: unknown, position?: SourcePosition) => void (position && positions.push(position)),
    };
    await using monitor = new ContainerLogMonitor([journal, observer], engine.docker, {
      positions: journal,
      logs: 'api',
    });
    await monitor.start();
    await until(() => journal.lines.length >= count && monitor.state.containers === 0);
    return journal.messages(id);
  };
  const all = Array.from({ length: 100 }, (_, i) => String(i + 1));
  expect(await read(100)).toEqual(all);
  const { out } = (positions[39] as SourcePosition).value as { out: { last: string } };
  const tomorrow = `${BigInt(out.last) + 86_400_000_000_000n}`;
  // The clock was ahead, was set back, and then 40 lines were read.
  expect(await read(60, { out: { ...out, max: tomorrow } })).toEqual(all.slice(40));
  // The line read last carries a time that is still to come, and the log holds it no longer.
  expect(await read(100, { out: { last: tomorrow, n: 1 } })).toEqual(all);
});

test('a stream that a clock set back would leave silent is begun anew, without a gap', async () => {
  const { id } = await engine.run({ cmd: printSlowly(1_000) });
  const journal = new MemoryJournal();
  const reader = new ContainerReader({
    api: new EngineApi({ docker: engine.docker, answerTimeoutMs: 10_000 }),
    container: { id, name: 'x', labels: {} },
    saved: undefined,
    startMs: () => Date.now() - 60_000,
    deliver: (line, position) => journal.log(line, position),
  });
  const run = reader.run({ signal: new AbortController().signal, clockOffsetMs: 0 });
  for (const goal of [300, 600, 900]) {
    await until(() => journal.lines.length > goal);
    reader.check(0);
  }
  await run;
  expectAll(journal, id, 1_000);
});

test('a container that says nothing for a while is followed on one connection', async () => {
  await using engine = await startEngine();
  const journal = new MemoryJournal();
  let requests = 0;
  const dial = engine.docker.modem.dial.bind(engine.docker.modem);
  engine.docker.modem.dial = (options: { path: string }, callback: () => void) => {
    if (options.path.includes('/logs')) requests++;
    return dial(options, callback);
  };
  await using _monitor = await monitorOver(engine, journal);
  // Longer than the idle timeout of Node's own connection pool.
  const { id } = await engine.run({
    cmd: ['sh', '-c', 'echo before; sleep 6.5; echo after; exec sleep 1000'],
  });
  await until(() => journal.messages(id).length === 2);
  expect(journal.messages(id)).toEqual(['before', 'after']);
  expect(requests).toBe(1);
});

test('many containers are read at once', async () => {
  const count = 25;
  const journal = new MemoryJournal();
  await using monitor = await monitorOver(engine, journal);
  const script = 'trap "seq 1 200; exit" USR1; echo up; while :; do sleep 0.3; done';
  const ids: string[] = [];
  const startSome = async () => {
    while (ids.length < count) {
      const place = ids.push('') - 1;
      ids[place] = (await engine.run({ cmd: ['sh', '-c', script] })).id;
    }
  };
  await Promise.all([startSome(), startSome(), startSome(), startSome()]);
  await until(() => journal.lines.length === count && monitor.state.containers === count);
  await Promise.all(ids.map((id) => engine.docker.getContainer(id).kill({ signal: 'SIGUSR1' })));
  await until(() => journal.lines.length === count * 201, {
    what: () => `all lines, got ${journal.lines.length}`,
  });
  for (const id of ids)
    expect(journal.messages(id)).toEqual(['up', ...numbered('', 200).map((text) => text.trim())]);
});
