import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createServer as createTcpServer, type Server } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { ChunkReader } from '../../src/docker/chunks.ts';
import { GatheringAgent, partsOf } from '../../src/docker/gathering-agent.ts';

const head =
  'HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n';

function chunked(parts: readonly Uint8Array[], end = '0\r\n\r\n'): Buffer {
  const body = parts.flatMap((part) => [
    Buffer.from(`${part.length.toString(16)}\r\n`),
    part,
    Buffer.from('\r\n'),
  ]);
  return Buffer.concat([Buffer.from(head), ...body, Buffer.from(end)]);
}

/** What comes out when what is behind the head arrives cut at these places. */
function read(bytes: Buffer, cuts: readonly number[]) {
  const reader = new ChunkReader();
  const parts: Buffer[] = [];
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  // As a connection does it: always in the same memory, and something before it.
  const before = 7;
  const buffer = Buffer.alloc(before + bytes.length, 'b');
  let from = 0;
  for (const to of [...places, bytes.length]) {
    bytes.copy(buffer, before, from, to);
    const end = reader.read(buffer, before, before + to - from);
    if (end > before) parts.push(Buffer.from(buffer.subarray(before, end)));
    from = to;
  }
  expect(buffer.toString('latin1', 0, before)).toBe('b'.repeat(before));
  const { hasEnded, failure } = reader;
  return { body: Buffer.concat(parts), parts: parts.length, hasEnded, hasFailed: failure !== undefined };
}

/** A server that sends these bytes to whoever connects, and ends the connection then. */
async function serving(bytes: Buffer): Promise<{ server: Server; port: number }> {
  const server = createTcpServer((socket) => {
    socket.on('error', () => undefined);
    socket.end(bytes);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, port: (server.address() as AddressInfo).port };
}

interface Answer {
  body: Buffer;
  chunks: number;
  failure?: string;
}

/** What is read of it, through our connections or those of Node. */
async function ask(port: number, agent?: GatheringAgent): Promise<Answer> {
  const parts: Buffer[] = [];
  try {
    const response = await begin(port, agent);
    // A copy: a part's memory is used again.
    for await (const part of partsOf(response)) parts.push(Buffer.from(part));
  } catch (error) {
    return { body: Buffer.concat(parts), chunks: parts.length, failure: String(error) };
  }
  return { body: Buffer.concat(parts), chunks: parts.length };
}

function begin(port: number, agent?: GatheringAgent): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    get({ port, host: '127.0.0.1', agent }, resolve).on('error', reject);
  });
}

const parts = fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 30 });

const cutsOf = fc.array(fc.nat(), { maxLength: 6 });

test('however a body is chunked and cut, it comes out, in one part for what had arrived at once', () => {
  const ends = ['0\r\n\r\n', '000\r\nTrailer: x\r\nOther: y\r\n\r\n', '0;last\r\n\r\nwhat comes behind'];
  fc.assert(
    fc.property(parts, fc.constantFrom(...ends), cutsOf, (written, end, cuts) => {
      const got = read(chunked(written, end).subarray(head.length), cuts);
      expect(got.body).toEqual(Buffer.concat(written));
      expect(got.parts).toBeLessThanOrEqual(cuts.length + 1);
      expect([got.hasEnded, got.hasFailed]).toEqual([true, false]);
    }),
    { numRuns: 300 },
  );
});

test('a body that is cut off has no end, and all of it that was there comes out', () => {
  fc.assert(
    fc.property(parts, fc.nat(), cutsOf, (written, at, cuts) => {
      const whole = chunked(written).subarray(head.length);
      const got = read(whole.subarray(0, at % whole.length), cuts);
      expect([got.hasEnded, got.hasFailed]).toEqual([false, false]);
      expect(Buffer.concat(written).subarray(0, got.body.length)).toEqual(got.body);
    }),
  );
});

test('what is not chunked as HTTP asks for is refused, behind what was sound', () => {
  const ends = [
    'x\r\n',
    '\r\n',
    '5\rhello\r\n',
    '3\r\nabcd\r\n',
    '3\r\nabc\rx',
    '1234567890abc\r\n',
    '5x\r\n',
    ';\r\n',
  ];
  fc.assert(
    fc.property(parts, fc.constantFrom(...ends), cutsOf, (written, end, cuts) => {
      const got = read(chunked(written, end).subarray(head.length), cuts);
      const sound = /^3/.test(end) ? [Buffer.from('abc')] : [];
      expect(got.body).toEqual(Buffer.concat([...written, ...sound]));
      expect([got.hasEnded, got.hasFailed]).toEqual([false, true]);
    }),
  );
  expect(read(Buffer.from(`5;${'x'.repeat(2 * 1024 * 1024)}`), []).hasFailed).toBe(true);
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...'02a;\r\nx'), { maxLength: 40 }), cutsOf, (garbage, cuts) => {
      const bytes = Buffer.from(garbage.join(''));
      const { parts: _, ...whole } = read(bytes, []);
      expect(read(bytes, cuts)).toMatchObject(whole);
    }),
  );
});

test('through a connection: the same body and the same end as with connections of Node, whole, cut off or broken', async () => {
  const lines = Array.from({ length: 2_000 }, (_, n) => Buffer.from(`line ${n} ${'ä'.repeat(n % 90)}\n`));
  const whole = chunked(lines);
  const agent = new GatheringAgent();
  const answers = {
    whole,
    'cut off in the head': whole.subarray(0, 40),
    'cut off in a chunk': whole.subarray(0, whole.length - 40),
    'cut off before its end': whole.subarray(0, whole.length - 5),
    'cut off within its end': whole.subarray(0, whole.length - 1),
    'cut off behind the head': whole.subarray(0, head.length),
    'data longer than its chunk': chunked(lines.slice(0, 3), '3\r\nabcd\r\n0\r\n\r\n'),
    'no size': chunked(lines.slice(0, 3), 'zz\r\n'),
    'no chunks': Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello'),
    'no length': Buffer.from('HTTP/1.0 200 OK\r\n\r\nuntil the end'),
    refused: Buffer.from('HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}'),
    'refused in chunks': Buffer.from(whole.toString('latin1').replace('200 OK', '409 Conflict'), 'latin1'),
    'a head too long': Buffer.from(`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(100_000)}`),
  };
  for (const [name, bytes] of Object.entries(answers)) {
    const { server, port } = await serving(bytes);
    const [gathered, usual] = [await ask(port, agent), await ask(port)];
    server.close();
    expect([name, gathered.failure === undefined]).toEqual([name, usual.failure === undefined]);
    // Node may drop what is sound when what is not came with it.
    if (usual.failure === undefined || name.startsWith('cut off')) {
      expect([name, gathered.body]).toEqual([name, usual.body]);
    }
    if (name === 'whole') expect(gathered.chunks).toBeLessThan(lines.length / 10);
  }
});

test('a reader that does not read holds the sender back; and one that goes away ends the connection', async () => {
  const held = Promise.withResolvers<ServerResponse>();
  const server = createServer((_request, response) => held.resolve(response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const answer = begin(port, new GatheringAgent());
  const response = await held.promise;
  let closed = false;
  response.on('close', () => {
    closed = true;
  });
  response.write('first\n');
  const parts = partsOf(await answer)[Symbol.asyncIterator]();
  const first = await parts.next();
  expect(String(first.value)).toBe('first\n');
  const chunk = Buffer.alloc(64 * 1024, 'x');
  let written = 0;
  while (written < 64 * 1024 * 1024 && response.writableLength < 1024 * 1024) {
    response.write(chunk);
    written += chunk.length;
    await turn();
  }
  expect(written).toBeLessThan(32 * 1024 * 1024);
  // Its memory is the reader's as long as no other part is asked for.
  expect(String(first.value)).toBe('first\n');
  let got = 0;
  while (got < written) got += ((await parts.next()).value as Buffer).length;
  expect(got).toBe(written);
  await parts.return?.();
  await until(() => closed);
  server.close();
});

test('who aborts ends the connection, and the waiting reader', async () => {
  const held = Promise.withResolvers<ServerResponse>();
  const server = createServer((_request, response) => held.resolve(response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const controller = new AbortController();
  const { signal } = controller;
  const answer = new Promise<IncomingMessage>((resolve) => {
    get({ port, host: '127.0.0.1', agent: new GatheringAgent(), signal }, resolve).on(
      'error',
      () => undefined,
    );
  });
  const response = await held.promise;
  const closed = new Promise((resolve) => response.on('close', resolve));
  response.write('first\n');
  const message = await answer;
  const released = new Promise((resolve) => message.once('close', resolve));
  const parts = partsOf(message)[Symbol.asyncIterator]();
  await parts.next();
  const waiting = expect(parts.next()).rejects.toThrow();
  controller.abort();
  await Promise.all([waiting, closed, released]);
  server.close();
});
