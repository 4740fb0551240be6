import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createServer as createTcpServer, type Server } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { ChunkGatherer } from '../../src/docker/chunks.ts';
import { GatheringAgent } from '../../src/docker/gathering-agent.ts';

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

/** What comes out when the bytes arrive cut at these places. */
function gather(bytes: Buffer, cuts: readonly number[]): { all: Buffer; emitted: number } {
  const out: Buffer[] = [];
  const gatherer = new ChunkGatherer((part) => out.push(part));
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  let from = 0;
  for (const to of [...places, bytes.length]) {
    // As a connection does it: always in the same memory.
    const read = Buffer.from(bytes.subarray(from, to));
    gatherer.push(read);
    read.fill(0x58);
    from = to;
  }
  return { all: Buffer.concat(out), emitted: out.length };
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

/** What Node's client makes of it, with our connections or its own. */
function ask(port: number, agent?: GatheringAgent): Promise<Answer> {
  return new Promise((resolve) => {
    const parts: Buffer[] = [];
    const done = (failure?: string) =>
      resolve({ body: Buffer.concat(parts), chunks: parts.length, ...(failure && { failure }) });
    get({ port, host: '127.0.0.1', agent }, (response) => {
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('end', () => done());
      response.on('error', (error: Error & { code?: string }) => done(error.code));
    }).on('error', (error: Error & { code?: string }) => done(error.code));
  });
}

const parts = fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 30 });

test('however an answer is chunked and cut, its body comes out, in one chunk for what had arrived at once', () => {
  fc.assert(
    fc.property(parts, fc.array(fc.nat(), { maxLength: 6 }), (written, cuts) => {
      const { all } = gather(chunked(written), cuts);
      expect(all.subarray(0, head.length).toString()).toBe(head);
      let at = head.length;
      let chunks = 0;
      const body: Buffer[] = [];
      for (;;) {
        const sizeEnd = all.indexOf('\r\n', at);
        const size = Number.parseInt(all.toString('latin1', at, sizeEnd), 16);
        if (size === 0) break;
        body.push(all.subarray(sizeEnd + 2, sizeEnd + 2 + size));
        at = sizeEnd + 2 + size;
        expect(all.toString('latin1', at, at + 2)).toBe('\r\n');
        at += 2;
        chunks++;
      }
      expect(all.toString('latin1', at)).toBe('0\r\n\r\n');
      expect(Buffer.concat(body)).toEqual(Buffer.concat(written));
      expect(chunks).toBeLessThanOrEqual(cuts.length + 1);
    }),
    { numRuns: 300 },
  );
});

test('what is not as the engine sends it goes to the client as it came', () => {
  const answers = [
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello',
    'HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n',
    'HTTP/1.0 200 OK\r\n\r\nuntil the end',
    `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(100_000)}`,
    `${head}0\r\nTrailer: x\r\n\r\n`,
    `${head}5;name=value\r\nhello\r\n0\r\n\r\n`,
    `${head}000000005\r\nhello\r\n0\r\n\r\n`,
    `${head}x\r\n`,
    `${head}\r\n`,
    `${head}5\rhello\r\n`,
  ];
  fc.assert(
    fc.property(fc.constantFrom(...answers), fc.array(fc.nat(), { maxLength: 6 }), (answer, cuts) => {
      expect(gather(Buffer.from(answer), cuts).all.toString()).toBe(answer);
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
    'data longer than its chunk': chunked(lines.slice(0, 3), '3\r\nabcd\r\n0\r\n\r\n'),
    'no size': chunked(lines.slice(0, 3), 'zz\r\n'),
    refused: Buffer.from('HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}'),
  };
  for (const [name, bytes] of Object.entries(answers)) {
    const { server, port } = await serving(bytes);
    const [gathered, usual] = [await ask(port, agent), await ask(port)];
    server.close();
    const { failure, body } = usual;
    // What is no HTTP is refused; by which of its words is the client's.
    const kind = (code: string | undefined) => code?.replace(/^HPE_.*/, 'HPE');
    expect([name, kind(gathered.failure)]).toEqual([name, kind(failure)]);
    if (kind(failure) !== 'HPE') expect([name, gathered.body]).toEqual([name, body]);
    if (name === 'whole') expect(gathered.chunks).toBeLessThan(usual.chunks / 10);
  }
});

test('a reader that does not read holds the sender back; and one that goes away ends the connection', async () => {
  const held = Promise.withResolvers<ServerResponse>();
  const server = createServer((_request, response) => held.resolve(response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const answer = Promise.withResolvers<IncomingMessage>();
  get({ port, host: '127.0.0.1', agent: new GatheringAgent() }, answer.resolve);
  const response = await held.promise;
  let closed = false;
  response.on('close', () => {
    closed = true;
  });
  response.write('first\n');
  const incoming = await answer.promise;
  const chunk = Buffer.alloc(64 * 1024, 'x');
  let written = 0;
  while (written < 64 * 1024 * 1024 && response.writableLength < 1024 * 1024) {
    response.write(chunk);
    written += chunk.length;
    await turn();
  }
  expect(written).toBeLessThan(32 * 1024 * 1024);
  expect(incoming.readableLength).toBeLessThan(512 * 1024);
  let read = 0;
  incoming.on('data', (part: Buffer) => {
    read += part.length;
  });
  await until(() => read === written + 'first\n'.length);
  incoming.destroy();
  await until(() => closed);
  server.close();
});
