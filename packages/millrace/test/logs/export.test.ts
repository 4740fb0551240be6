import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PassThrough, Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { type ExportOptions, exportLogs } from '../../src/logs/export.ts';

const options: ExportOptions = { format: 'ndjson', order: 'asc', formulas: 'escape' };

/** Runs the command against a server of a few lines, as the cloud's own tests meet the real one. */
async function run(
  answer: RequestListener,
  {
    asked = {},
    terminal = false,
    words = [],
    stdout = collecting(),
    signal = new AbortController().signal,
  }: {
    asked?: Partial<ExportOptions>;
    terminal?: boolean;
    words?: string[];
    stdout?: Writable & { text: () => string };
    signal?: AbortSignal;
  } = {},
) {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const stderr = Object.assign(new PassThrough(), { isTTY: terminal });
  const env = { MILLRACE_URL: `http://127.0.0.1:${port}`, MILLRACE_TOKEN: 'secret', NO_COLOR: '1' };
  let error: unknown;
  try {
    await exportLogs(words, { ...options, ...asked }, { env, stdout, stderr, signal });
  } catch (thrown) {
    error = thrown;
  } finally {
    server.closeAllConnections();
    server.close();
  }
  return { stdout: stdout.text(), stderr: String(stderr.read() ?? ''), error };
}

function collecting(highWaterMark = 1024 * 1024): Writable & { text: () => string } {
  const chunks: Buffer[] = [];
  const writable = new Writable({
    highWaterMark,
    write(chunk: Buffer, _encoding, done) {
      chunks.push(chunk);
      setImmediate(done);
    },
  });
  return Object.assign(writable, { text: () => Buffer.concat(chunks).toString() });
}

test('what was asked reaches the server, and what it gives reaches stdout as it is', async () => {
  const rows = Array.from({ length: 5000 }, (_, i) => `${i},"a\n""b"""\r\n`).join('');
  let url = '';
  const { stdout, stderr, error } = await run(
    (request, response) => {
      url = request.url ?? '';
      response.writeHead(200, { 'content-type': 'text/csv', 'millrace-lines': '5000' });
      response.end(`n,message\r\n${rows}`);
    },
    {
      asked: {
        format: 'csv',
        formulas: 'keep',
        order: 'desc',
        level: 'warn+',
        service: 'a&b',
        since: '1700000000000',
      },
      words: ['-x', 'timed out'],
      terminal: true,
      stdout: collecting(1000),
    },
  );
  expect(error).toBeUndefined();
  expect(stdout).toBe(`n,message\r\n${rows}`);
  const { pathname, searchParams } = new URL(url, 'http://x');
  expect([pathname, Object.fromEntries(searchParams)]).toEqual([
    '/api/v1/export',
    {
      format: 'csv',
      formulas: 'keep',
      order: 'desc',
      level: 'warn,error',
      service: 'a&b',
      since: '1700000000000',
      query: '-x timed out',
    },
  ]);
  // On a terminal it says how far it is, and lines within a cell are none.
  expect(stderr.split('\r').at(-1)).toBe(
    `\x1b[K5000 of 5000 lines (100 %), ${(stdout.length / 1e6).toFixed(1)} MB\n`,
  );
});

test('into a pipe it says nothing, and of no lines that there are none', async () => {
  const { stdout, stderr } = await run((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/x-ndjson', 'millrace-lines': '0' }).end();
  });
  expect([stdout, stderr]).toEqual(['', 'millrace: no line matches\n']);
});

test('what breaks off is an error, and what came is there', async () => {
  const { stdout, error } = await run((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/x-ndjson', 'millrace-lines': '2' });
    response.write('{"seq":1}\n', () => response.destroy());
  });
  expect(stdout).toBe('{"seq":1}\n');
  expect(error).toMatchObject({
    code: 'SERVER_UNREACHABLE',
    detail: expect.stringContaining('the export broke off and is not whole'),
  });
});

test('a refusal is the error that the server gave', async () => {
  const { error } = await run((_request, response) => {
    response.writeHead(503, { 'content-type': 'application/problem+json' });
    response.end(JSON.stringify({ code: 'OVERLOADED', detail: '8 exports are running' }));
  });
  expect(error).toMatchObject({ code: 'OVERLOADED', detail: '8 exports are running' });
});

test('Ctrl-C ends it at once, also while nobody takes what it gives', async () => {
  const stop = new AbortController();
  const stdout = Object.assign(
    new Writable({ highWaterMark: 1, write: () => setImmediate(() => stop.abort()) }),
    {
      text: () => '',
    },
  );
  const { error } = await run(
    (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      response.write('{"seq":1}\n');
    },
    { stdout, signal: stop.signal },
  );
  expect(stop.signal.aborted).toBe(true);
  expect(error).toMatchObject({ name: 'AbortError' });
});
