import { readdir, readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { limits } from '@millrace/wire';
import pino, { type Logger } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../../../../tests/support/docker.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { LocalLogBackend } from '../../src/logging/local-backend.ts';
import { ContainerLogMonitor, type MonitorOptions } from '../../src/logging/monitor.ts';
import type { Rule } from '../../src/shape/rules.ts';
import { summaryMs } from '../../src/shape/shaper.ts';
import { MemoryJournal, numbered, printBoth } from './memory-journal.ts';

/** A logger whose messages a test can look at. */
function memoryLog(): { log: Logger; messages: string[] } {
  const messages: string[] = [];
  return { messages, log: pino({ level: 'warn' }, { write: (line) => messages.push(line) }) };
}

describe.for(['auto', 'api'] as const)('logs: %s', (logs) => {
  let engine: TestEngine;
  beforeAll(async () => {
    engine = await startEngine();
  });
  afterAll(() => engine[Symbol.asyncDispose]());
  // No history: the tests share an engine, and each looks at its own containers only.
  async function monitorOver(journal: MemoryJournal, options: MonitorOptions = {}) {
    const monitor = new ContainerLogMonitor(journal, engine.docker, {
      positions: journal,
      historyMs: 0,
      logs,
      ...options,
    });
    await monitor.start();
    return monitor;
  }

  test('three containers that print 10 000 lines on each stream at once: each line once and in order', async () => {
    const journal = new MemoryJournal();
    await using monitor = await monitorOver(journal);
    const containers = await Promise.all([1, 2, 3].map(() => engine.run({ cmd: printBoth(10_000) })));
    await until(() => journal.lines.length >= 60_000, {
      what: () => `60 000 lines, got ${journal.lines.length}`,
    });
    await until(() => monitor.state.containers === 0);
    expect(journal.lines).toHaveLength(60_000);
    for (const { id } of containers) {
      expect(journal.messages(id, 'stdout')).toEqual(numbered('out', 10_000));
      expect(journal.messages(id, 'stderr')).toEqual(numbered('err', 10_000));
    }
    expect(monitor.state).toEqual({ engine: 'connected', containers: 0, lines: 60_000, failures: 0 });
  });

  test('a line carries the time, the stream and the service; every backend gets it', async () => {
    const journals = [new MemoryJournal(), new MemoryJournal()] as const;
    await using monitor = new ContainerLogMonitor([...journals], engine.docker, { historyMs: 0, logs });
    await monitor.start();
    const before = Date.now();
    const container = await engine.run({
      name: 'plain-name',
      cmd: ['sh', '-c', 'echo to stdout; sleep 0.05; echo to stderr >&2'],
      labels: {
        'com.docker.compose.service': 'web',
        'com.docker.compose.project': 'shop',
        'millrace.service-id': '7',
      },
    });
    for (const journal of journals) {
      await until(() => journal.lines.length === 2);
      const common = {
        isSystem: false,
        serviceName: 'web',
        serviceId: 7,
        appId: 'shop',
        containerId: container.id,
        source: { type: 'container', name: 'web' },
      };
      expect(journal.lines).toEqual([
        { ...common, message: 'to stdout', isStdErr: false, timestamp: expect.any(Number) },
        { ...common, message: 'to stderr', isStdErr: true, timestamp: expect.any(Number) },
      ]);
      for (const { timestamp } of journal.lines) {
        expect(timestamp).toBeGreaterThanOrEqual(before);
        expect(timestamp).toBeLessThanOrEqual(Date.now());
      }
    }
  });

  test('without labels the service is the container, also after it was renamed', async () => {
    const journal = new MemoryJournal();
    await using _monitor = await monitorOver(journal);
    const container = await engine.run({
      name: 'first',
      cmd: ['sh', '-c', 'trap "echo two; exit" USR1; echo one; while :; do sleep 0.02; done'],
    });
    await until(() => journal.messages(container.id).length === 1);
    await container.rename({ name: 'second' });
    // The engine's answer may be here before its event.
    const witness = await engine.run({ cmd: ['echo', 'after the event'] });
    await until(() => journal.messages(witness.id).length === 1);
    await container.kill({ signal: 'SIGUSR1' });
    await until(() => journal.messages(container.id).includes('two'));
    expect(journal.lines.find(({ message }) => message === 'one')?.serviceName).toBe('first');
    expect(journal.lines.find(({ message }) => message === 'two')?.serviceName).toBe('second');
  });

  test('lines of a terminal, long lines of both modes, and a last line that was never ended', async () => {
    const journal = new MemoryJournal();
    await using _monitor = await monitorOver(journal);
    const script = `echo short; head -c 40000 /dev/zero | tr '\\0' x; echo; i=0; while [ $i -lt 6000 ]; do printf 'äöü'; i=$((i+1)); done; echo; printf unfinished`;
    const [plain, terminal] = await Promise.all([
      engine.run({ cmd: ['sh', '-c', script] }),
      engine.run({ cmd: ['sh', '-c', script], tty: true }),
    ]);
    for (const { id } of [plain, terminal]) {
      await until(() => journal.messages(id).length === 4, {
        what: () => `4 lines, got ${journal.messages(id).length}`,
      });
      const [short, long, umlauts, unfinished] = journal.messages(id);
      expect([short, unfinished]).toEqual(['short', 'unfinished']);
      expect(long).toBe('x'.repeat(40_000));
      // The engine itself spoils the character that its 16 KB pieces cut in two.
      expect(umlauts?.replace(/\uFFFD+/g, '').length).toBeGreaterThan(17_990);
      expect(umlauts?.replace(/[äöü\uFFFD]/g, '')).toBe('');
    }
  });

  test('bytes that are no text, empty lines and lines with NUL are kept', async () => {
    const journal = new MemoryJournal();
    await using _monitor = await monitorOver(journal);
    // A line that begins with a blank would continue the one before it.
    const script = `printf 'a\\377\\376b\\n\\nnul \\000 nul\\nx'; head -c 100000 /dev/urandom; printf '\\nend\\n'`;
    const { id } = await engine.run({ cmd: ['sh', '-c', script] });
    await until(() => journal.messages(id).includes('end'));
    const messages = journal.messages(id);
    expect(messages.slice(0, 3)).toEqual(['a\uFFFD\uFFFDb', '', 'nul \0 nul']);
    expect(messages.join('').length).toBeGreaterThan(50_000);
  });

  test('containers labelled millrace.logs=off, and our own, are left alone', async () => {
    const journal = new MemoryJournal();
    const own = await engine.create({ cmd: ['echo', 'own'] });
    await using _monitor = await monitorOver(journal, { ownContainerId: own.id });
    await engine.run({ cmd: ['echo', 'off'], labels: { 'millrace.logs': 'off' } });
    await own.start();
    await own.wait();
    const last = await engine.run({ cmd: ['echo', 'seen'] });
    await until(() => journal.messages(last.id).length === 1);
    expect(journal.lines.map(({ message }) => message)).toEqual(['seen']);
    expect(hostname()).not.toMatch(/^[0-9a-f]{12}$/);
  });

  test('containers that live for a moment are read to their end, removed ones too, and their positions forgotten', async () => {
    const journal = new MemoryJournal();
    await using monitor = await monitorOver(journal);
    // An engine 20.10 may end a followed log before its last lines, and the log of a container that is removed on
    // exit cannot be read again: those get a moment between their last line and their end.
    const run = (autoRemove: boolean) =>
      engine.run({ cmd: ['sh', '-c', `seq 1 2000; ${autoRemove ? 'sleep 0.5' : 'printf bye'}`], autoRemove });
    const removed = await Promise.all([run(true), run(true), run(true)]);
    const kept = await Promise.all([run(false), run(false), run(false)]);
    const numbers = Array.from({ length: 2_000 }, (_, i) => String(i + 1));
    await until(() => journal.forgotten.length === 3);
    for (const { id } of removed) expect(journal.messages(id)).toEqual(numbers);
    for (const { id } of kept) {
      await until(() => journal.messages(id).length >= 2_001);
      expect(journal.messages(id)).toEqual([...numbers, 'bye']);
    }
    await Promise.all(kept.map((container) => container.remove()));
    await until(() => journal.forgotten.length === 6);
    expect(journal.forgotten.sort()).toEqual([...removed, ...kept].map(({ id }) => `docker:${id}`).sort());
    await until(() => monitor.state.containers === 0);
  });

  test('a container that is restarted, by us or by its policy, goes on without a gap', async () => {
    const journal = new MemoryJournal();
    await using _monitor = await monitorOver(journal);
    const script =
      'n=$(cat /tmp/n 2>/dev/null || echo 0); n=$((n+1)); echo $n >/tmp/n; echo run $n; echo error $n >&2; printf "half $n";';
    const manual = await engine.run({ cmd: ['sh', '-c', `${script} sleep 1000`] });
    const terminal = await engine.run({ cmd: ['sh', '-c', `${script} sleep 1000`], tty: true });
    const crashing = await engine.run({
      cmd: ['sh', '-c', `${script} [ $n -ge 4 ] && exit 0; exit 1`],
      restart: 'on-failure',
    });
    for (const run of [1, 2]) {
      for (const container of [manual, terminal]) {
        await until(() => journal.messages(container.id).includes(`error ${run}`), {
          what: () => `restart ${run}: ${journal.messages(container.id).join(' | ')}`,
        });
        await container.restart({ t: 0 });
        await until(() => journal.messages(container.id).includes(`half ${run}`), {
          what: () => `half ${run}: ${journal.messages(container.id).join(' | ')}`,
        });
      }
    }
    await manual.kill();
    await terminal.kill();
    const lines = (runs: number, prefix: string) => numbered(prefix, runs);
    for (const [{ id }, runs] of [
      [manual, 3],
      [terminal, 3],
      [crashing, 4],
    ] as const) {
      await until(() => journal.messages(id).length === runs * 3, {
        what: () => `${runs} runs, got ${journal.messages(id).join(' | ')}`,
      });
      const messages = journal.messages(id);
      expect(messages.filter((text) => text.startsWith('run'))).toEqual(lines(runs, 'run'));
      expect(messages.filter((text) => text.startsWith('error'))).toEqual(lines(runs, 'error'));
      expect(messages.filter((text) => text.startsWith('half'))).toEqual(lines(runs, 'half'));
    }
  });

  test('a logging driver that keeps nothing is said once and harms nobody; the driver local is read', async () => {
    const journal = new MemoryJournal();
    const { log, messages } = memoryLog();
    await using _monitor = await monitorOver(journal, { log });
    const mute = await engine.run({ cmd: ['sh', '-c', 'echo lost; sleep 1000'], logDriver: 'none' });
    const local = await engine.run({ cmd: printBoth(500), logDriver: 'local' });
    await until(() => journal.messages(local.id).length === 1_000);
    expect(journal.messages(local.id, 'stdout')).toEqual(numbered('out', 500));
    await mute.restart({ t: 0 });
    const last = await engine.run({ cmd: ['echo', 'last'] });
    await until(() => journal.messages(last.id).length === 1);
    expect(messages.filter((text) => text.includes('logging driver'))).toHaveLength(1);
    await mute.kill();
  });

  test('a backend that is slow holds a container back, not the memory; one that fails harms no other', async () => {
    const slow = new MemoryJournal();
    const gate = Promise.withResolvers<void>();
    slow.gate = gate.promise;
    const failing = {
      name: 'failing',
      log: () => {
        throw new Error('disk full');
      },
    };
    const { log, messages } = memoryLog();
    await using monitor = new ContainerLogMonitor([failing, slow], engine.docker, {
      log,
      historyMs: 0,
      logs,
    });
    const open = () => {
      slow.gate = undefined;
      gate.resolve();
    };
    // Before the monitor, which would wait for the backend: what went wrong is to be said and not to be waited for.
    using stack = new DisposableStack();
    stack.defer(open);
    await monitor.start();
    const container = await engine.run({ cmd: printBoth(10_000) });
    const { id } = container;
    await until(() => slow.lines.length > 0, { what: 'the first line' });
    await until(async () => !(await container.inspect()).State.Running, { what: 'the container to end' });
    expect(slow.lines).toHaveLength(1);
    open();
    await until(() => slow.lines.length >= 20_000, { what: () => `all lines, got ${slow.lines.length}` });
    expect(slow.messages(id, 'stderr')).toEqual(numbered('err', 10_000));
    expect(slow.messages(id, 'stdout')).toEqual(numbered('out', 10_000));
    expect(monitor.state.failures).toBe(20_000);
    expect(messages.filter((text) => text.includes('disk full'))).toHaveLength(1);
  });

  test('a stack trace is one message, with the level that it names; what is held comes when the container ends', async () => {
    const journal = new MemoryJournal();
    await using _monitor = await monitorOver(journal);
    const trace =
      'java.io.IOException: disk full\\n\\tat a.B.c(B.java:1)\\nCaused by: java.lang.Error: x\\n\\t... 1 more\\n';
    const script = `printf 'WARN slow\\n${trace}{"level":"debug"}\\n'; printf '2026/01/01 00:00:00 INFO fine\\nlast\\n  words\\n' >&2`;
    const { id } = await engine.run({ cmd: ['sh', '-c', script] });
    await until(() => journal.messages(id).length === 4);
    const levels = journal.lines.map(({ message, level }) => [message, level]);
    expect(levels).toContainEqual([
      `WARN slow\n${trace.trimEnd().replaceAll('\\n', '\n').replaceAll('\\t', '\t')}`.trimEnd(),
      'warn',
    ]);
    expect(levels).toContainEqual(['{"level":"debug"}', 'debug']);
    expect(journal.messages(id, 'stderr')).toEqual(['2026/01/01 00:00:00 INFO fine', 'last\n  words']);
  });

  test('rules on labels and from a source: what they take out is never in the journal, and a change takes effect', async () => {
    await using dir = await tempDir('millrace-shaped-');
    const backend = new LocalLogBackend({ enableFilePersistence: true, logDir: dir.path });
    const shaping: { rules: Rule[] } = { rules: [{ minLevel: 'warn' }] };
    const monitor = new ContainerLogMonitor(backend, engine.docker, {
      positions: backend,
      historyMs: 0,
      logs,
      shaping,
    });
    await monitor.start();
    const script =
      'echo {\\"level\\":\\"info\\"}; echo WARN mail ann@example.com; read x < /go; echo again bob@example.com';
    const container = await engine.run({
      cmd: ['sh', '-c', `mkfifo /go; ${script}`],
      labels: { 'millrace.redact': 'email' },
    });
    const messages = async () =>
      (await backend.getLogs({ containerId: container.id })).map(({ message }) => message);
    await until(async () => (await messages()).length === 1);
    shaping.rules = [];
    monitor.reshape();
    const go = await container.exec({ Cmd: ['sh', '-c', 'echo > /go'] });
    await go.start({});
    await until(async () => (await messages()).length === 2);
    expect(await messages()).toEqual(['WARN mail [email]', 'again [email]']);
    expect(monitor.dropped).toEqual({ level: 1, pattern: 0, repeat: 0, rate: 0 });
    await monitor.stop();
    await backend.disconnect();
    const files = await readdir(dir.path);
    const stored = await Promise.all(files.map((name) => readFile(join(dir.path, name))));
    const text = stored.map((bytes) => gunzipSync(bytes).toString()).join('');
    expect(text).toContain('again [email]');
    expect(text).not.toContain('example.com');
  });

  test('what is left to say of a container is said when it ends, before its position is forgotten', async () => {
    const journal = new MemoryJournal();
    await using _monitor = await monitorOver(journal);
    const labels = { 'millrace.collapse-repeats': 'true' };
    const { id } = await engine.run({
      // Through the API a container that is gone at once may end before its last lines (decision 14).
      cmd: ['sh', '-c', `for i in 1 2 3; do echo same; done; ${logs === 'api' ? 'sleep 0.5' : ''}`],
      labels,
      autoRemove: true,
    });
    await until(() => journal.messages(id).length > 0, { what: 'the line' });
    // Sooner than a summary would come by itself.
    await until(() => journal.messages(id).length === 2, {
      timeoutMs: summaryMs - 2_000,
      what: 'the summary',
    });
    expect(journal.messages(id)).toEqual(['same', 'last message repeated 2 times']);
    await until(() => journal.forgotten.length > 0, { what: 'its position to be forgotten' });
    expect(journal.position(`docker:${id}`)).toBeUndefined();
  });

  test('a line of megabytes is cut and says by how much; bytes that are no UTF-8 and colours harm nothing', async () => {
    const journal = new MemoryJournal();
    await using _monitor = await monitorOver(journal);
    const long = "head -c 3000000 /dev/zero | tr '\\0' x; echo";
    const { id } = await engine.run({ cmd: ['sh', '-c', `${long}; printf 'a\\377\\033[31mb\\n'`] });
    await until(() => journal.messages(id).length === 2);
    const [cut = '', odd] = journal.messages(id);
    const [, kept = '', missing] = /^(x+)… \[truncated (\d+) bytes\]$/.exec(cut) ?? [];
    expect(kept.length + Number(missing)).toBe(3_000_000);
    expect(Buffer.byteLength(cut)).toBeLessThanOrEqual(limits.maxMessageBytes);
    expect(odd).toBe('a\ufffd\u001b[31mb');
  });
});
