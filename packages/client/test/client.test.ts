import type { StoredLine } from '@millrace/wire';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { until } from '../../../tests/support/wait.ts';
import { adminToken, joinKey, startTestCloud, type TestCloud } from '../../cloud/test/support/cloud.ts';
import { MillraceClient } from '../src/index.ts';
import { Described } from './support/described.ts';

/** Everything that the API has, through the client, against a real cloud; every answer is what OpenAPI says. */

let cloud: TestCloud;
let described: Described;
let client: MillraceClient;
let deviceKey: string;
const startMs = 1_700_000_000_000;

beforeAll(async () => {
  cloud = await startTestCloud();
  const document = await new MillraceClient({ url: cloud.url, token: adminToken }).openApi();
  described = new Described(document);
  client = new MillraceClient({ url: cloud.url, token: adminToken, fetch: described.fetch });
  const registered = await client.register({ uuid: 'one', name: 'First' }, { joinKey });
  deviceKey = registered.api_key;
  await client.send('one', lines(25), { deviceKey });
});
afterAll(() => cloud[Symbol.asyncDispose]());

const lines = (count: number, first = 1) =>
  Array.from({ length: count }, (_, i) => ({
    message: `request ${first + i} of user ${['jane', 'bob'][i % 2]}`,
    timestamp: startMs + first + i,
    serviceName: 'web & db',
    level: i % 5 ? ('info' as const) : ('error' as const),
    fields: { status: 200 + (i % 3) },
  }));

describe('reading', () => {
  test('pages and lines, by any filter', async () => {
    const page = await client.search({
      limit: 10,
      order: 'asc',
      since: new Date(startMs),
      until: startMs + 100,
    });
    expect(page.logs).toHaveLength(10);
    const next = await client.search({
      limit: 100,
      order: 'asc',
      since: startMs,
      until: startMs + 100,
      cursor: page.cursor,
    });
    expect(next.logs.map(({ message }) => message)).toEqual(
      lines(25)
        .slice(10)
        .map(({ message }) => message),
    );
    expect(next.cursor).toBeUndefined();
    const all = await Array.fromAsync(client.lines({ limit: 7, service: 'web & db', stream: 'stdout' }));
    expect(all).toHaveLength(25);
    const some = {
      levels: ['error', 'warn'] as const,
      text: ['request', 'jane'],
      query: 'status:>=200 -"user bob"',
      device: 'one',
    };
    expect((await client.search(some)).logs.map(({ seq }) => seq)).toEqual([21, 11, 1]);
  });

  test('counts, surroundings and patterns', async () => {
    expect(await client.histogram({ by: 'level', step: '1h', series: 3, buckets: 10 })).toMatchObject({
      count: 25,
      series: [
        { value: 'info', count: 20 },
        { value: 'error', count: 5 },
      ],
    });
    expect(await client.histogram({ by: 'none', step: 3_600_000 })).not.toHaveProperty('series');
    const { facets } = await client.facets({ fields: ['service', 'status'], limit: 2 });
    expect(facets.map(({ field, distinct }) => [field, distinct])).toEqual([
      ['service', 1],
      ['status', 3],
    ]);
    const [line] = (await client.search({ text: 'request 12 ' })).logs as [StoredLine];
    const around = await client.context({
      id: line.id,
      device: 'one',
      before: 2,
      after: 1,
      within: 'device',
    });
    expect([around.line, ...around.before, ...around.after].map(({ seq }) => seq)).toEqual([12, 10, 11, 13]);
    const { patterns } = await client.patterns({ limit: 5 });
    expect(patterns).toMatchObject([{ pattern: 'request <*> of user <*>', count: 25 }]);
  });

  test('exports, as a file and as lines', async () => {
    const file = await client.export({ format: 'csv', formulas: 'keep', query: 'level:error' });
    expect(file).toMatchObject({
      lines: 5,
      contentType: 'text/csv; charset=utf-8; header=present',
      name: expect.stringMatching(/^millrace-.*\.csv$/),
    });
    const text = Buffer.concat(await Array.fromAsync(file.bytes)).toString();
    expect(text.trimEnd().split('\r\n')).toHaveLength(6);
    const exported = await Array.fromAsync(client.exportLines({ order: 'desc' }));
    expect(exported).toEqual((await client.search({ limit: 100 })).logs);
    // Whoever stops early closes the connection.
    for await (const _ of client.exportLines()) break;
  });

  test('a tail, and what balena shows', async () => {
    const stop = new AbortController();
    const tail = await client.tail({ levels: ['warn'] }, { signal: stop.signal });
    const followed = await client.followDeviceLogs('one', { count: 2 }, { signal: stop.signal });
    await client.send('one', [{ message: 'followed', level: 'warn', timestamp: startMs + 500 }], {
      deviceKey,
    });
    const { value: event } = await tail.next();
    expect(event).toMatchObject({ line: { device: 'one', message: 'followed', level: 'warn' } });
    const shown = [await followed.next(), await followed.next(), await followed.next()];
    expect(shown.map(({ value }) => value?.message)).toEqual([
      'request 24 of user bob',
      'request 25 of user jane',
      'followed',
    ]);
    expect(
      (await client.deviceLogs('one', { count: 'all', start: startMs + 24 })).map(({ message }) => message),
    ).toEqual(shown.slice(0, 3).map(({ value }) => value?.message));
    stop.abort(new Error('enough'));
    await expect(tail.next()).rejects.toThrow('enough');
    await expect(followed.next()).rejects.toThrow('enough');
  });
});

test('devices, fleets, tokens, saved searches, and who changed them', async () => {
  await client.register({ uuid: 'two', apiKey: 'a-key-of-the-device-two' }, { joinKey });
  const fleet = await client.fleets.add({ name: 'berlin', description: 'Hall' });
  expect(await client.fleets.change('berlin', { description: null })).toEqual({
    ...fleet,
    description: null,
  });
  expect(
    await client.changeDevice('two', { name: 'Second', fleet: 'berlin', tags: { site: 'roof' } }),
  ).toMatchObject({
    uuid: 'two',
    fleet: 'berlin',
    tags: { site: 'roof' },
  });
  expect(await Array.fromAsync(client.devices({ fleet: 'berlin', tag: 'site=roof', online: false }))).toEqual(
    [await client.device('two')],
  );
  expect(await client.fleets.get('berlin')).toMatchObject({ devices: 1 });
  expect((await client.newDeviceKey('two')).api_key).not.toBe('a-key-of-the-device-two');
  expect(await client.gaps('one')).toEqual([]);

  const made = await client.tokens.add({ name: 'on call', role: 'reader', fleets: ['berlin'] });
  const reader = new MillraceClient({ url: cloud.url, token: made.token, fetch: described.fetch });
  expect((await Array.fromAsync(reader.devices())).map(({ uuid }) => uuid)).toEqual(['two']);
  await expect(reader.changeDevice('two', { name: null })).rejects.toMatchObject({ code: 'FORBIDDEN' });
  await expect(reader.device('one')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  expect((await reader.search()).logs).toEqual([]);
  expect((await reader.patterns()).total).toBe(0);
  expect(await Array.fromAsync(reader.exportLines())).toEqual([]);
  for (const logs of [reader.deviceLogs('one'), reader.followDeviceLogs('one')]) {
    await expect(logs).rejects.toMatchObject({ code: 'NOT_FOUND' });
  }
  const search = await client.searches.add({ name: 'Errors', query: 'level:error', since: '1h' });
  expect(await client.searches.change(search.id, { until: '5m' })).toMatchObject({
    since: '1h',
    until: '5m',
  });
  expect(await client.searches.get(search.id)).toMatchObject({ name: 'Errors' });
  expect(await Array.fromAsync(client.searches.list())).toHaveLength(1);

  await client.searches.remove(search.id);
  expect((await Array.fromAsync(client.tokens.list())).map(({ name }) => name)).toContain('on call');
  await client.tokens.revoke('on call');
  await client.removeDevice('two');
  expect(await Array.fromAsync(client.fleets.list())).toMatchObject([{ name: 'berlin', devices: 0 }]);
  await client.fleets.remove('berlin');
  const actions = (await Array.fromAsync(client.audit({ subject: 'two' }))).map(({ action }) => action);
  expect(actions).toEqual(['device.remove', 'device.key', 'device.change', 'device.register']);
});

test("a device's state, as it reports it", async () => {
  await expect(client.deviceState('one')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await client.reportState('one', { status: 'Idle', cpu_usage: 7 }, { deviceKey });
  const body = { one: { status: 'Busy' } };
  await client.request('/device/v3/state', { method: 'PATCH', body, token: deviceKey });
  expect(await client.deviceState('one')).toMatchObject({ state: { status: 'Busy', cpu_usage: 7 } });
  const changes = await Array.fromAsync(client.stateHistory('one'));
  expect(changes.map((change) => change.changes.status)).toEqual(['Busy', 'Idle']);
});

test('policies, what is stored, and what is deleted', async () => {
  const policy = await client.policies.add({ level: 'debug', retentionDays: 3 });
  const replaced = { ...policy, level: null, retentionDays: 7, changedAt: expect.any(Number) };
  expect(await client.policies.replace(policy.id, { retentionDays: 7 })).toEqual(replaced);
  expect(await client.policies.list()).toEqual([replaced]);
  await client.policies.remove(policy.id);
  const { api_key: theirs } = await client.register({ uuid: 'deleted' }, { joinKey });
  await client.send('deleted', lines(5), { deviceKey: theirs });
  const usage = await Array.fromAsync(client.store.usage({ device: 'deleted' }));
  expect(usage).toMatchObject([{ device: 'deleted', lines: 5 }]);
  expect(await client.store.deviceUsage('deleted')).toMatchObject({ days: [{ lines: 5 }], quota: null });
  expect(await client.store.deleteLines('deleted', { before: startMs + 3 })).toMatchObject({ lines: 2 });
  const { partitions, removals } = await client.store.use();
  expect(partitions.reduce((sum, partition) => sum + partition.lines, 0)).toBeGreaterThan(0);
  expect(removals).toMatchObject([{ why: 'deleted', lines: 2 }]);
  const backup = await client.store.backUp();
  expect(await client.store.backups()).toEqual({ backups: [backup], running: null, failed: null });
});

test('what devices and fleets are to run', async () => {
  const compose = 'name: shop\nservices:\n  web:\n    image: nginx\n';
  const { targets } = client;
  await client.fleets.add({ name: 'deployed' });
  const { api_key: theirs } = await client.register({ uuid: 'runner' }, { joinKey });
  await client.changeDevice('runner', { fleet: 'deployed' });
  expect(await targets.ofDevice('runner')).toMatchObject({ version: null, apps: [] });
  const own = { appName: 'own', services: [{ serviceName: 'a', imageName: 'busybox' }] };
  expect(await targets.deployToDevice('runner', { apps: [own] })).toMatchObject({
    changed: true,
    changes: [{ appName: 'own', change: 'added' }],
  });
  expect(await targets.deployToDevice('runner', { apps: [own] }, { mode: 'replace' })).toMatchObject({
    changed: false,
  });
  const pace = { batch: 1, maxFailures: 2, patienceMinutes: 5 };
  expect(await targets.deployToFleet('deployed', { compose, dryRun: true, ...pace })).toMatchObject({
    changed: true,
    dryRun: true,
  });
  await targets.deployToFleet('deployed', { compose, app: 'store', ...pace }, { mode: 'replace' });
  await targets.deployToFleet('deployed', { compose, ...pace });
  expect(await targets.ofFleet('deployed', { limit: 1 })).toMatchObject({
    apps: [{ appName: 'store' }, { appName: 'shop' }],
    rollout: { state: 'running', batch: '1', maxFailures: 2, patienceMinutes: 5 },
    devices: [{ uuid: 'runner' }],
  });
  expect(await Array.fromAsync(targets.devicesOf('deployed'))).toHaveLength(1);
  expect(await targets.document('runner', { deviceKey: theirs })).toHaveProperty('runner');
  expect(await Array.fromAsync(targets.historyOfDevice('runner'))).toHaveLength(1);
  expect(await Array.fromAsync(targets.historyOfFleet('deployed'))).toHaveLength(2);
  await targets.removeOfFleet('deployed', { app: 'store' });
  await targets.removeOfFleet('deployed');
  await targets.removeOfDevice('runner');
  expect(await targets.ofFleet('deployed')).toMatchObject({ rollout: null });
});

test('health and figures', async () => {
  expect(await client.health()).toEqual({
    status: 'ok',
    checks: { broker: 'ok', records: 'ok', store: 'ok' },
  });
  expect(await client.metrics()).toContain('# TYPE');
});

describe('failure', () => {
  test('what the server refuses is the error that it is, with all that was said', async () => {
    await expect(client.search({ query: 'latency:>fast' })).rejects.toMatchObject({
      name: 'ServerProblem',
      code: 'QUERY_INVALID',
      status: 400,
      problem: { offset: 9, length: 4, expected: 'a number' },
    });
    await expect(client.context({ id: 'journal01-9' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(client.request('/api/v1/nothing')).rejects.toThrow(/not in the document/);
    const bare = new MillraceClient({ url: cloud.url, token: adminToken });
    await expect(bare.request('/api/v1/nothing')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('a token that is not known is looked for once more, where that was asked for', async () => {
    const wrong = { url: cloud.url, token: 'wrong' };
    await expect(new MillraceClient(wrong).search()).rejects.toMatchObject({ code: 'TOKEN_UNUSABLE' });
    let renewals = 0;
    const renew = async () => {
      renewals++;
      return { url: cloud.url, token: adminToken };
    };
    const renewing = new MillraceClient({ ...wrong, renew });
    expect((await renewing.search({ limit: 1 })).logs).toHaveLength(1);
    await renewing.search();
    expect(renewals).toBe(1);
    await expect(new MillraceClient({ ...wrong, renew: async () => wrong }).search()).rejects.toMatchObject({
      code: 'TOKEN_UNUSABLE',
    });
  });

  test('nobody there, or somebody else', async () => {
    const nobody = new MillraceClient({ url: 'http://127.0.0.1:9', token: 'x' });
    await expect(nobody.search()).rejects.toMatchObject({ code: 'SERVER_UNREACHABLE' });
    for (const [body, type] of [
      ['<html>', 'text/html'],
      ['{"device', 'application/json'],
    ]) {
      const strange = new MillraceClient({
        url: 'http://strange',
        token: 'x',
        fetch: async () => new Response(body, { headers: { 'content-type': type as string } }),
      });
      await expect(strange.search()).rejects.toMatchObject({ code: 'SERVER_UNREACHABLE' });
      await expect(strange.tail()).rejects.toMatchObject({ code: 'SERVER_UNREACHABLE' });
      await expect(Array.fromAsync(strange.exportLines())).rejects.toMatchObject({
        code: 'SERVER_UNREACHABLE',
      });
    }
  });

  test('a connection that breaks is no end', async () => {
    const broken = new MillraceClient({
      url: 'http://broken',
      token: 'x',
      fetch: async () => {
        let pulls = 0;
        const body = new ReadableStream({
          pull(controller) {
            if (pulls++ === 0) controller.enqueue(new TextEncoder().encode('{"seq":1}\n'));
            else controller.error(new TypeError('terminated'));
          },
        });
        return new Response(body, { headers: { 'content-type': 'application/x-ndjson' } });
      },
    });
    const seen: unknown[] = [];
    const reading = (async () => {
      for await (const line of broken.exportLines()) seen.push(line);
    })();
    await expect(reading).rejects.toMatchObject({
      code: 'SERVER_UNREACHABLE',
      detail: 'the connection broke (terminated)',
    });
    expect(seen).toEqual([{ seq: 1 }]);
  });

  test('whoever goes away ends what is running', async () => {
    const stop = new AbortController();
    const asked = client.search({}, { signal: stop.signal });
    stop.abort(new Error('never mind'));
    await expect(asked).rejects.toThrow('never mind');
    await until(async () => (await client.health()).status === 'ok');
  });
});

describe('the document', () => {
  test('describes every operation: what it is for, its parameters, its answers and its refusals', () => {
    const lacking = described.operations.flatMap(({ name, operation }) => {
      const { summary, tags, responses, parameters = [] } = operation;
      const good = Object.entries(responses).filter(([status]) => status.startsWith('2'));
      const isOpen = name === 'GET /healthz';
      return [
        summary ? [] : `${name}: no summary`,
        tags?.length ? [] : `${name}: no tag`,
        good.length > 0 ? [] : `${name}: no answer`,
        good.every(
          ([status, { content, description }]) =>
            content || status === '204' || description !== 'Default Response',
        )
          ? []
          : `${name}: an answer without a schema`,
        isOpen || '4XX' in responses ? [] : `${name}: no refusals`,
        parameters
          .filter((one) => one.in === 'query' && !one.description)
          .map((one) => `${name}: ${one.name}`),
      ].flat();
    });
    expect(lacking).toEqual([]);
  });

  test('has nothing that the client does not reach, and each was seen to answer as it says', () => {
    const missed = described.operations.map(({ name }) => name).filter((name) => !described.seen.has(name));
    expect(missed).toEqual([]);
  });
});
