import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { busyboxImage, startEngine, type TestEngine } from '../../../../tests/support/docker.ts';
import { freePort } from '../../../../tests/support/ports.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { labelNames } from '../../src/apps/engine/labels.ts';
import { service, TestApps } from './test-apps.ts';

const run = promisify(execFile);
/** Asked seldom, since each time is a process in the container. */
const neverPasses = { test: 'false', interval: '5s', startPeriod: '10m' };

async function touch({ docker }: TestEngine, id: string, path: string): Promise<void> {
  const container = docker.getContainer(id);
  // An engine that was killed starts its containers anew, a moment after it answers.
  await until(async () => (await container.inspect()).State.Running, { what: 'the container to run' });
  const exec = await container.exec({ Cmd: ['touch', path] });
  await exec.start({});
}

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
  await engine.buildBusybox();
});
afterAll(() => engine[Symbol.asyncDispose]());

describe('on one device', () => {
  let dir: Awaited<ReturnType<typeof tempDir>>;
  let apps: TestApps;
  beforeAll(async () => {
    dir = await tempDir();
    apps = await TestApps.start(engine, dir.path);
  });
  afterAll(async () => {
    await apps[Symbol.asyncDispose]();
    await dir[Symbol.asyncDispose]();
  });
  /** So that the engine does not go on asking for its health while others are tested. */
  const remove = async (appId: number) => {
    await apps.ask('DELETE', `/apps/${appId}`);
    await apps.gone(appId);
  };

  test('an app is deployed as with curl, without a content type; once more changes nothing', async () => {
    await engine.docker.getImage(busyboxImage).tag({ repo: 'nginx', tag: 'alpine' });
    const body = `{"appId":1001,"services":[{"serviceId":1,"serviceName":"web","imageName":"nginx:alpine",
      "command":"sh -c 'echo served; sleep 1000'","stopSignal":"SIGKILL"}]}`;
    const curl = async () => {
      const args = ['-sS', '-X', 'POST', `${apps.url}/apps/1001`, '-d', body, '-w', '\n%{http_code}'];
      return (await run('curl', args)).stdout.split('\n').at(-1);
    };
    expect(await curl()).toBe('202');
    const { services } = await apps.running(1001);
    expect(services).toMatchObject([{ serviceId: 1, serviceName: 'web', status: 'running', restarts: 0 }]);
    const id = services[0]?.containerId as string;
    const { Id, Config } = await engine.docker.getContainer(id).inspect();
    expect(Config.Image).toBe('nginx:alpine');
    expect(await curl()).toBe('200');
    expect((await apps.view(1001)).services[0]?.containerId).toBe(Id);

    const logs = async () => {
      const { body } = await apps.ask('GET', '/apps/1001/services/web/logs');
      return (body as { logs: object[] }).logs;
    };
    await until(async () => (await logs()).length === 1);
    expect(await logs()).toMatchObject([
      { message: 'served', serviceName: 'web', serviceId: 1, appId: 1001 },
    ]);
    const told = await apps.told();
    const story = ['App 1001: release 1 is to be deployed', 'Creating network 1001_default'];
    story.push(
      'Creating service web of release 1',
      'Starting service web of release 1',
      'App 1001: release 1 is up',
    );
    expect(told.filter((line) => story.includes(line))).toEqual(story);
  });

  test('an update replaces what differs, in place, and leaves the rest and other containers alone', async () => {
    // As if made from an image of one of our containers: such an image hands down its labels.
    const labels = {
      app: '1002',
      service: 'gone',
      release: '1',
      config: 'x'.repeat(64),
      owner: 'd1',
      dependsOn: '',
    };
    const stranger = await engine.run({
      name: 'stranger',
      cmd: ['sleep', '1000'],
      labels: Object.fromEntries(
        Object.entries(labels).map(([name, value]) => [labelNames[name as keyof typeof labelNames], value]),
      ),
    });
    const port = await freePort();
    const web = (version: string) =>
      service('web', {
        environment: { VERSION: version },
        ports: [`127.0.0.1:${port}:80`],
        volumes: ['data:/data'],
        command: 'sh -c "trap exit TERM; echo $VERSION >> /data/seen; cat /data/seen; sleep 100000 & wait"',
      });
    await apps.deploy(1002, [web('one'), service('db', { restart: 'always' })]);
    const before = await apps.running(1002);
    expect(await apps.deploy(1002, [web('two'), service('db', { restart: 'always' })])).toBe(202);
    const after = await apps.until(1002, ({ release, state }) => release === 2 && state === 'running');
    expect(after.services[0]?.containerId).not.toBe(before.services[0]?.containerId);
    expect(after.services[1]?.containerId).toBe(before.services[1]?.containerId);
    const isClean = async () =>
      (await apps.containers()).filter((name) => name.startsWith('web_1002')).length === 1;
    await until(isClean, { what: 'the container of the release before to be removed' });
    // The volume is the same one, and the port could be used again.
    const output = await engine.docker
      .getContainer(after.services[0]?.containerId as string)
      .logs({ stdout: true });
    expect(output.toString()).toMatch(/one[\s\S]*two/);
    expect(await stranger.inspect()).toMatchObject({ Name: '/stranger', State: { Running: true } });
    await stranger.remove({ force: true });
  });

  test('services can be stopped, started and restarted', async () => {
    await apps.deploy(1003, [service('web'), service('job', { command: 'true', restart: 'no' })]);
    const { services } = await apps.running(1003);
    expect(services).toMatchObject([{ status: 'running' }, { status: 'exited', exitCode: 0 }]);
    const container = engine.docker.getContainer(services[0]?.containerId as string);
    const startedAt = async () => (await container.inspect()).State.StartedAt;

    expect((await apps.ask('POST', '/apps/1003/services/web/stop')).status).toBe(200);
    await apps.until(1003, (app) => app.services[0]?.status === 'stopped');
    expect((await container.inspect()).State.Running).toBe(false);
    await apps.ask('POST', '/apps/1003/services/web/start');
    await apps.until(1003, (app) => app.services[0]?.status === 'running');

    const before = await startedAt();
    expect((await apps.ask('POST', '/apps/1003/services/web/restart')).status).toBe(200);
    expect(await startedAt()).not.toBe(before);

    const job = engine.docker.getContainer(services[1]?.containerId as string);
    const ranAt = (await job.inspect()).State.StartedAt;
    await apps.ask('POST', '/apps/1003/services/job/start');
    expect((await job.inspect()).State.StartedAt).not.toBe(ranAt);
    expect((await apps.ask('POST', '/apps/1003/services/nobody/start')).status).toBe(404);
  });

  test('services start after those they need', async () => {
    const compose = `
services:
  web:
    image: ${busyboxImage}
    command: sh -c "trap exit TERM; sleep 100000 & wait"
    depends_on: { db: { condition: service_healthy }, init: { condition: service_completed_successfully } }
  init: { image: ${busyboxImage}, command: "true", restart: "no", depends_on: [db] }
  db:
    image: ${busyboxImage}
    command: sh -c "trap exit TERM; sleep 0.3; touch /ready; sleep 100000 & wait"
    healthcheck: { test: "[ -e /ready ]", interval: 100ms, retries: 50 }
`;
    expect((await apps.ask('POST', '/apps/1004/compose', compose)).status).toBe(202);
    const { services } = await apps.running(1004);
    const of = async (name: string) => {
      const { containerId } = services.find(({ serviceName }) => serviceName === name) ?? {};
      return (await engine.docker.getContainer(containerId as string).inspect()).State;
    };
    const [web, init, db] = [await of('web'), await of('init'), await of('db')];
    expect(db.StartedAt < init.StartedAt).toBe(true);
    expect(init.FinishedAt < web.StartedAt).toBe(true);
    const healthyAt = db.Health?.Log.find(({ ExitCode }) => ExitCode === 0)?.End as unknown as string;
    expect(new Date(healthyAt) <= new Date(web.StartedAt)).toBe(true);
    await remove(1004);
  });

  test('a release that is not healthy gives way to the one before, in the same container', async () => {
    const web = (check: string) =>
      service('web', {
        healthcheck: { test: check, interval: '100ms', retries: 2 },
        volumes: ['data:/data'],
      });
    await apps.deploy(1005, [web('true')]);
    const before = await apps.running(1005);
    await apps.deploy(1005, [web('false'), service('more')]);
    const after = await apps.until(
      1005,
      (app) => app.state === 'rolled-back' && app.services[0]?.status === 'running',
    );
    expect(after).toMatchObject({
      ...{
        release: 2,
        runningRelease: 1,
        error: { code: 'SERVICE_UNWELL', detail: 'service web is unhealthy' },
      },
      services: [{ containerId: before.services[0]?.containerId }],
    });
    await until(async () => (await apps.containers()).filter((name) => name.includes('_1005_')).length === 1);
    // What failed is not tried again by itself, only if somebody wants it.
    expect(await apps.deploy(1005, [web('false'), service('more')])).toBe(200);
    expect(
      (await apps.ask('POST', '/apps/1005?retry=true', { services: [web('false'), service('more')] })).status,
    ).toBe(202);
    await apps.until(1005, (app) => app.state === 'rolled-back' && app.release === 3);
    expect(await apps.told()).toContain(
      'App 1005: release 2 failed: service web is unhealthy; going back to release 1',
    );
    await remove(1005);
  });

  test('a service that ends again and again is left to the engine, and told of', async () => {
    // Nobody would call it well, however long it takes to end.
    await apps.deploy(1006, [service('web', { command: 'sh -c "exit 3"', healthcheck: neverPasses })]);
    const app = await apps.until(
      1006,
      ({ services: [web] }) => web?.status === 'restarting' && Number(web.restarts) >= 3,
    );
    expect(app).toMatchObject({ state: 'deploying', services: [{ serviceName: 'web', exitCode: 3 }] });
    expect(await apps.told()).toContain('Service web exited with code 3');
    expect((await apps.containers()).filter((name) => name.includes('_1006_'))).toHaveLength(1);
    await apps.ask('DELETE', '/apps/1006');
    await apps.gone(1006);
  });

  test('a service that needs more memory than it may have is said to', async () => {
    // The engine watches the memory of a container a moment after it has started it.
    const command = ['sh', '-c', 'until [ -e /tmp/go ]; do sleep 0.1; done; tail /dev/zero'];
    await apps.deploy(1007, [
      service('web', { command, memLimit: '16m', restart: 'no', healthcheck: neverPasses }),
    ]);
    const { services } = await apps.until(1007, (app) => app.services[0]?.status === 'running');
    await touch(engine, services[0]?.containerId as string, '/tmp/go');
    const app = await apps.until(1007, ({ state }) => state === 'failed');
    expect(app.error?.detail).toMatch(/^service web exited with code 137/);
    const line = 'Service web ran out of memory: a process was killed';
    await until(async () => (await apps.told()).includes(line), { what: line });
  });

  test('a port that is in use is an error of the service, until it is free', async () => {
    const port = await freePort();
    await apps.deploy(1008, [service('first', { ports: [`127.0.0.1:${port}:80`] })]);
    await apps.running(1008);
    await apps.deploy(1009, [service('second', { ports: [`127.0.0.1:${port}:80`] })]);
    const app = await apps.until(1009, ({ services }) => services[0]?.error);
    expect(app.services[0]).toMatchObject({ status: 'starting', error: { code: 'PORT_CONFLICT' } });
    await apps.ask('DELETE', '/apps/1008');
    await apps.running(1009);
  });

  test('an app is removed with all that is its own, its volumes only if asked', async () => {
    const volumes = async () => {
      const { Volumes: found } = await engine.docker.listVolumes();
      return found.map(({ Name }) => Name).filter((name) => name.startsWith('1010_'));
    };
    const app = [service('web', { volumes: ['data:/data'], networks: ['a', 'b'] })];
    await apps.deploy(1010, app);
    const { services } = await apps.running(1010);
    const { NetworkSettings } = await engine.docker
      .getContainer(services[0]?.containerId as string)
      .inspect();
    expect(Object.keys(NetworkSettings.Networks).sort()).toEqual(['1010_a', '1010_b']);
    expect((await apps.ask('DELETE', '/apps/1010')).status).toBe(202);
    await apps.gone(1010);
    expect(await volumes()).toEqual(['1010_data']);
    await apps.deploy(1010, app);
    await apps.running(1010);
    await apps.ask('DELETE', '/apps/1010?volumes=true');
    await apps.gone(1010);
    expect(await volumes()).toEqual([]);
    expect(
      (await engine.docker.listNetworks()).map(({ Name }) => Name).filter((n) => n.startsWith('1010_')),
    ).toEqual([]);
    expect((await apps.containers()).filter((name) => name.includes('_1010_'))).toEqual([]);
  });
});

test('a release that is not well when its time is up gives way to the one before', async () => {
  await using dir = await tempDir();
  {
    await using apps = await TestApps.start(engine, dir.path);
    await apps.deploy(2002, [service('web')]);
    await apps.running(2002);
    await apps.deploy(2002, [
      service('web', { healthcheck: { ...neverPasses, startPeriod: '100ms', retries: 1000 } }),
    ]);
  }
  await using apps = await TestApps.start(engine, dir.path, { APPS_HEALTHY_MS: '1000' });
  const app = await apps.until(
    2002,
    ({ state, services }) => state === 'rolled-back' && services[0]?.status === 'running',
  );
  expect(app.error?.detail).toMatch(/^service web (has not|is starting|is stopping|is creating)/);
  await apps.ask('DELETE', '/apps/2002');
  await apps.gone(2002);
});

test('a deployment goes on where the engine or the agent was restarted in the middle of it', async () => {
  await using own = await startEngine();
  await own.buildBusybox();
  await using dir = await tempDir();
  const slow = service('web', {
    healthcheck: { test: '[ -e /tmp/go ]', interval: '100ms', startPeriod: '60s' },
  });
  const id = await (async () => {
    await using apps = await TestApps.start(own, dir.path);
    await apps.deploy(3001, [
      slow,
      service('next', { dependsOn: { web: { condition: 'service_healthy' } } }),
    ]);
    await apps.until(3001, ({ services }) => services[0]?.health === 'starting');
    await own.kill();
    await apps.until(3001, ({ error }) => error?.code === 'ENGINE_UNREACHABLE');
    await own.start();
    const { services } = await apps.until(3001, (app) => app.services[0]?.health === 'starting');
    expect(services[1]).toMatchObject({ status: 'waiting', waitsFor: 'service web (service_healthy)' });
    return services[0]?.containerId as string;
  })();
  await using apps = await TestApps.start(own, dir.path);
  await touch(own, id, '/tmp/go');
  const { services } = await apps.running(3001);
  expect(services).toMatchObject([{ containerId: id, status: 'running' }, { status: 'running' }]);
});
