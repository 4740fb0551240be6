import { beforeAll, describe, expect, test } from 'vitest';
import { adminToken, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { appOf, compose, type FleetSeen, Targets } from './fleet.ts';

let cloud: TestCloud;
let targets: Targets;
beforeAll(async () => {
  cloud = await startTestCloud({ tuning: { rolloutTickMs: 100 } });
  targets = new Targets(cloud);
  return () => cloud[Symbol.asyncDispose]();
});

const secret = 'correct horse battery staple';

interface DeviceSeen {
  version: string | null;
  apps: {
    appId: number;
    appName: string;
    source: string;
    state: string;
    error: string | null;
    app?: unknown;
  }[];
}
const seen = (uuid: string) => targets.json<DeviceSeen>('GET', `/devices/${uuid}/target`);

describe('the target of a device', () => {
  test('is what it is asked to run, under one id for each name, and the same again changes nothing', async () => {
    const till = await targets.device('till');
    expect(await till.wanted()).toBeUndefined();
    expect(await seen('till')).toMatchObject({ version: null, apps: [] });
    const first = await targets.send('PUT', '/devices/till/target', { apps: [appOf('nginx:1')] });
    expect(first.status).toBe(202);
    const { changes } = (await first.json()) as { changes: { appId: number }[] };
    const appId = String(changes[0]?.appId);
    expect(changes).toEqual([{ appId: Number(appId), appName: 'shop', change: 'added' }]);
    const release = (await till.wanted())?.[appId];
    expect(release).toMatch(/^[0-9a-f]{32}$/);
    const { version } = await seen('till');

    // The same in another form, as a compose file.
    const again = await targets.send('PUT', '/devices/till/target', compose('nginx:1'));
    expect([again.status, await again.json()]).toEqual([
      200,
      { changed: false, dryRun: false, changes: [{ appId: Number(appId), appName: 'shop', change: 'same' }] },
    ]);
    expect((await seen('till')).version).toBe(version);

    await targets.json('PUT', '/devices/till/target?dryRun=true', compose('nginx:2'));
    expect((await till.wanted())?.[appId]).toBe(release);
    await targets.json('PUT', '/devices/till/target', compose('nginx:2'));
    expect((await till.wanted())?.[appId]).not.toBe(release);
    expect((await seen('till')).version).not.toBe(version);

    // Beside it, by an id of one's own; an id that is another's is refused.
    const other = { appId: 7, appName: 'meter', services: [{ serviceName: 'm', imageName: 'busybox' }] };
    await targets.json('PATCH', '/devices/till/target', { apps: [other] });
    expect(Object.keys((await till.wanted()) ?? {})).toEqual(['7', appId]);
    const wrong = await targets.send('PATCH', '/devices/till/target', { apps: [{ ...other, appId: 8 }] });
    expect(await wrong.json()).toMatchObject({
      code: 'APP_INVALID',
      detail: 'apps[0].appId: here meter is app 7',
    });
    await targets.json('DELETE', '/devices/till/target?app=meter');
    expect(Object.keys((await till.wanted()) ?? {})).toEqual([appId]);

    // None at all is not the same as no target.
    await targets.json('PUT', '/devices/till/target', { apps: [] });
    expect(await till.wanted()).toEqual({});
    await targets.json('DELETE', '/devices/till/target');
    expect(await till.wanted()).toBeUndefined();
    expect((await targets.send('DELETE', '/devices/till/target')).status).toBe(404);
    const { targets: history } = await targets.json<{ targets: { apps: unknown[] }[] }>(
      'GET',
      '/devices/till/target/history',
    );
    expect(history.map(({ apps }) => apps.length)).toEqual([0, 1, 2, 1, 1]);
  });

  test('is fetched with its version, once', async () => {
    const { key } = await targets.device('fetcher');
    await targets.json('PUT', '/devices/fetcher/target', compose('nginx'));
    const { version } = await seen('fetcher');
    const ask = (headers: Record<string, string> = {}) =>
      fetch(`${cloud.url}/device/v3/fetcher/state`, {
        headers: { authorization: `Bearer ${key}`, ...headers },
      });
    const whole = await ask();
    expect(whole.headers.get('etag')).toBe(`"${version}"`);
    expect(await whole.json()).toMatchObject({ fetcher: { name: 'fetcher', config: {} } });
    const same = await ask({ 'if-none-match': `"other", W/"${version}"` });
    expect([same.status, await same.text()]).toEqual([304, '']);
    expect((await ask({ 'if-none-match': '"other"' })).status).toBe(200);
    expect((await ask({ authorization: `Bearer ${adminToken}` })).status).toBe(401);
    const stranger = await targets.device('stranger');
    expect((await ask({ authorization: `Bearer ${stranger.key}` })).status).toBe(401);
  });

  test('and what the device makes of it, in its own words', async () => {
    const device = await targets.device('teller');
    await targets.json('PUT', '/devices/teller/target', compose('nginx'));
    const app = async () => (await seen('teller')).apps[0];
    expect(await app()).toMatchObject({ source: 'device', state: 'waiting', error: null });
    const answer = await device.report('downloading');
    expect(answer.headers.get('millrace-target')).toBe((await seen('teller')).version);
    expect(await app()).toMatchObject({ state: 'updating' });
    await device.report('rejected', 'SERVICE_UNWELL: web ended with code 1');
    expect(await app()).toMatchObject({
      state: 'failed',
      error: 'SERVICE_UNWELL: web ended with code 1',
      runningRelease: 'before',
    });
    expect(await targets.json('GET', '/devices/teller')).toMatchObject({
      apps: [{ name: 'shop', release: 'before', status: 'rejected' }],
    });
    await targets.json('PUT', '/devices/teller/target?retry=true', compose('nginx'));
    expect(await app()).toMatchObject({ state: 'waiting', error: null });
    await device.report('done');
    expect(await app()).toMatchObject({ state: 'done', error: null, runningRelease: null });
    const other = await targets.device('without');
    expect((await other.report('done')).headers.has('millrace-target')).toBe(false);
  });

  test('is shown to admins whole, to readers without what may be secret, and is in no log and no audit', async () => {
    await targets.device('keeper', undefined);
    const environment = { PASSWORD: secret };
    await targets.json('PUT', '/devices/keeper/target', { apps: [appOf('nginx', { environment })] });
    const wrong = { apps: [appOf('nginx', { environment, user: 7 })] };
    expect((await targets.send('PUT', '/devices/keeper/target', wrong)).status).toBe(400);
    expect(JSON.stringify(await seen('keeper'))).toContain(secret);
    const reader = await targets.json<{ token: string }>('POST', '/tokens', {
      name: 'reader of keeper',
      role: 'reader',
      devices: ['keeper'],
    });
    const read = (path: string, method = 'GET') =>
      targets.send(method, path, method === 'GET' ? undefined : compose('nginx'), {
        authorization: `Bearer ${reader.token}`,
      });
    for (const path of ['/devices/keeper/target', '/devices/keeper/target/history']) {
      const text = await (await read(path)).text();
      expect(text).toContain('"appName":"shop"');
      expect(text).not.toContain(secret);
    }
    expect((await read('/devices/till/target')).status).toBe(404);
    for (const method of ['PUT', 'PATCH', 'DELETE'])
      expect((await read('/devices/keeper/target', method)).status).toBe(403);
    await targets.json('POST', '/fleets', { name: 'foreign' });
    expect((await read('/fleets/foreign/target')).status).toBe(404);
    expect((await read('/fleets/foreign/target/history')).status).toBe(404);
    expect((await read('/fleets/foreign/target', 'PUT')).status).toBe(403);
    const audit = JSON.stringify(await targets.json('GET', '/audit?subject=keeper'));
    expect(audit).toContain('"action":"device.target"');
    expect(audit).not.toContain(secret);
    expect(cloud.logged.join('')).not.toContain(secret);
  });
});

describe('what is wrong with a request is said', () => {
  const web = { serviceName: 'web', imageName: 'nginx' };
  test.each([
    [{ apps: [{ services: [web] }] }, 'APP_INVALID', 'apps[0] needs an appId, or an appName'],
    [{ apps: ['nginx'] }, 'APP_INVALID', 'apps[0] must be an object'],
    [{ apps: [{ ...appOf('Nginx') }] }, 'APP_INVALID', 'apps[0].services[0].imageName must be'],
    [{ apps: [{ ...appOf('nginx'), appId: 0 }] }, 'APP_INVALID', 'apps[0].appId must be'],
    [{ apps: [{ ...appOf('nginx'), extra: 1 }] }, 'APP_INVALID', 'apps[0].extra is not known'],
    [{ apps: [appOf('a'), appOf('b')] }, 'APP_INVALID', 'apps[1] is there twice'],
    [{ apps: Array.from({ length: 101 }, () => appOf('a')) }, 'BODY_INVALID', 'apps: must be at most 100'],
    [{ apps: {} }, 'BODY_INVALID', 'apps: must be a list'],
    [{}, 'BODY_INVALID', 'body: must have apps, or compose'],
    [{ apps: [], compose: '' }, 'BODY_INVALID', 'body: must have apps, or compose'],
    [{ apps: [], app: 'x' }, 'BODY_INVALID', 'body: must have apps, or compose'],
    [{ apps: [], retry: 1 }, 'BODY_INVALID', 'retry: must be true or false'],
    [{ apps: [], dryRun: 'yes' }, 'BODY_INVALID', 'dryRun: must be true or false'],
    [{ apps: [], batch: 0 }, 'BODY_INVALID', 'batch: must be a number of devices'],
    [{ apps: [], batch: '101%' }, 'BODY_INVALID', 'batch: must be a number of devices'],
    [{ apps: [], maxFailures: -1 }, 'BODY_INVALID', 'maxFailures: must be a whole number'],
    [{ apps: [], patienceMinutes: 0 }, 'BODY_INVALID', 'patienceMinutes: must be a whole number'],
    [{ apps: [], other: 1 }, 'BODY_INVALID', '"other": no such parameter'],
    ['services: [', 'APP_INVALID', 'line 1: '],
    ['services: {web: {image: a}}', 'APP_INVALID', 'the app has no name'],
    ['name: a b\nservices: {web: {image: a}}', 'APP_INVALID', 'name must be'],
    ['name: a\nservices: {web: {build: .}}', 'APP_INVALID', 'services.web.build is not supported'],
  ])('%#: $1 $2', async (body, code, detail) => {
    await targets.send('POST', '/fleets', { name: 'wrong' });
    const response = await targets.send('PUT', '/fleets/wrong/target', body);
    const problem = (await response.json()) as { code: string; detail: string };
    expect(problem).toMatchObject({ code, status: 400 });
    expect(problem.detail).toContain(detail);
    expect((await targets.fleet('wrong')).rollout).toBeNull();
  });

  test.each([
    ['?batch=0', 'batch: must be'],
    ['?maxFailures=x', 'maxFailures: must be'],
    ['?apps=1', '"apps": no such parameter'],
    ['?other=1', '"other": no such parameter'],
    ['?app=a%20b', 'app must be 1 to 63'],
    ['?app=0', 'app must be a name, or an id from 1'],
  ])('a compose file with %s', async (query, detail) => {
    const response = await targets.send('PUT', `/fleets/wrong/target${query}`, compose('nginx'));
    expect(response.status).toBe(400);
    expect(((await response.json()) as { detail: string }).detail).toContain(detail);
  });

  test('also when it is about nobody, or too much', async () => {
    for (const path of ['/devices/nobody/target', '/fleets/nobody/target']) {
      expect((await targets.send('PUT', path, compose('nginx'))).status).toBe(404);
      expect((await targets.send('GET', path)).status).toBe(404);
      expect((await targets.send('DELETE', path)).status).toBe(404);
    }
    await targets.device('small');
    const batch = await targets.send('PUT', '/devices/small/target', { apps: [], batch: 1 });
    expect(((await batch.json()) as { detail: string }).detail).toContain('"batch": no such parameter');
    const query = await targets.send('PUT', '/devices/small/target?dryRun=true', { apps: [] });
    expect(query.status).toBe(400);
    const large = await targets.send('PUT', '/devices/small/target', 'x'.repeat(3 * 1024 * 1024));
    expect(large.status).toBe(413);
    expect((await targets.send('DELETE', '/devices/small/target?app=x')).status).toBe(404);
    expect(await seen('small')).toMatchObject({ version: null });
  });
});

describe('the target of a fleet', () => {
  test('reaches its devices batch by batch, and those that come later at once', async () => {
    await targets.json('POST', '/fleets', { name: 'tills' });
    const tills = await Promise.all(['t1', 't2', 't3'].map((uuid) => targets.device(uuid, 'tills')));
    const [t1, t2, t3] = tills as [FakeDeviceOf, FakeDeviceOf, FakeDeviceOf];
    for (const till of tills) await till.report();
    const begun = await targets.send('PUT', '/fleets/tills/target', {
      apps: [appOf('nginx:1')],
      batch: '34%',
    });
    expect(begun.status).toBe(202);
    const reached = (count: number, done: number) =>
      targets.rollout(
        'tills',
        ({ rollout }) => rollout?.devices.updating === count && rollout.devices.done === done,
        `${count} updating, ${done} done`,
      );
    expect((await reached(2, 0)).rollout).toMatchObject({ state: 'running', batchNo: 1 });
    expect([await t1.wanted(), await t2.wanted(), await t3.wanted()].map(Boolean)).toEqual([
      true,
      true,
      false,
    ]);
    await t1.report('done');
    await reached(1, 1);
    expect(await t3.wanted()).toBeUndefined();
    await t2.report('done');
    await reached(1, 2);
    await t3.report('done');
    const isDone = ({ rollout }: FleetSeen) => rollout?.state === 'done';
    expect(await targets.rollout('tills', isDone, 'done')).toMatchObject({
      rollout: { batchNo: 2, reason: null, devices: { waiting: 0, updating: 0, done: 3, failed: 0 } },
    });

    const late = await targets.device('t4', 'tills');
    expect(await late.wanted()).toEqual(await t1.wanted());
    expect((await targets.fleet('tills')).devices.find(({ uuid }) => uuid === 't4')).toMatchObject({
      state: 'waiting',
    });

    // An app of its own stands over the fleet's, and does not count for the rollout.
    await targets.json('PUT', '/devices/t1/target', compose('nginx:own'));
    const own = await t1.wanted();
    expect(own).not.toEqual(await t2.wanted());
    await late.report();
    await targets.json('PUT', '/fleets/tills/target', { apps: [appOf('nginx:2')] });
    await targets.rollout('tills', ({ rollout }) => rollout?.batchNo === 1, 'the batch');
    expect(await t1.wanted()).toEqual(own);
    await Promise.all([t2, t3, late].map((till) => till.report('done')));
    await targets.rollout('tills', isDone, 'done again');

    // In another fleet it has other apps; without a fleet, its own alone.
    await targets.json('POST', '/fleets', { name: 'other-tills' });
    await targets.json('PATCH', '/devices/t2', { fleet: 'other-tills' });
    expect(await t2.wanted()).toBeUndefined();
    await targets.json('DELETE', '/fleets/tills');
    expect([await t3.wanted(), await t1.wanted()]).toEqual([undefined, own]);
  });

  test('stops when more devices fail than may, leaves the others as they are, and says why', async () => {
    await targets.json('POST', '/fleets', { name: 'frail' });
    const devices = await Promise.all(['f1', 'f2', 'f3'].map((uuid) => targets.device(uuid, 'frail')));
    const [f1, f2, f3] = devices as [FakeDeviceOf, FakeDeviceOf, FakeDeviceOf];
    for (const device of devices) await device.report();
    await targets.json('PUT', '/fleets/frail/target?batch=1', compose('nginx:1'));
    await targets.rollout('frail', ({ rollout }) => rollout?.batchNo === 1, 'the first batch');
    await f1.report('rejected', 'no such image');
    const stopped = await targets.rollout('frail', ({ rollout }) => rollout?.state === 'stopped', 'the end');
    expect(stopped.rollout).toMatchObject({
      reason: '1 device failed, and at most 0 may; f1: no such image',
      devices: { failed: 1, waiting: 2 },
    });
    expect(stopped.devices[0]).toMatchObject({ uuid: 'f1', state: 'failed', error: 'no such image' });
    expect([await f2.wanted(), await f3.wanted()]).toEqual([undefined, undefined]);
    // The same once more is what was asked for already; to try it again is something else.
    expect((await targets.send('PUT', '/fleets/frail/target', compose('nginx:1'))).status).toBe(200);
    await targets.json('PUT', '/fleets/frail/target?retry=true&maxFailures=1&batch=1', compose('nginx:1'));
    await targets.rollout('frail', ({ rollout }) => rollout?.batchNo === 1, 'the first batch again');
    await f1.report('rejected', 'again');
    await targets.rollout('frail', ({ rollout }) => rollout?.batchNo === 2, 'the second batch');
    await f2.report('done');
    await targets.rollout('frail', ({ rollout }) => rollout?.batchNo === 3, 'the third batch');
    // What it was doing when the cloud went away, it goes on with.
    await cloud.restart();
    await f3.report('done');
    const through = await targets.rollout('frail', ({ rollout }) => rollout?.state === 'done', 'done');
    expect(through.rollout?.devices).toEqual({ waiting: 0, updating: 0, done: 2, failed: 1 });
  });
});

type FakeDeviceOf = Awaited<ReturnType<Targets['device']>>;
