import { once } from 'node:events';
import { get as httpGet, type IncomingMessage } from 'node:http';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import type { Histogram, StoredLine } from '@millrace/wire';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { until } from '../../../../../tests/support/wait.ts';
import { EmbeddedEngine } from '../../../src/store/embedded-engine.ts';
import { adminToken, startTestCloud, type TestCloud } from '../../support/cloud.ts';

let cloud: TestCloud;
let key: string;
const message = 'said "hi", twice\nand then\r\nleft';

beforeAll(async () => {
  cloud = await startTestCloud();
  key = await cloud.register('one');
  await post([
    { message, timestamp: 1_696_195_200_000, serviceName: 'web', containerId: 'c1', appId: 7 },
    { message: '=HYPERLINK("http://x")', timestamp: 1_696_195_201_000, serviceName: '@evil', isStdErr: true },
    { message: '-1 degrees', timestamp: 1_696_195_202_000, fields: { a: '=1' } },
    { message: 'clear \u001b[2J screen \u202e', timestamp: 1_696_195_203_000, isSystem: true },
  ]);
});
afterAll(() => cloud[Symbol.asyncDispose]());

async function post(lines: object[], uuid = 'one'): Promise<void> {
  const response = await fetch(`${cloud.url}/device/v2/${uuid}/log-stream`, {
    method: 'POST',
    headers: { authorization: `Bearer ${uuid === 'one' ? key : await cloud.register(uuid)}` },
    body: lines.map((line) => `${JSON.stringify(line)}\n`).join(''),
  });
  expect(response.status).toBe(201);
}

/** The answer as it comes over the wire: fetch would decompress it. */
async function raw(
  query: string,
  headers: Record<string, string> = {},
): Promise<{ response: IncomingMessage; body: Buffer }> {
  const response = await open(query, headers);
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { response, body: Buffer.concat(chunks) };
}
async function open(query: string, headers: Record<string, string> = {}): Promise<IncomingMessage> {
  const request = httpGet(`${cloud.url}/api/v1/export?${query}`, {
    agent: false,
    headers: { authorization: `Bearer ${adminToken}`, ...headers },
  });
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return response;
}

describe('formats', () => {
  test('NDJSON: the lines as a search shows them, oldest first', async () => {
    const { response, body } = await raw('device=one');
    expect(response.headers).toMatchObject({
      'content-type': 'application/x-ndjson',
      'content-disposition': expect.stringMatching(
        /^attachment; filename="millrace-\d{4}-\d\d-\d\dT\d{6}Z\.ndjson"$/,
      ),
      'millrace-lines': '4',
      'cache-control': 'no-store',
    });
    const lines = String(body)
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as StoredLine);
    expect(lines).toEqual(await cloud.search('device=one&order=asc'));
    const newest = await raw('device=one&order=desc&query=service:web+OR+degrees');
    expect(
      String(newest.body)
        .trimEnd()
        .split('\n')
        .map((line) => (JSON.parse(line) as StoredLine).message),
    ).toEqual(['-1 degrees', message]);
  });

  test('CSV: quoted by RFC 4180, and nothing that a spreadsheet would run', async () => {
    const { response, body } = await raw('device=one&format=csv');
    expect(response.headers['content-type']).toBe('text/csv; charset=utf-8; header=present');
    const rows = parseCsv(String(body));
    expect(rows[0]).toEqual(
      'time,device,service,level,stream,message,fields,app,container,source,id,received'.split(','),
    );
    expect(rows[1]?.slice(0, 10)).toEqual([
      '2023-10-01T21:20:00.000Z',
      'one',
      'web',
      'info',
      'stdout',
      message,
      '',
      '7',
      'c1',
      'container:web',
    ]);
    expect(rows.map((row) => row[5]).slice(2, 4)).toEqual([`'=HYPERLINK("http://x")`, "'-1 degrees"]);
    expect(rows[2]?.slice(2, 5)).toEqual(["'@evil", 'error', 'stderr']);
    expect(rows[3]?.[6]).toBe('{"a":"=1"}');
    expect(rows).toHaveLength(5);
    expect(rows.every((row) => row.length === 12)).toBe(true);
    const kept = parseCsv(String((await raw('device=one&format=csv&formulas=keep')).body));
    expect(kept.map((row) => row[5]).slice(1)).toEqual([
      message,
      '=HYPERLINK("http://x")',
      '-1 degrees',
      'clear \u001b[2J screen \u202e',
    ]);
  });

  test('text: one line each, that a terminal can show', async () => {
    const { body } = await raw('device=one&format=text');
    expect(String(body).split('\n')).toEqual([
      '2023-10-01T21:20:00.000Z one web info  said "hi", twice\\nand then\\r\\nleft',
      '2023-10-01T21:20:01.000Z one @evil error =HYPERLINK("http://x")',
      '2023-10-01T21:20:02.000Z one unknown info  -1 degrees',
      '2023-10-01T21:20:03.000Z one system info  clear \\u001b[2J screen \\u202e',
      '',
    ]);
  });

  test.each([
    ['gzip', 'gzip, deflate, br', gunzipSync],
    ['zstd', 'gzip, zstd', zstdDecompressSync],
    ['gzip', 'zstd;q=0, gzip;q=0.5', gunzipSync],
  ])('in %s for %s', async (encoding, accepted, decompress) => {
    const { response, body } = await raw('device=one', { 'accept-encoding': accepted });
    expect(response.headers).toMatchObject({ 'content-encoding': encoding, vary: 'accept-encoding' });
    expect(String(decompress(body))).toBe(String((await raw('device=one')).body));
  });

  test.each(['format=xml', 'formulas=run', 'order=up', 'limit=5', 'query=a:>b'])(
    '%s is refused',
    async (query) => {
      const response = await cloud.get(`/api/v1/export?${query}`);
      expect(response.status).toBe(400);
      expect(response.headers.get('content-type')).toBe('application/problem+json');
    },
  );
});

describe('many lines', () => {
  const count = 45_000;
  const padding = 'x'.repeat(300);
  beforeAll(async () => {
    await post(
      Array.from({ length: count }, (_, i) => ({
        message: `line ${i} ${padding}`,
        timestamp: 1_700_000_000_000 + i,
      })),
      'many',
    );
  });

  test('are as many as a histogram counts, while others arrive', async () => {
    const stop = new AbortController();
    const arriving = (async () => {
      for (let i = 0; !stop.signal.aborted; i++) {
        const timestamp = 1_700_000_000_000 + ((i * 7919) % count);
        await post(
          Array.from({ length: 50 }, () => ({ message: 'arrived meanwhile', timestamp })),
          'many',
        );
      }
    })();
    try {
      const before = (await (
        await cloud.get('/api/v1/logs/histogram?device=many&query=line')
      ).json()) as Histogram;
      const { response, body } = await raw('device=many&query=line', { 'accept-encoding': 'zstd' });
      const messages = zstdDecompressSync(body)
        .toString()
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line).message);
      expect([before.count, Number(response.headers['millrace-lines']), messages.length]).toEqual([
        count,
        count,
        count,
      ]);
      expect(messages.every((text, i) => text === `line ${i} ${padding}`)).toBe(true);
      const whole = await raw('device=many');
      expect(String(whole.body).trimEnd().split('\n')).toHaveLength(
        Number(whole.response.headers['millrace-lines']),
      );
    } finally {
      stop.abort();
      await arriving;
    }
  });

  test('are read no faster than they are taken', async () => {
    const reads = readsOf();
    const response = await open('device=many&query=line');
    response.pause();
    await until(() => reads.count >= 1, { what: 'the export to begin' });
    const settled = await reads.settled();
    // A page is more than the buffers of two sockets hold; there are three.
    expect(settled).toBeLessThan(3);
    let bytes = 0;
    for await (const chunk of response) bytes += (chunk as Buffer).length;
    expect(bytes).toBeGreaterThan(count * 300);
    expect(reads.count).toBeGreaterThan(settled);
    reads.restore();
  });

  test('of which some cannot be read end in a cut connection, not in half a file', async () => {
    const reads = readsOf({ failAt: 2 });
    try {
      for (const encoding of ['identity', 'gzip']) {
        const response = await open('device=many&query=line', { 'accept-encoding': encoding });
        expect(response.statusCode).toBe(200);
        await expect(
          (async () => {
            for await (const _ of response);
          })(),
        ).rejects.toMatchObject({ code: 'ECONNRESET' });
        reads.count = 0;
      }
      expect(cloud.logged.some((text) => text.includes('an export failed'))).toBe(true);
    } finally {
      reads.restore();
    }
    // One that goes away itself is no failure, and its place is free again.
    for (let i = 0; i < 10; i++) (await open('device=many')).destroy();
    await until(async () => (await cloud.get('/api/v1/export?device=one')).status === 200, { what: 'room' });
  });

  test('are exported for eight at a time, a ninth is told to wait', async () => {
    const open8 = await Promise.all(Array.from({ length: 8 }, () => open('device=many')));
    for (const response of open8) response.pause();
    const refused = await cloud.get('/api/v1/export');
    expect(refused.status).toBe(503);
    expect(await refused.json()).toMatchObject({ code: 'OVERLOADED', detail: '8 exports are running' });
    for (const response of open8) response.destroy();
    await until(async () => (await cloud.get('/api/v1/export?device=one')).status === 200, { what: 'room' });
  });
});

/** Watches the statements that read pages, and makes one fail. */
function readsOf({ failAt = Number.POSITIVE_INFINITY } = {}) {
  const { query } = EmbeddedEngine.prototype;
  const reads = {
    count: 0,
    /** The count once it no longer grows for a while. */
    async settled(): Promise<number> {
      let seen = -1;
      let since = Date.now();
      await until(() => {
        if (reads.count !== seen) {
          seen = reads.count;
          since = Date.now();
        }
        return Date.now() - since > 1000;
      });
      return seen;
    },
    restore: () => {
      EmbeddedEngine.prototype.query = query;
    },
  };
  EmbeddedEngine.prototype.query = async function <T>(
    this: EmbeddedEngine,
    ...[sql, ...rest]: Parameters<EmbeddedEngine['query']>
  ): Promise<T[]> {
    if (sql.includes('ORDER BY ts') && ++reads.count === failAt) throw new Error('the disk is gone');
    return query.call(this, sql, ...rest) as Promise<T[]>;
  };
  return reads;
}

/** A reader of RFC 4180 that is not ours to be lenient with. */
function parseCsv(text: string): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  const cell = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n|$)/y;
  while (cell.lastIndex < text.length) {
    const match = cell.exec(text);
    if (!match) throw new Error('not a CSV');
    row.push(match[1]?.replaceAll('""', '"') ?? match[2] ?? '');
    if (match[3] !== ',') {
      rows.push(row);
      row = [];
    }
  }
  return rows;
}
