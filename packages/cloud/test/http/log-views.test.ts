import type { Context, Facets, Histogram, Patterns } from '@millrace/wire';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestCloud, type TestCloud } from '../support/cloud.ts';

/** Reading with a query, and what is made of lines beside pages: counts by time and by value, and surroundings. */

let cloud: TestCloud;

/** Two devices. The first has two containers whose lines alternate, a second apart, and one of no container. */
const minute = 60_000;
const lines = Array.from({ length: 12 }, (_, i) => ({
  message: `request ${i + 1} ${i % 4 === 3 ? 'timed out' : 'ok'}`,
  timestamp: minute + i * 1000,
  serviceName: i % 2 ? 'db' : 'web',
  containerId: i % 2 ? 'container-db' : 'container-web',
  ...(i % 4 === 3 && { level: 'error' }),
  fields: { status: i % 4 === 3 ? 504 : 200, latency: i * 100, http: { path: `/p${i % 3}` } },
}));

beforeAll(async () => {
  cloud = await startTestCloud();
  await post('one', 'journal0one', [
    ...lines,
    { message: 'agent started', timestamp: minute + 4500, isSystem: true },
  ]);
  await post('two', 'journal0two', [
    { message: 'request of two', timestamp: minute + 2500, serviceName: 'web' },
  ]);
});
afterAll(() => cloud[Symbol.asyncDispose]());

async function post(uuid: string, journal: string, of: object[]): Promise<void> {
  const header = { batch: { journal, first: 1, count: of.length, levels: [0, of.length, 0, 0], sealed: 0 } };
  const response = await fetch(`${cloud.url}/device/v2/${uuid}/log-stream`, {
    method: 'POST',
    headers: { authorization: `Bearer ${await cloud.register(uuid)}` },
    body: `${[header, ...of].map((line) => JSON.stringify(line)).join('\n')}\n`,
  });
  expect(response.status).toBe(201);
}

const ask = async <T>(
  path: string,
  parameters: Record<string, string> = {},
  of = '/api/v1/logs',
): Promise<T> => {
  const response = await cloud.get(`${of}${path}?${new URLSearchParams(parameters)}`);
  expect(response.status, await response.clone().text()).toBe(200);
  return (await response.json()) as T;
};
const refused = async (
  path: string,
  parameters: Record<string, string>,
  of = '/api/v1/logs',
): Promise<Record<string, unknown>> => {
  const response = await cloud.get(`${of}${path}?${new URLSearchParams(parameters)}`);
  expect(response.headers.get('content-type')).toBe('application/problem+json');
  const problem = (await response.json()) as Record<string, unknown>;
  expect(problem.status).toBe(response.status);
  return problem;
};
const seqs = async (parameters: Record<string, string>) =>
  (await ask<{ logs: { seq: number; device: string }[] }>('', { order: 'asc', ...parameters })).logs.map(
    ({ device, seq }) => (device === 'one' ? seq : device),
  );

describe('a query', () => {
  test.each<[string, (number | string)[]]>([
    ['"timed out"', [4, 8, 12]],
    ['request -ok', ['two', 4, 8, 12]],
    ['status:504', [4, 8, 12]],
    ['latency:>=1000', [11, 12]],
    ['latency:[100 TO 300}', [2, 3]],
    ['http.path:/p2 service:web', [3, 9]],
    ['device:two OR level>=error', ['two', 4, 8, 12]],
    ['NOT status:*', ['two', 13]],
    ['/out$/ latency:<500', [4]],
    ['container:*-db -error:x level:info', [2, 6, 10]],
  ])('%s', async (query, expected) => {
    expect(await seqs({ query })).toEqual(expected);
  });

  test('goes with the other parameters, and from page to page', async () => {
    expect(
      await seqs({ query: 'request', text: 'timed OUT', device: 'one', since: String(minute + 5000) }),
    ).toEqual([8, 12]);
    const paged: number[] = [];
    let cursor: string | undefined;
    do {
      const page = await ask<{ logs: { seq: number }[]; cursor?: string }>('', {
        query: 'status:200',
        limit: '4',
        ...(cursor && { cursor }),
      });
      paged.push(...page.logs.map(({ seq }) => seq));
      cursor = page.cursor;
    } while (cursor);
    expect(paged).toEqual([11, 10, 9, 7, 6, 5, 3, 2, 1]);
  });

  test.each(['', '/tail', '/histogram', '/facets'])(
    'that cannot be read is refused with its place, at %s',
    async (path) => {
      expect(await refused(path, { query: 'request latency:>fast' })).toMatchObject({
        type: 'urn:millrace:error:QUERY_INVALID',
        code: 'QUERY_INVALID',
        status: 400,
        detail: 'query: expected a number at character 18',
        offset: 17,
        length: 4,
        expected: 'a number',
      });
    },
  );
});

describe('histogram', () => {
  test('by level, in round steps over the lines that there are', async () => {
    const histogram = await ask<Histogram>('/histogram', { device: 'one', buckets: '5' });
    expect(histogram).toEqual({
      since: minute,
      until: minute + 15_000,
      stepMs: 5000,
      count: 13,
      counts: [6, 5, 2],
      series: [
        { value: 'info', count: 10, counts: [5, 4, 1] },
        { value: 'error', count: 3, counts: [1, 1, 1] },
      ],
    });
  });

  test('over a time that was given, empty buckets included', async () => {
    const histogram = await ask<Histogram>('/histogram', {
      query: 'status:504',
      since: '50000',
      until: '80000',
      step: '10s',
      by: 'none',
    });
    expect(histogram).toEqual({ since: 50_000, until: 80_000, stepMs: 10_000, count: 3, counts: [0, 2, 1] });
  });

  test('by any field, the most frequent values and the others together', async () => {
    const histogram = await ask<Histogram>('/histogram', { by: 'http.path', step: '1m', series: '2' });
    expect(histogram.series).toEqual([
      { value: '/p0', count: 4, counts: [4] },
      { value: '/p1', count: 4, counts: [4] },
    ]);
    expect(histogram.other).toEqual({ count: 6, counts: [6] });
    expect(histogram.count).toBe(14);
    const all = await ask<Histogram>('/histogram', { by: 'fields.status', step: '60000' });
    expect(all.series).toEqual([
      { value: '200', count: 9, counts: [9] },
      { value: '504', count: 3, counts: [3] },
      { value: null, count: 2, counts: [2] },
    ]);
    expect(all.other).toBeUndefined();
  });

  test('of nothing', async () => {
    expect(await ask<Histogram>('/histogram', { query: 'absent' })).toMatchObject({ count: 0, counts: [] });
    expect(
      await ask<Histogram>('/histogram', { query: 'absent', since: '0', until: '3000', step: '1s' }),
    ).toMatchObject({ count: 0, counts: [0, 0, 0] });
    expect(await ask<Histogram>('/histogram', { since: '5000', until: '1000' })).toMatchObject({
      count: 0,
      counts: [],
    });
  });

  test.each([
    [{ step: '1s', since: '0', until: '1000000000' }, /^step: .* 1000000 buckets, more than 60/],
    [{ step: '0' }, /^step: must be a length of time/],
    [{ step: '2026-01-01' }, /^step:/],
    [{ step: 'soon' }, /^step:/],
    [{ buckets: '1001' }, /^buckets: must be a number from 1 to 1000/],
    [{ series: '0' }, /^series:/],
    [{ by: '' }, /^by:/],
    [{ by: 'fields.' }, /is not the name of a field/],
    [{ limit: '5' }, /^"limit": no such parameter/],
  ])('%j is refused by name', async (parameters, detail) => {
    const problem = await refused('/histogram', parameters as unknown as Record<string, string>);
    expect(problem).toMatchObject({
      code: 'PARAMETER_INVALID',
      status: 400,
      detail: expect.stringMatching(detail),
    });
  });
});

describe('patterns', () => {
  test('cluster the lines of a query', async () => {
    const patterns = await ask<Patterns>(
      'patterns',
      { query: 'request', level: 'error', limit: '5' },
      '/api/v1/',
    );
    expect(patterns).toMatchObject({ total: 3, examined: 3, distinct: 1 });
    expect(patterns.patterns).toMatchObject([
      {
        pattern: 'request <*> timed out',
        count: 3,
        share: 1,
        levels: { debug: 0, info: 0, warn: 0, error: 3 },
        example: { id: 'journal0one-12', device: 'one', message: 'request 12 timed out' },
      },
    ]);
  });

  test.each(['limit=0', 'limit=1001', 'query=a:>b', 'order=asc'])('%s is refused', async (parameters) => {
    const asked = Object.fromEntries(new URLSearchParams(parameters));
    expect(await refused('patterns', asked, '/api/v1/')).toMatchObject({ status: 400 });
  });
});

describe('facets', () => {
  test('of the fields that every line has', async () => {
    const { facets } = await ask<Facets>('/facets');
    expect(facets.map(({ field }) => field)).toEqual(['level', 'stream', 'service', 'app', 'device']);
    expect(facets[0]).toEqual({
      field: 'level',
      values: [
        { value: 'info', count: 11 },
        { value: 'error', count: 3 },
      ],
      distinct: 2,
      otherLines: 0,
      withoutLines: 0,
    });
    expect(facets[2]).toMatchObject({
      values: [
        { value: 'web', count: 7 },
        { value: 'db', count: 6 },
      ],
      withoutLines: 1,
    });
    expect(facets[3]).toMatchObject({ values: [], distinct: 0, withoutLines: 14 });
  });

  test('of any field, cut at a limit', async () => {
    const { facets } = await ask<Facets>('/facets', {
      fields: 'latency,http.path',
      limit: '2',
      query: 'device:one',
    });
    expect(facets).toEqual([
      {
        field: 'latency',
        values: [
          { value: '0', count: 1 },
          { value: '100', count: 1 },
        ],
        distinct: 12,
        otherLines: 10,
        withoutLines: 1,
      },
      {
        field: 'http.path',
        values: [
          { value: '/p0', count: 4 },
          { value: '/p1', count: 4 },
        ],
        distinct: 3,
        otherLines: 4,
        withoutLines: 1,
      },
    ]);
  });

  test('of nothing', async () => {
    const { facets } = await ask<Facets>('/facets', { query: 'absent', fields: 'level' });
    expect(facets).toEqual([{ field: 'level', values: [], distinct: 0, otherLines: 0, withoutLines: 0 }]);
  });

  test.each([
    [{ fields: 'a,,b' }, /"" is not the name of a field/],
    [{ fields: Array(11).fill('a').join(',') }, /^fields: must be at most 10 names/],
    [{ limit: '1001' }, /^limit:/],
    [{ feilds: 'a' }, /^"feilds": no such parameter/],
  ])('%j is refused by name', async (parameters, detail) => {
    const problem = await refused('/facets', parameters as unknown as Record<string, string>);
    expect(problem).toMatchObject({
      code: 'PARAMETER_INVALID',
      status: 400,
      detail: expect.stringMatching(detail),
    });
  });
});

describe('context', () => {
  const around = async (parameters: Record<string, string>) => {
    const { before, line, after } = await ask<Context>('/context', parameters);
    return [before.map(({ seq }) => seq), line.seq, after.map(({ seq }) => seq)];
  };

  test('of the same container, and of the whole device', async () => {
    expect(await around({ id: 'journal0one-6', before: '2', after: '3' })).toEqual([[2, 4], 6, [8, 10, 12]]);
    expect(await around({ id: 'journal0one-6', before: '2', after: '3', within: 'device' })).toEqual([
      [5, 13],
      6,
      [7, 8, 9],
    ]);
    expect(await around({ id: 'journal0one-1', device: 'one' })).toEqual([[], 1, [3, 5, 7, 9, 11]]);
    expect(await around({ id: 'journal0one-12', before: '0', after: '0' })).toEqual([[], 12, []]);
  });

  test('of a line without a container: of its own source', async () => {
    expect(await around({ id: 'journal0one-13' })).toEqual([[], 13, []]);
    expect(await around({ id: 'journal0one-13', within: 'device', before: '1', after: '1' })).toEqual([
      [5],
      13,
      [6],
    ]);
  });

  test('the line is shown as a search shows it', async () => {
    const { line } = await ask<Context>('/context', { id: 'journal0two-1' });
    expect([line]).toEqual(await cloud.search('device=two'));
  });

  test.each([
    ['a seq that is not there', { id: 'journal0one-99' }, 404, 'NOT_FOUND'],
    ['a journal that is not there', { id: 'journal0six-1' }, 404, 'NOT_FOUND'],
    ['a line of another device', { id: 'journal0one-1', device: 'two' }, 404, 'NOT_FOUND'],
    ['no id', {}, 400, 'PARAMETER_INVALID'],
    ['what is no id', { id: "x' OR 1=1" }, 400, 'PARAMETER_INVALID'],
    ['too many lines', { id: 'journal0one-1', before: '1001' }, 400, 'PARAMETER_INVALID'],
    ['another reach', { id: 'journal0one-1', within: 'fleet' }, 400, 'PARAMETER_INVALID'],
  ])('%s is refused', async (_name, parameters, status, code) => {
    expect(await refused('/context', parameters as unknown as Record<string, string>)).toMatchObject({
      status,
      code,
    });
  });

  test('where two devices have the same line, the one meant must be named', async () => {
    await post('twin', 'journal0one', [{ message: 'I am one', timestamp: 5 }]);
    expect(await refused('/context', { id: 'journal0one-1' })).toMatchObject({
      code: 'PARAMETER_INVALID',
      detail: expect.stringMatching(/^device: several have/),
    });
    expect(await around({ id: 'journal0one-1', device: 'twin' })).toEqual([[], 1, []]);
    // Only one of them has the second.
    expect(await around({ id: 'journal0one-2', before: '0', after: '1' })).toEqual([[], 2, [4]]);
  });
});
