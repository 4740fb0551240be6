import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../../../../../tests/support/docker.ts';
import { tempDir } from '../../../../../tests/support/tmp.ts';
import { until } from '../../../../../tests/support/wait.ts';
import { service, TestApps } from '../test-apps.ts';
import { documentOf, release, startTargetCloud } from './target-cloud.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
  await engine.buildBusybox();
});
afterAll(() => engine[Symbol.asyncDispose]());

test('a device runs what its cloud wants, says what became of it, and keeps what is its own', async () => {
  await using dir = await tempDir();
  await using cloud = await startTargetCloud();
  const good = [service('web', { volumes: ['data:/data'] })];
  cloud.want('v1', documentOf(release(1001, 'r1', good)));
  await using apps = await TestApps.start(engine, dir.path, {
    ...{ CLOUD_ENDPOINT: cloud.url, CLOUD_API_KEY: 'key-of-d1', CLOUD_DEPLOY_POLL_MS: '1000' },
  });
  const first = await apps.running(1001);
  expect(first).toMatchObject({ release: 1, releaseUuid: 'r1' });
  const own = [service('own')];
  for (const id of [1002, 1004]) await apps.deploy(id, own);
  const { services: before } = await apps.running(1002);
  await apps.running(1004);
  for (const [method, path] of [
    ['POST', '/apps/1001'],
    ['DELETE', '/apps/1001'],
  ] as const) {
    const answer = await apps.ask(method, path, { services: own });
    expect(answer).toMatchObject({ status: 409, body: { code: 'APP_OF_CLOUD' } });
  }

  // No target is no order to remove anything.
  cloud.want('none');
  await until(() => cloud.answers.filter((status) => status === 404).length > 1);
  // A release that fails, one that nobody can read, and one that is there already.
  const unwell = [service('web', { healthcheck: { test: 'false', interval: '100ms', retries: 1 } })];
  const unreadable = documentOf(release(1003, 'r3')) as Record<string, { apps: Record<string, object> }>;
  const document = documentOf(release(1001, 'r2', unwell), release(1002, 'r4', own));
  Object.assign(document.d1?.apps ?? {}, {
    'app-1003': JSON.parse(
      JSON.stringify(unreadable.d1?.apps['app-1003']).replace(
        '"composition":{',
        '"composition":{"secrets":[]',
      ),
    ),
  });
  cloud.want('v2', document);
  await apps.until(1001, ({ state }) => state === 'rolled-back');
  const { services: after } = await apps.until(1002, ({ releaseUuid }) => releaseUuid === 'r4');
  expect(after[0]?.containerId).toBe(before[0]?.containerId);
  await until(() => cloud.reported['1001']?.releases.r1?.update_status === 'done' && cloud.reported['1003'], {
    timeoutMs: 30_000,
    what: () => `the end to be reported, not ${JSON.stringify(cloud.reported)}`,
  });
  expect(cloud.reported).toMatchObject({
    '1001': {
      release_uuid: 'r1',
      releases: {
        r1: { update_status: 'done', services: { web: { status: 'Running' } } },
        r2: { update_status: 'rejected', error: 'SERVICE_UNWELL: service web is unhealthy', services: {} },
      },
    },
    '1002': { release_uuid: 'r4', releases: { r4: { update_status: 'done' } } },
    '1003': {
      releases: {
        r3: { update_status: 'rejected', error: expect.stringMatching(/^APP_INVALID: .*secrets/) },
      },
    },
    '1004': { release_uuid: '1', releases: { '1': { update_status: 'done' } } },
  });

  // What nobody can read at all changes nothing, and is not asked for again and again.
  cloud.want('v3', '{"d2":{"apps":{}}}');
  const line = 'The target v3 of the cloud is refused: it is not for device d1; what runs goes on';
  await until(async () => (await apps.told()).includes(line));
  expect((await apps.view(1001)).state).toBe('rolled-back');

  cloud.want('v4', documentOf());
  await apps.gone(1001);
  await apps.gone(1002);
  expect((await apps.view(1004)).state).toBe('running');
  const { Volumes: volumes } = await engine.docker.listVolumes();
  expect(volumes.map(({ Name }) => Name)).toEqual(['1001_data']);
  expect((await apps.told()).filter((told) => told === line)).toHaveLength(1);
  await apps.ask('DELETE', '/apps/1004');
  await apps.gone(1004);
});
