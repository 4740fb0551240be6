import { connect } from 'node:net';
import { constants, createZstdCompress, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { startTestCloud, type TestCloud } from '../support/cloud.ts';
import { batch, StreamClient, type StreamOptions } from '../support/stream-client.ts';

let cloud: TestCloud;
const keys = new Map<string, string>();

beforeAll(async () => {
  cloud = await startTestCloud({ tuning: { ackHeartbeatMs: 50 } });
});
afterAll(() => cloud[Symbol.asyncDispose]());

/** Opens a stream of a device, which registers first. */
async function open(uuid: string, more: Partial<StreamOptions> = {}): Promise<StreamClient> {
  let key = keys.get(uuid);
  if (!key) {
    key = await cloud.register(uuid);
    keys.set(uuid, key);
  }
  return new StreamClient({ url: cloud.url, uuid, key, ...more });
}

test('acknowledgements come while the request is open, and what they cover can be searched', async () => {
  using stream = await open('acks', { acks: true });
  expect(await stream.status()).toBe(200);
  expect(stream.response?.headers['content-type']).toBe('application/x-ndjson');
  stream.send(batch('journal01', 1, 3));
  await stream.acked(3);
  expect((await cloud.search('device=acks&order=asc')).map(({ message }) => message)).toEqual([
    'line 1',
    'line 2',
    'line 3',
  ]);
  stream.send(batch('journal01', 4, 500));
  await stream.acked(503);
  expect(stream.acks.every(({ journal }) => journal === 'journal01')).toBe(true);
  const { devices } = (await (await cloud.get('/api/v1/devices')).json()) as { devices: object[] };
  expect(devices).toContainEqual(
    expect.objectContaining({
      uuid: 'acks',
      online: true,
      registered: true,
      lines: 503,
      bytes: expect.any(Number),
    }),
  );
  stream.end();
  expect((await stream.answer()).status).toBe(200);
  const rows = await cloud.search('device=acks&order=asc&limit=1000');
  expect(rows.map(({ seq }) => seq)).toEqual(Array.from({ length: 503 }, (_, i) => i + 1));
});

test('a quiet stream with acks gets a heartbeat', async () => {
  using stream = await open('quiet', { acks: true });
  await until(() => stream.body.length >= 2, { what: 'two heartbeats' });
  expect(stream.body).toMatch(/^\n+$/);
  stream.end();
  await stream.answer();
});

test('a batch that is sent again is acknowledged and stored once', async () => {
  for (let i = 0; i < 2; i++) {
    using stream = await open('again', { acks: true });
    stream.send(batch('journal02', 1, 20));
    await stream.acked(20);
    stream.end();
    await stream.answer();
  }
  expect(await cloud.search('device=again&limit=100')).toHaveLength(20);
});

test('without acks nothing is answered before the body ends, then 201 when all is stored', async () => {
  using stream = await open('balena');
  stream.send('{"message":"one","timestamp":1700000000000}\n');
  await cloud.lines('balena', 1);
  expect(stream.response).toBeUndefined();
  stream.send('{"message":"two","timestamp":1700000000001,"isStdErr":true}\n{"message":"torn');
  stream.end();
  expect(await stream.answer()).toEqual({ status: 201, body: '' });
  expect(stream.response?.headers).not.toHaveProperty('retry-after');
  expect((await cloud.lines('balena', 2)).map(({ message, isStdErr }) => [message, isStdErr])).toEqual([
    ['one', false],
    ['two', true],
  ]);
});

test.each([true, false])('an empty stream gets 201 (gzip: %s)', async (gzip) => {
  using stream = await open('empty', { gzip });
  stream.end();
  expect((await stream.answer()).status).toBe(201);
});

test('lines may come uncompressed', async () => {
  using stream = await open('plain', { gzip: false, acks: true });
  stream.send(batch('journal03', 1, 2));
  await stream.acked(2);
  stream.end();
  expect((await stream.answer()).status).toBe(200);
});

test('one connection serves many streams', async () => {
  const key = await cloud.register('short');
  for (let i = 0; i < 3; i++) {
    const response = await fetch(`${cloud.url}/device/v2/short/log-stream`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-encoding': 'gzip', 'millrace-acks': 'stream' },
      body: gzipSync(batch('journal04', i * 10 + 1, 10)),
    });
    expect(response.headers.get('connection')).not.toBe('close');
    expect(await response.text()).toContain(`{"ack":{"journal":"journal04","through":${(i + 1) * 10}}}\n`);
  }
});

test('short acknowledgements name a journal once', async () => {
  using stream = await open('brief', { headers: { 'millrace-acks': 'Stream, short' } });
  for (const [journal, first] of [
    ['journal41', 1],
    ['journal41', 2],
    ['journal42', 1],
    ['journal42', 2],
  ] as const) {
    const before = stream.body.length;
    stream.send(batch(journal, first, 1));
    await until(() => stream.body.trimEnd().length > before, { what: `an ack of ${journal} ${first}` });
  }
  stream.end();
  expect((await stream.answer()).body.replace(/^\n/gm, '')).toBe(
    '{"ack":{"journal":"journal41","through":1}}\n2\n{"ack":{"journal":"journal42","through":1}}\n2\n',
  );
});

test('a client that vanishes leaves everything that was whole', async () => {
  const stream = await open('vanishes', { acks: true });
  stream.send(
    `${batch('journal05', 1, 10)}${batch('journal05', 11, 10)}{"batch":{"journal":"journal05","fir`,
  );
  await stream.acked(20);
  stream.send('\n{"timestamp":1,"message":"whole"}\n{"timestamp":1,"message":"to');
  await cloud.lines('vanishes', 21);
  stream.request.destroy();
  const gone = async () => {
    const { devices } = (await (await cloud.get('/api/v1/devices')).json()) as {
      devices: { uuid: string; online: boolean | null }[];
    };
    return devices.find(({ uuid }) => uuid === 'vanishes')?.online !== true;
  };
  await until(gone, { what: 'the device to be offline' });
  expect(await cloud.search('device=vanishes&text=to')).toEqual([]);
});

test('a truncated gzip body keeps what was whole, and is no error', async () => {
  const key = await cloud.register('truncated');
  const body = gzipSync(
    Array.from({ length: 2000 }, (_, i) => `{"message":"n${i} ${Math.random()}"}\n`).join(''),
  );
  const response = await fetch(`${cloud.url}/device/v2/truncated/log-stream`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-encoding': 'gzip' },
    body: body.subarray(0, Math.floor(body.length / 2)),
  });
  expect(response.status).toBe(201);
  const lines = await cloud.search('device=truncated&limit=10000');
  expect(lines.length).toBeGreaterThan(800);
  expect(lines.length).toBeLessThan(2000);
});

test.each([false, true])('damaged gzip keeps what came before it (acks: %s)', async (acks) => {
  const uuid = `damaged-${acks}`;
  const key = await cloud.register(uuid);
  const response = await fetch(`${cloud.url}/device/v2/${uuid}/log-stream`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${key}`,
      'content-encoding': 'gzip',
      ...(acks && { 'millrace-acks': 'stream' }),
    },
    body: Buffer.concat([gzipSync(batch('journal06', 1, 5)), Buffer.from('this is no gzip')]),
  });
  const text = await response.text();
  if (acks) {
    expect(response.status).toBe(200);
    expect(text).toContain('{"ack":{"journal":"journal06","through":5}}\n');
    expect(JSON.parse(text.trim().split('\n').at(-1) as string)).toMatchObject({
      error: { code: 'BODY_INVALID' },
    });
  } else {
    expect(response.status).toBe(400);
    expect(response.headers.get('content-type')).toBe('application/problem+json');
    expect(JSON.parse(text)).toMatchObject({ code: 'BODY_INVALID', status: 400 });
  }
  expect(await cloud.search(`device=${uuid}`)).toHaveLength(5);
});

test('zstd is acknowledged as it is flushed, while its frame is open', async () => {
  using stream = await open('zstd', { acks: true, gzip: false, headers: { 'content-encoding': 'zstd' } });
  const zlib = createZstdCompress();
  zlib.pipe(stream.request);
  for (const first of [1, 101]) {
    zlib.write(batch('journal08', first, 100));
    zlib.flush(constants.ZSTD_e_flush);
    await stream.acked(first + 99);
  }
  zlib.end();
  expect((await stream.answer()).status).toBe(200);
  expect(await cloud.search('device=zstd&limit=1000')).toHaveLength(200);
});

test.each([
  ['damaged zstd', Buffer.from('this is no zstd'), 400, 'BODY_INVALID'],
  ['a zstd bomb', zstdCompressSync(Buffer.alloc(300_000_000)), 413, 'BOMB_REFUSED'],
])('of %s what came before it is kept', async (name, bytes, status, code) => {
  const uuid = name.replaceAll(' ', '-');
  const response = await fetch(`${cloud.url}/device/v2/${uuid}/log-stream`, {
    method: 'POST',
    headers: { authorization: `Bearer ${await cloud.register(uuid)}`, 'content-encoding': 'zstd' },
    body: Buffer.concat([zstdCompressSync(batch('journal09', 1, 5)), bytes]),
  });
  expect(response.status).toBe(status);
  expect(await response.json()).toMatchObject({ code });
  expect(await cloud.search(`device=${uuid}&text=line`)).toHaveLength(5);
});

test('a gzip bomb is refused, with what came before it kept', async () => {
  const key = await cloud.register('bomb');
  const response = await fetch(`${cloud.url}/device/v2/bomb/log-stream`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-encoding': 'gzip' },
    body: Buffer.concat([gzipSync(batch('journal07', 1, 5)), gzipSync(Buffer.alloc(300_000_000))]),
  });
  expect(response.status).toBe(413);
  expect(await response.json()).toMatchObject({ code: 'BOMB_REFUSED' });
  expect((await cloud.search('device=bomb&text=line')).length).toBe(5);
});

test('hostile lines are kept as text, and the lines beside them as they are', async () => {
  using stream = await open('hostile', { acks: true });
  const long = 'x'.repeat(5_000_000);
  stream.send(
    [
      '{"message":"before"}',
      'not json at all',
      '{"message":"dup","device":"other","message":"twice"}',
      '{"message":"a"},{"device":"other","message":"b"}',
      '{"message":42,"level":[],"timestamp":"soon","isStdErr":"yes","fields":7}',
      '{"message":"lone \\ud800 surrogate"}',
      '{"message":"nul \\u0000 and \\u001b[31mred"}',
      '[1,2]',
      'null',
      `{"message":"${long}"}`,
      '{"message":"after"}',
      '',
    ].join('\n'),
  );
  const lines = await cloud.lines('hostile', 11);
  expect(lines).toHaveLength(11);
  const messages = lines.map(({ message }) => message);
  for (const text of ['before', 'after', 'not json at all']) expect(messages).toContain(text);
  expect(Math.max(...messages.map((message) => message.length))).toBeLessThan(1_100_000);
  expect(await cloud.search('device=other')).toEqual([]);
  stream.end();
  await stream.answer();
});

test('wrong credentials are answered at once, before the body is read', async () => {
  const key = await cloud.register('mine');
  await cloud.register('theirs');
  const tries: [string, string | undefined][] = [
    ['mine', undefined],
    ['mine', 'wrong-key-wrong-key'],
    ['theirs', key],
    ['unknown', key],
    ['mine', cloud.cloud.joinKey],
  ];
  for (const [uuid, wrong] of tries) {
    using stream = new StreamClient({ url: cloud.url, uuid, key: wrong, acks: true });
    const { status, body } = await stream.answer();
    expect(status).toBe(401);
    expect(stream.response?.headers['www-authenticate']).toBe('Bearer');
    expect(JSON.parse(body)).toMatchObject({ code: 'UNAUTHORIZED', type: 'urn:millrace:error:UNAUTHORIZED' });
  }
  // Not even in the URL, which would end up in logs.
  const byUrl = await fetch(`${cloud.url}/device/v2/mine/log-stream?apikey=${key}`, {
    method: 'POST',
    body: 'x',
  });
  expect(byUrl.status).toBe(401);
  expect(await cloud.search('device=theirs')).toEqual([]);
});

test('a refused connection is left open for a moment, since what is unread would reset it and take the answer along', async () => {
  const { hostname, port } = new URL(cloud.url);
  let answeredAt = 0;
  let closedAt = 0;
  const socket = connect(Number(port), hostname);
  socket.on('data', () => {
    answeredAt ||= performance.now();
  });
  socket.on('close', () => {
    closedAt = performance.now();
  });
  socket.write('POST /device/v2/x/log-stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
  await until(() => closedAt > 0, { what: 'the connection to be closed', timeoutMs: 10_000 });
  expect(closedAt - answeredAt).toBeGreaterThan(1000);
});

test('a client that is refused while it sends can still read why', async () => {
  const { hostname, port } = new URL(cloud.url);
  let answer = '';
  let closed = false;
  const socket = connect(Number(port), hostname);
  socket.on('error', () => undefined);
  socket.on('close', () => {
    closed = true;
  });
  socket.setEncoding('utf8').on('data', (text: string) => {
    answer += text;
  });
  socket.write('POST /device/v2/x/log-stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
  // A device that does not look at answers while it sends, and sends without end.
  const chunk = `${(60_000).toString(16)}\r\n${'y'.repeat(60_000)}\r\n`;
  const sendOn = () => {
    while (!closed && socket.write(chunk));
  };
  socket.on('drain', sendOn);
  sendOn();
  await until(() => closed, { what: 'the connection to be cut', timeoutMs: 10_000 });
  expect(answer).toMatch(/^HTTP\/1\.1 401 /);
  expect(answer).toContain('UNAUTHORIZED');
});

test.each([['an unknown encoding', { 'content-encoding': 'br' }, 400, 'BODY_INVALID']])(
  '%s is refused',
  async (_name, headers, status, code) => {
    using stream = await open('wrong', { gzip: false, headers });
    const { status: answered, body } = await stream.answer();
    expect(answered).toBe(status);
    expect(JSON.parse(body).code).toBe(code);
  },
);

test('a uuid that cannot be one is not found', async () => {
  const response = await fetch(`${cloud.url}/device/v2/a%2Fb/log-stream`, { method: 'POST', body: 'x' });
  expect(response.status).toBe(404);
  expect(response.headers.get('content-type')).toBe('application/problem+json');
});

test('the ninth stream of a device ends its first, behind what that had sent', async () => {
  using first = await open('many', { acks: true });
  first.send(batch('journal08', 1, 3));
  await first.acked(3);
  const others = await Promise.all(Array.from({ length: 8 }, () => open('many', { acks: true })));
  await Promise.all(others.map((stream) => stream.status()));
  expect((await first.answer()).status).toBe(200);
  for (const stream of others) stream[Symbol.dispose]();
});

test('a client that never reads its acks holds up nothing', async () => {
  using stream = await open('deaf', { acks: true });
  await stream.status();
  stream.response?.pause();
  for (let i = 0; i < 2000; i++) stream.send(batch('journal09', i * 5 + 1, 5));
  // Counted, not read: ten thousand lines each time would be most of the work.
  const stored = async () =>
    ((await (await cloud.get('/api/v1/devices/deaf')).json()) as { lines: number }).lines;
  await until(async () => (await stored()) === 10_000, { timeoutMs: 50_000 });
  stream.response?.resume();
  await stream.acked(10_000);
});

test('no secret is logged', () => {
  const all = cloud.logged.join('');
  for (const secret of [...keys.values(), cloud.cloud.joinKey, 'wrong-key-wrong-key', 'Bearer ']) {
    expect(all).not.toContain(secret);
  }
});
