import { beforeAll, describe, expect, test } from 'vitest';
import { startTestCloud, type TestCloud } from '../support/cloud.ts';

let cloud: TestCloud;
beforeAll(async () => {
  cloud = await startTestCloud();
  return () => cloud[Symbol.asyncDispose]();
});

function patch(key: string, body: unknown, path = '/api/v3/device/state'): Promise<Response> {
  return fetch(`${cloud.url}${path}`, {
    method: 'PATCH',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
}

interface Shown {
  state: Record<string, unknown>;
  reportedAt: number;
  changedAt: number;
}

const stateOf = async (uuid: string) =>
  (await (await cloud.get(`/api/v1/devices/${uuid}/state`)).json()) as Shown;

const historyOf = async (uuid: string, query = '') =>
  (await (await cloud.get(`/api/v1/devices/${uuid}/state/history${query}`)).json()) as {
    changes: { id: number; at: number; changes: Record<string, unknown> }[];
    cursor?: string;
  };

const apps = (status: string, progress: number | null = null) => ({
  '1001': {
    name: 'shop',
    release_uuid: 'r1',
    releases: { r1: { services: { web: { image: 'nginx', status, download_progress: progress } } } },
  },
});

test('a report changes what it names, and its history has what a person would call a change', async () => {
  const key = await cloud.register('reporter');
  expect((await cloud.get('/api/v1/devices/reporter/state')).status).toBe(404);

  const first = { os_version: 'Debian 12', cpu_usage: 7, apps: apps('Downloading', 10), made_up: { x: 1 } };
  expect(await (await patch(key, { reporter: first })).json()).toEqual({});
  const begun = await stateOf('reporter');
  expect(begun.state).toEqual({ os_version: 'Debian 12', cpu_usage: 7, apps: apps('Downloading', 10) });
  expect(begun.changedAt).toBe(begun.reportedAt);

  // Metrics and the progress of a download: new values, no change.
  await patch(key, { reporter: { cpu_usage: 9, apps: apps('Downloading', 60) } }, '/device/v3/state');
  const measured = await stateOf('reporter');
  expect(measured.state).toEqual({ os_version: 'Debian 12', cpu_usage: 9, apps: apps('Downloading', 60) });
  expect(measured.changedAt).toBe(begun.changedAt);

  await patch(key, { reporter: { os_version: null, apps: apps('Running') } });
  expect((await stateOf('reporter')).state).toEqual({ cpu_usage: 9, apps: apps('Running') });
  const { changes } = await historyOf('reporter');
  expect(changes.map(({ changes: made }) => made)).toEqual([
    { os_version: null, apps: apps('Running') },
    { os_version: 'Debian 12', apps: apps('Downloading', 10) },
  ]);
  const newest = await historyOf('reporter', '?limit=1');
  expect(newest.changes).toEqual(changes.slice(0, 1));
  expect((await historyOf('reporter', `?limit=1&cursor=${newest.cursor}`)).changes).toEqual(changes.slice(1));
});

test('of two reports at the same time none is lost', async () => {
  const key = await cloud.register('busy');
  const names = ['name', 'status', 'os_version', 'os_variant', 'cpu_id', 'mac_address', 'ip_address'];
  await Promise.all(names.map((name) => patch(key, { busy: { [name]: name } })));
  expect((await stateOf('busy')).state).toEqual(Object.fromEntries(names.map((name) => [name, name])));
});

test('a device that does nothing but report is online, and the list says since when', async () => {
  const key = await cloud.register('silent');
  const device = async () =>
    (await (await cloud.get('/api/v1/devices/silent')).json()) as Record<string, unknown>;
  expect(await device()).toMatchObject({ online: null, onlineChangedAt: null, reportedAt: null });
  await patch(key, { silent: { status: 'Idle' } });
  const { reportedAt } = await stateOf('silent');
  expect(await device()).toMatchObject({ online: true, onlineChangedAt: reportedAt, reportedAt });
});

test('lines of a report are stored once, whichever way they come first', async () => {
  const key = await cloud.register('lines');
  const line = (seq: number) => ({
    id: `abcdefgh-${seq}`,
    seq,
    message: `line ${seq}`,
    timestamp: 1_760_000_000_000 + seq,
    level: 'warn',
    source: { type: 'container', name: 'web' },
    serviceName: 'web',
    isStdErr: false,
    isSystem: false,
  });
  const report = (from: number, to: number) => ({
    lines: { recent_logs: Array.from({ length: to - from + 1 }, (_, i) => line(from + i)) },
  });
  const stream = (from: number, to: number) => {
    const header = JSON.stringify({
      batch: { journal: 'abcdefgh', first: from, count: to - from + 1, sealed: 0 },
    });
    const lines = Array.from({ length: to - from + 1 }, (_, i) => JSON.stringify(line(from + i)));
    return fetch(`${cloud.url}/device/v2/lines/log-stream`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/x-ndjson' },
      body: `${[header, ...lines].join('\n')}\n`,
    });
  };
  expect((await patch(key, report(3, 8))).status).toBe(200);
  expect((await patch(key, report(6, 12))).status).toBe(200);
  // The line twice within one, a hole, and a line of nobody's.
  const mixed = [line(14), line(14), line(20), { message: 'loose', level: 'error' }];
  expect((await patch(key, { lines: { recent_logs: mixed } })).status).toBe(200);
  expect((await stream(1, 20)).status).toBe(201);
  expect((await patch(key, report(10, 22))).status).toBe(200);
  const stored = await cloud.lines('lines', 23);
  expect(stored.map(({ message }) => message).sort()).toEqual(
    [...Array.from({ length: 22 }, (_, i) => `line ${i + 1}`), 'loose'].sort(),
  );
  expect(stored.find(({ message }) => message === 'line 5')).toMatchObject(line(5));
  expect(stored.find(({ message }) => message === 'loose')?.level).toBe('error');
});

describe('what is refused', () => {
  test.each<[string, unknown, number, string]>([
    ['no state', { refused: 7 }, 400, 'refused: '],
    ['two devices', { refused: {}, other: {} }, 400, 'as its only key'],
    ['none', {}, 400, 'as its only key'],
    ['a wrong type', { refused: { cpu_usage: '7' } }, 400, 'refused.cpu_usage: must be a number'],
    ['a control character', { refused: { name: 'a\u0000b' } }, 400, 'refused.name: must have no control'],
    ['lines that are none', { refused: { recent_logs: [7] } }, 400, 'refused.recent_logs.0: '],
    [
      'too many lines',
      { refused: { recent_logs: Array(1001).fill({ message: '' }) } },
      400,
      'at most 1000 lines',
    ],
    ['another device', { reporter: { status: 'mine' } }, 403, 'its own state only'],
    ['too much', { refused: { recent_logs: [{ message: 'x'.repeat(1_100_000) }] } }, 413, 'over the limit'],
  ])('%s', async (_, body, status, detail) => {
    const key = await cloud.register('refused');
    const response = await patch(key, body);
    expect(response.status).toBe(status);
    expect(((await response.json()) as { detail: string }).detail).toContain(detail);
    expect((await cloud.get('/api/v1/devices/refused/state')).status).toBe(404);
  });

  test('a key of nobody, before the body is looked at', async () => {
    const response = await patch('nobody-has-this-key', 'not even a state');
    expect(response.status).toBe(401);
  });
});
