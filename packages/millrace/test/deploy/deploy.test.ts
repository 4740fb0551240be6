import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { beforeAll, describe, expect, test } from 'vitest';
import { startTcpProxy } from '../../../../tests/support/tcp-proxy.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { adminToken, startTestCloud, type TestCloud } from '../../../cloud/test/support/cloud.ts';
import { Targets } from '../../../cloud/test/targets/fleet.ts';
import { type DeployOptions, deploy } from '../../src/deploy/command.ts';
import { type DevicesOptions, listDevices } from '../../src/devices/list.ts';
import { showDevice } from '../../src/devices/show.ts';

let cloud: TestCloud;
let targets: Targets;
let folder: string;

beforeAll(async () => {
  const dir = await tempDir();
  folder = dir.path;
  cloud = await startTestCloud({ tuning: { rolloutTickMs: 100 } });
  targets = new Targets(cloud);
  return async () => {
    await cloud[Symbol.asyncDispose]();
    await dir[Symbol.asyncDispose]();
  };
});

const file = async (name: string, content: string) => {
  const path = join(folder, name);
  await writeFile(path, content);
  return path;
};
const compose = (image: string) => `name: shop\nservices:\n  web:\n    image: ${image}\n`;

function output({ isTTY = false, stop = new AbortController(), env = {} as Record<string, string> } = {}) {
  const stdout = Object.assign(new PassThrough(), { isTTY, columns: 60 });
  const stderr = new PassThrough();
  let printed = '';
  let noticed = '';
  stdout.on('data', (chunk) => {
    printed += String(chunk);
  });
  stderr.on('data', (chunk) => {
    noticed += String(chunk);
  });
  const context = {
    env: { MILLRACE_URL: cloud.url, MILLRACE_TOKEN: adminToken, NO_COLOR: '1', ...env },
    stdin: Readable.from(['']),
    ...{ stdout, stderr, signal: stop.signal, lookMs: 50 },
  };
  return { context, stop, printed: () => printed, noticed: () => noticed };
}

function run(
  to: string,
  path: string,
  options: Partial<DeployOptions> = {},
  how: Parameters<typeof output>[0] = {},
) {
  const { context, printed, stop } = output(how);
  const ended = deploy({ to, file: path }, { wait: true, ...options }, context);
  return { ended, printed, stop };
}

async function failure(to: string, path: string, options: Partial<DeployOptions> = {}): Promise<string> {
  const error = await run(to, path, options).ended.catch((thrown: unknown) => thrown);
  return error instanceof Error ? error.message : `no error: ${String(error)}`;
}

describe('millrace deploy', () => {
  test('to a device, watched until it is done, or has failed', async () => {
    const till = await targets.device('1a2b3c4d5e6f');
    await targets.json('PATCH', '/devices/1a2b3c4d5e6f', { name: 'till-1' });
    const path = await file('compose.yaml', compose('nginx:1'));
    const first = run('till-1', path);
    await until(() => first.printed().includes('shop: waiting'), { what: first.printed });
    await till.report('downloading');
    await until(() => first.printed().includes('shop: updating downloading'), { what: first.printed });
    await till.report('done');
    expect(await first.ended).toBe(true);
    expect(first.printed()).toMatch(
      /^Deploying to device till-1:\n {2}\+ added {2}shop \(\d+\)\nshop: waiting .*\n0 of 1 apps done\n[\s\S]*\n1 of 1 apps done\ndone\n$/,
    );

    const again = run('1a2b', path);
    expect(await again.ended).toBe(true);
    expect(again.printed()).toMatch(/^Nothing new for device till-1:\n {2}= as it was {2}shop/);

    const broken = run('till-1', await file('broken.yaml', compose('nginx:2')), {}, { isTTY: true });
    await until(() => broken.printed().includes('waiting'), { what: broken.printed });
    await till.report('rejected', 'IMAGE_MISSING: nginx:2');
    expect(await broken.ended).toBe(false);
    expect(broken.printed()).toContain('failed: shop: IMAGE_MISSING: nginx:2\n');
    expect(broken.printed()).toContain('\x1b[2A\x1b[K');
    const retried = run('till-1', join(folder, 'broken.yaml'), { retry: true, json: true });
    await until(() => retried.printed().includes('"waiting"'), { what: retried.printed });
    await till.report('done');
    expect(await retried.ended).toBe(true);
    const lines = retried
      .printed()
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines[0]).toMatchObject({ changed: true, changes: [{ change: 'retried' }] });
    expect(lines.at(-1)).toEqual({ outcome: { isGood: true, text: 'done' } });
  });

  test('to a fleet, batch by batch, until too many have failed', async () => {
    await targets.json('POST', '/fleets', { name: 'kiosks' });
    const a = await targets.device('kiosk-a', 'kiosks');
    const b = await targets.device('kiosk-b', 'kiosks');
    await a.report();
    await b.report();
    const path = await file(
      'app.json',
      JSON.stringify({ appName: 'sign', services: [{ serviceName: 's', imageName: 'x' }] }),
    );
    const rehearsed = run('kiosks', path, { dryRun: true });
    expect(await rehearsed.ended).toBe(true);
    expect(rehearsed.printed()).toMatch(/^Would change on fleet kiosks:\n {2}\+ added {2}sign/);
    expect(await a.wanted()).toBeUndefined();

    const rolled = run('kiosks', path, { batch: '1' });
    await until(() => rolled.printed().includes('kiosk-a: updating'), { what: rolled.printed });
    await a.report('done');
    await until(() => rolled.printed().includes('kiosk-b: updating'), { what: rolled.printed });
    await b.report('rejected', 'broken here');
    expect(await rolled.ended).toBe(false);
    expect(rolled.printed()).toMatch(/stopped: 1 device failed, and at most 0 may; kiosk-b: broken here\n$/);

    const left = run('fleet:kiosks', path, { retry: true, timeout: '1s' });
    expect(await left.ended).toBe(false);
    const unwatched = run('kiosks', path, { retry: true, wait: false, maxFailures: '1', patience: '2h' });
    expect(await unwatched.ended).toBe(true);
    expect(await targets.fleet('kiosks')).toMatchObject({
      rollout: { maxFailures: 1, patienceMinutes: 120 },
    });
    const stopped = run('kiosks', path);
    await until(() => stopped.printed().includes('devices done'), { what: stopped.printed });
    stopped.stop.abort();
    expect(await stopped.ended).toBe(false);
  });

  test('a watcher outlasts a cloud that is away for a while, and says so; one that stays away ends it', async () => {
    await using link = await startTcpProxy({ port: cloud.cloud.httpPort });
    const away = await targets.device('away-1');
    const path = await file('away.yaml', compose('nginx:3'));
    const env = { MILLRACE_URL: `http://127.0.0.1:${link.port}` };
    const patient = output({ env });
    const options = { wait: true };
    const ended = deploy({ to: 'away-1', file: path }, options, patient.context);
    await until(() => patient.printed().includes('shop: waiting'), { what: patient.printed });
    link.cut();
    await until(() => patient.noticed().includes('; the deployment goes on, looking again\n'));
    await away.report('done');
    link.open();
    expect(await ended).toBe(true);
    expect(patient.noticed()).toMatch(/^millrace: [^\n]*looking again\nmillrace: connected again\n$/);

    const hasty = output({ env });
    const given = { ...options, retry: true };
    const left = deploy({ to: 'away-1', file: path }, given, { ...hasty.context, awayMs: 200 });
    await until(() => hasty.printed().includes('shop: waiting'), { what: hasty.printed });
    link.cut();
    await expect(left).rejects.toMatchObject({
      code: 'SERVER_UNREACHABLE',
      detail: expect.stringContaining('the deployment goes on without a watcher'),
    });
  });

  test('says what is wrong, and where', async () => {
    await targets.device('twin-1');
    await targets.device('twin-2');
    await targets.json('POST', '/fleets', { name: 'twin-1' });
    const good = await file('good.yaml', compose('nginx'));
    const nameless = await file('nameless.yaml', 'services:\n  web:\n    image: nginx\n');
    expect(await failure('nobody', good)).toContain('nobody: there is no such device or fleet (devices: ');
    expect(await failure('twin', good)).toContain('twin: could be several devices: twin-1, twin-2');
    expect(await failure('twin-1', good)).toContain('say fleet:twin-1 or device:twin-1');
    expect(await failure('fleet:twin-2', good)).toContain('there is no such device or fleet (fleets: ');
    expect(await failure('twin-2', good, { batch: '2' })).toContain('twin-2 is a device: --batch');
    expect(await failure('twin-2', join(folder, 'none.yaml'))).toContain('none.yaml: there is no such file');
    expect(await failure('twin-2', nameless)).toContain(
      'the app has no name: add a line "name: …", or give --app',
    );
    expect(
      await failure('twin-2', await file('bad.yaml', 'name: a\nservices:\n  web:\n\timage: x\n')),
    ).toMatch(/bad\.yaml: line 4: /);
    expect(await failure('twin-2', await file('bad.json', '{\n "appName": "a",\n oops\n}'))).toMatch(
      /bad\.json: line 3: not JSON/,
    );
    expect(
      await failure('twin-2', await file('wrong.json', '{"appId":1,"services":[{"serviceName":"a"}]}')),
    ).toContain('services[0].imageName must be');
    expect(await failure('twin-2', join(folder, 'wrong.json'), { app: 'x' })).toContain(
      '--app is for compose files',
    );
    for (const [option, given] of [
      ['batch', '0'],
      ['batch', '101%'],
      ['maxFailures', '-1'],
      ['patience', 'long'],
      ['timeout', '5'],
    ] as const) {
      expect(await failure('twin-2', good, { [option]: given })).toMatch(
        /--(batch|max-failures|patience|timeout) \S+: must be a/,
      );
    }
    expect(await failure('twin-2', good, { url: 'http://127.0.0.1:9' })).toContain('SERVER_UNREACHABLE');
    const { context } = output({ env: { MILLRACE_TOKEN: 'wrong' } });
    await expect(deploy({ to: 'twin-2', file: good }, { wait: true }, context)).rejects.toMatchObject({
      code: 'TOKEN_UNUSABLE',
    });
    expect(await run('device:twin-1', nameless, { app: 'named', wait: false }).ended).toBe(true);
  });
});

describe('millrace devices and millrace device', () => {
  const list = async (options: DevicesOptions) => {
    const { context, printed } = output();
    await listDevices(options, context);
    return printed();
  };

  test('show what there is, for people and as JSON', async () => {
    const hall = await targets.device('hall-1');
    await targets.json('POST', '/fleets', { name: 'halls' });
    await targets.json('PATCH', '/devices/hall-1', { name: 'Hall \u202e', fleet: 'halls' });
    await targets.json('PUT', '/devices/hall-1/target', compose('nginx'));
    await hall.report('rejected', 'SERVICE_UNWELL: web');
    const rows = (await list({ fleet: 'halls' })).split('\n');
    expect(rows[0]).toMatch(/^NAME +UUID +FLEET +ONLINE +APPS +LAST LINE$/);
    expect(rows[1]).toMatch(/^Hall \\u202e +hall-1 +halls +online 0 s +shop before rejected +-$/);
    expect(await list({ fleet: 'halls', offline: true })).toBe('');
    const [json] = (await list({ fleet: 'halls', online: true, json: true })).trimEnd().split('\n');
    expect(JSON.parse(json as string)).toMatchObject({ uuid: 'hall-1', fleet: 'halls' });
    await expect(list({ fleet: 'nowhere' })).rejects.toMatchObject({ code: 'NOT_FOUND' });

    const { context, printed } = output();
    await showDevice('hall', {}, context);
    expect(printed()).toMatch(/uuid +hall-1\nname +Hall \\u202e\nfleet +halls\n/);
    expect(printed()).toMatch(
      /shop \(\d+\): release [0-9a-f]{8} of the device, runs before: failed \(rejected\)\n {4}SERVICE_UNWELL: web\n/,
    );
    expect(printed()).toMatch(/Changes\n.*apps shop|Changes\n.*shop: [0-9a-f]{8} rejected/);
    const whole = output();
    await showDevice('hall-1', { json: true }, whole.context);
    expect(JSON.parse(whole.printed())).toMatchObject({
      device: { uuid: 'hall-1' },
      target: { apps: [{ state: 'failed' }] },
    });
    const unknown = output();
    await expect(showDevice('nobody', {}, unknown.context)).rejects.toThrow(
      'nobody: there is no such device',
    );
  });
});
