import { execFile, spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { captureLog } from '../../../../tests/support/log.ts';
import { freePort } from '../../../../tests/support/ports.ts';
import { until } from '../../../../tests/support/wait.ts';
import { type SyslogOptions, SyslogSource } from '../../src/syslog/source.ts';
import { MemoryJournal, numbered } from '../docker/memory-journal.ts';

const run = promisify(execFile);

async function started(journal: MemoryJournal, options: Partial<SyslogOptions> = {}): Promise<SyslogSource> {
  const source = new SyslogSource({ taker: journal, host: '127.0.0.1', port: 0, ...options });
  await source.start();
  return source;
}

function portOf({ port }: SyslogSource): number {
  if (port === undefined) throw new Error('the source does not listen');
  return port;
}

async function connected(source: SyslogSource): Promise<Socket> {
  const socket = connect(portOf(source), '127.0.0.1');
  await once(socket, 'connect');
  return socket;
}

const messages = (journal: MemoryJournal) => journal.lines.map(({ message }) => message);

test.for([
  ['UDP, RFC 5424', '--udp', '--rfc5424'],
  ['UDP, RFC 3164', '--udp', '--rfc3164'],
  ['TCP, RFC 5424, lines', '--tcp', '--rfc5424'],
  ['TCP, RFC 5424, with lengths', '--tcp', '--rfc5424', '--octet-count'],
  ['TCP, RFC 3164, lines', '--tcp', '--rfc3164'],
] as const)('takes what logger(1) sends: %s', async ([, ...options]) => {
  const journal = new MemoryJournal();
  await using source = await started(journal);
  const port = String(portOf(source));
  const head = [
    '--server',
    '127.0.0.1',
    '--port',
    port,
    '--tag',
    'shop',
    '--id=4711',
    '--priority',
    'local3.warn',
  ];
  const sinceMs = Date.now();
  await run('logger', [...head, ...options, 'the shutters are down']);
  await until(() => journal.lines.length === 1);
  const [line] = journal.lines;
  expect(line).toMatchObject({
    message: 'the shutters are down',
    level: 'warn',
    source: { type: 'system', name: 'shop' },
    isSystem: true,
    fields: { facility: 'local3', pid: 4711 },
  });
  expect(line?.timestamp).toBeGreaterThan(sinceMs - 2_000);
  expect(line?.timestamp).toBeLessThanOrEqual(Date.now() + 1_000);
  expect(source.state).toEqual({
    connected: true,
    lines: 1,
    dropped: 0,
    detail: `127.0.0.1:${port} (UDP, TCP)`,
  });
});

test('a sender over TCP that is faster than the backends is held back, and nothing is lost', async () => {
  const journal = new MemoryJournal();
  const gate = Promise.withResolvers<void>();
  journal.gate = gate.promise;
  await using source = await started(journal);
  const socket = await connected(source);
  const padding = '.'.repeat(200);
  const lines = numbered('line', 50_000);
  let isHeld = false;
  for (const line of lines) isHeld = !socket.write(`<14>app: ${line} ${padding}\n`) || isHeld;
  socket.end();
  await until(() => journal.lines.length === 1);
  expect(isHeld).toBe(true);
  // What Node holds for the sender stays there: the kernel's buffers are full.
  expect(socket.writableLength).toBeGreaterThan(1_000_000);
  expect(journal.lines.length).toBe(1);
  journal.gate = undefined;
  gate.resolve();
  await until(() => journal.lines.length === lines.length);
  expect(messages(journal)).toEqual(lines.map((line) => `${line} ${padding}`));
});

test('what comes over UDP while there is no room waits, and what does not fit is counted', async () => {
  const journal = new MemoryJournal();
  const gate = Promise.withResolvers<void>();
  journal.gate = gate.promise;
  const source = await started(journal);
  const port = portOf(source);
  const sender = createSocket('udp4');
  const send = promisify<string, number, string, void>((text, to, host, done) =>
    sender.send(text, to, host, (error) => done(error)),
  );
  const padding = '.'.repeat(1_000);
  const sent = 3_000;
  for (let i = 1; i <= sent; i++) {
    await send(`<14>app: line ${i} ${padding}`, port, '127.0.0.1');
    // So that it is taken out of the kernel, whose own buffer would overflow first.
    await nextTurn();
  }
  sender.close();
  await until(() => source.state.dropped ?? 0);
  expect(journal.lines.length).toBe(1);
  journal.gate = undefined;
  gate.resolve();
  await until(() => journal.lines.length > 500);
  await source.stop();
  const kept = journal.lines.filter(({ source: from }) => from?.type === 'system');
  const records = journal.lines.filter(({ source: from }) => from?.type === 'manager');
  const lost = records.reduce((sum, { fields }) => sum + Number(fields?.lost), 0);
  expect(kept[0]?.message).toContain('line 1 ');
  expect(kept.length + lost).toBe(sent);
  expect(lost).toBe(source.state.dropped);
  expect(records[0]).toMatchObject({ level: 'warn', source: { name: 'syslog' } });
});

test('what the kernel had to drop is counted too', async () => {
  const journal = new MemoryJournal();
  const source = await started(journal);
  const port = portOf(source);
  // Another process sends while this one does nothing else, so that only the kernel can hold what comes.
  const count = 4_000;
  const script = `
    const socket = require('node:dgram').createSocket('udp4');
    let left = ${count};
    const next = () => (left-- > 0 ? socket.send('<14>app: ' + 'x'.repeat(1000), ${port}, '127.0.0.1', next) : socket.close());
    next();
  `;
  spawnSync(process.execPath, ['-e', script]);
  await until(() => journal.lines.length > 0);
  let before = 0;
  await until(() => {
    const isQuiet = journal.lines.length === before;
    before = journal.lines.length;
    return isQuiet;
  });
  await source.stop();
  const kept = journal.lines.filter(({ source: from }) => from?.type === 'system').length;
  expect(kept).toBeLessThan(count);
  expect(source.state.dropped).toBe(count - kept);
});

test('a message that its sender breaks off is kept', async () => {
  const journal = new MemoryJournal();
  await using source = await started(journal);
  const socket = await connected(source);
  socket.write('<14>app: whole\n<14>app: bro');
  await until(() => journal.lines.length === 1);
  socket.resetAndDestroy();
  await until(() => journal.lines.length === 2);
  expect(messages(journal)).toEqual(['whole', 'bro']);
});

test('connections are bounded: those beyond are refused, and those that are there go on', async () => {
  const journal = new MemoryJournal();
  const captured = captureLog();
  await using source = await started(journal, { log: captured.log });
  const sockets: Socket[] = [];
  for (let i = 0; i < 64; i++) sockets.push(await connected(source));
  const refused = await connected(source);
  refused.on('error', () => {});
  await once(refused, 'close');
  sockets[63]?.write('<14>app: still here\n');
  await until(() => journal.lines.length === 1);
  expect(captured.messages(40)).toEqual(['syslog: a connection was refused, since there are 64 already']);
  for (const socket of sockets) socket.destroy();
});

test('a port that is taken is told of, and had as soon as it is free', async () => {
  const port = await freePort();
  const holder = createServer().listen(port, '127.0.0.1');
  await once(holder, 'listening');
  const journal = new MemoryJournal();
  const captured = captureLog();
  await using source = await started(journal, {
    port,
    log: captured.log,
    retry: { minMs: 10, maxMs: 50 },
  });
  expect(source.state).toEqual({
    connected: false,
    lines: 0,
    dropped: 0,
    error: expect.stringMatching(/^PORT_TAKEN: SYSLOG_PORT \d+ on 127\.0\.0\.1 is taken/),
  });
  holder.close();
  await until(() => source.state.connected);
  expect(source.state.error).toBeUndefined();
  expect(captured.messages(40)).toEqual(['syslog cannot be received; trying again']);
});
