import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import mqtt from 'mqtt';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { startMosquitto } from '../../../../../tests/support/mosquitto.ts';
import { startProgram } from '../../../../../tests/support/programs.ts';
import { tempDir } from '../../../../../tests/support/tmp.ts';
import { until } from '../../../../../tests/support/wait.ts';
import { startAgent } from '../../../src/main.ts';
import { deviceUuid, documentOf, release, startTargetCloud, web } from './target-cloud.ts';

const log = pino({ level: 'silent' });
const program = fileURLToPath(new URL('./agent-process.ts', import.meta.url));

/** Without an engine: what is asked for is written down, and nothing here gets further. */
function envOf(dataDir: string, more: Record<string, string>): Record<string, string> {
  return {
    ...{ DATA_DIR: dataDir, DEVICE_UUID: deviceUuid, DOCKER_HOST: `unix://${dataDir}/none.sock` },
    ...{ DEVICE_API_PORT: '0', API_PORT: '0', CLOUD_API_KEY: 'key-of-d1' },
    ...more,
  };
}

async function startDevice(more: Record<string, string>) {
  const parts = new AsyncDisposableStack();
  const dir = parts.use(await tempDir());
  const agent = parts.use(await startAgent({ env: envOf(dir.path, more), log }));
  const runs = async (releaseUuid: string) => {
    const response = await fetch(`${agent.deviceApiUrl}/v1/apps`);
    const { apps } = (await response.json()) as { apps: { releaseUuid?: string }[] };
    return apps.some((app) => app.releaseUuid === releaseUuid);
  };
  return { agent, dir: dir.path, runs, [Symbol.asyncDispose]: () => parts.disposeAsync() };
}

async function publisher(url: string) {
  const client = await mqtt.connectAsync(url);
  return {
    publish: (payload: object | string) =>
      client.publishAsync(
        `device/${deviceUuid}/target`,
        typeof payload === 'string' ? payload : JSON.stringify(payload),
        { retain: true, qos: 1 },
      ),
    [Symbol.asyncDispose]: () => client.endAsync(),
  };
}

test.each(['stream', 'report', 'nothing'] as const)(
  'a device that is told by %s asks, and one that has all asks for no more',
  async (tells) => {
    await using cloud = await startTargetCloud();
    cloud.tells = tells;
    if (tells === 'report') {
      // The first question comes before the cloud has a target, the first report after.
      cloud.want('v1', documentOf(release(1001, 'r1')));
      cloud.instead = (response) => {
        cloud.instead = undefined;
        cloud.answers.push(404);
        response.writeHead(404).end();
      };
    }
    await using device = await startDevice({
      CLOUD_ENDPOINT: cloud.url,
      ...(tells === 'nothing' && { CLOUD_DEPLOY_POLL_MS: '1000' }),
    });
    await until(() => cloud.answers.length > 0);
    if (tells !== 'report') {
      expect(existsSync(join(device.dir, 'apps.json'))).toBe(false);
      cloud.want('v1', documentOf(release(1001, 'r1')));
    }
    await until(() => device.runs('r1'));
    expect(cloud.answers.filter((status) => status === 200)).toHaveLength(1);
    if (tells !== 'nothing') expect(cloud.answers).toEqual([404, 200]);
    expect(device.agent.state.target).toMatchObject({ version: 'v1', lastError: undefined });
  },
);

test('over MQTT a device hears that there is something new, and takes the document from its cloud', async () => {
  await using broker = await startMosquitto();
  await using cloud = await startTargetCloud();
  cloud.tells = 'nothing';
  await using cloudsClient = await publisher(broker.url);
  await using device = await startDevice({
    ...{ CLOUD_ENDPOINT: cloud.url, MQTT_BROKER: broker.url, MQTT_TOPIC: 'device/logs', MQTT_ACK: 'cloud' },
    ...{ MQTT_USERNAME: 'somebody' },
  });
  await until(() => cloud.answers.length > 0);
  await cloudsClient.publish('');
  await cloudsClient.publish('{"version":');
  cloud.want('v1', documentOf(release(1001, 'r1')));
  await cloudsClient.publish({ version: 'v1', state: documentOf(release(1001, 'forged')) });
  await until(() => device.runs('r1'));
  // An old one that the broker had kept.
  await cloudsClient.publish({ version: 'v0', state: documentOf() });
  await until(() => cloud.answers.includes(304));
  expect(await device.runs('r1')).toBe(true);
  expect(await device.runs('forged')).toBe(false);
});

test('a device that may be deployed over MQTT takes the document from there, and a large one from its cloud', async () => {
  await using broker = await startMosquitto();
  await using cloud = await startTargetCloud();
  cloud.tells = 'nothing';
  await using cloudsClient = await publisher(broker.url);
  // Retained: there before the device is.
  await cloudsClient.publish({ version: 'v1', state: documentOf(release(1001, 'r1')) });
  const settings = { MQTT_BROKER: broker.url, MQTT_USERNAME: 'somebody', CLOUD_DEPLOY: 'mqtt' };
  {
    await using device = await startDevice(settings);
    await until(() => device.runs('r1'));
    await cloudsClient.publish({ version: 'v2' });
    await cloudsClient.publish({ version: 'v3', state: documentOf(release(1001, 'r3')) });
    await until(() => device.runs('r3'));
  }
  await cloudsClient.publish({ version: 'v4' });
  cloud.want('v4', documentOf(release(1001, 'r4')));
  await using device = await startDevice({ ...settings, CLOUD_ENDPOINT: cloud.url });
  await until(() => device.runs('r4'));
});

test('a device that is not to be deployed to asks and hears nothing, and may change what came from the cloud', async () => {
  await using dir = await tempDir();
  await using cloud = await startTargetCloud();
  cloud.want('v1', documentOf(release(1001, 'r1')));
  cloud.tells = 'report';
  const start = (cloudDeploy: string) =>
    startDevice({ DATA_DIR: dir.path, CLOUD_ENDPOINT: cloud.url, CLOUD_DEPLOY: cloudDeploy });
  const deploy = (url: string) => {
    const body = JSON.stringify({ services: [web({ environment: { OWN: '1' } })] });
    return fetch(`${url}/v1/apps/1001`, { method: 'POST', body });
  };
  {
    await using device = await start('on');
    await until(() => device.runs('r1'));
    expect((await deploy(device.agent.deviceApiUrl)).status).toBe(409);
  }
  const asked = cloud.answers.length;
  {
    await using device = await start('off');
    await until(() => (device.agent.state.report?.reports ?? 0) > 0);
    expect(cloud.answers).toHaveLength(asked);
    expect(device.agent.state.target).toBeUndefined();
    expect(await device.runs('r1')).toBe(true);
    expect((await deploy(device.agent.deviceApiUrl)).status).toBe(202);
    expect(await device.runs('r1')).toBe(false);
  }
  // Back in the cloud's hands it is what its target says, though that is still the same.
  await using device = await start('on');
  await until(() => device.runs('r1'));
  await expect(startDevice({ CLOUD_DEPLOY: 'mqtt' })).rejects.toThrow(
    'CLOUD_DEPLOY="mqtt" is set, but not MQTT_BROKER',
  );
});

test('killed between hearing of a target and having written it down, a device has all of it in the end, or nothing', async () => {
  await using dir = await tempDir();
  let cloud = await startTargetCloud();
  const env = envOf(dir.path, { CLOUD_ENDPOINT: cloud.url });
  const saved = async () => {
    const path = join(dir.path, 'apps.json');
    if (!existsSync(path)) return undefined;
    return JSON.parse(await readFile(path, 'utf8')) as { apps: object[]; cloud: { version: string } };
  };
  cloud.want('v1', documentOf(release(1001, 'r1'), release(1002, 'r2')));
  // Instead of the answer, and then ever later behind it.
  let deaths = 0;
  for (let delayMs = 0; (await saved()) === undefined; delayMs = Math.max(10, delayMs * 2)) {
    await using life = startProgram([program], { env });
    const die = () => life.running && process.kill(life.pid, 'SIGKILL');
    cloud.instead = (response) => {
      if (delayMs === 0) return void die();
      cloud.instead = undefined;
      response.writeHead(200, { ETag: '"v1"' });
      response.end(JSON.stringify(documentOf(release(1001, 'r1'), release(1002, 'r2'))), () =>
        setTimeout(die, delayMs),
      );
    };
    await life.ended();
    deaths++;
  }
  expect(deaths).toBeGreaterThan(1);
  expect(await saved()).toMatchObject({
    apps: [
      { appId: 1001, releaseUuid: 'r1', outcome: 'pending' },
      { appId: 1002, releaseUuid: 'r2' },
    ],
    cloud: { version: 'v1', refused: [] },
  });
  // With no cloud in reach the last target goes on.
  const { port } = new URL(cloud.url);
  await cloud[Symbol.asyncDispose]();
  await using agent = await startAgent({ env, log });
  const { apps } = (await (await fetch(`${agent.deviceApiUrl}/v1/apps`)).json()) as { apps: object[] };
  expect(apps).toMatchObject([{ releaseUuid: 'r1', state: 'deploying' }, { releaseUuid: 'r2' }]);
  // And when it is back, it is asked no more than whether that is still so.
  cloud = await startTargetCloud({ port: Number(port) });
  cloud.want('v1', documentOf(release(1001, 'r1'), release(1002, 'r2')));
  await until(() => cloud.answers.length > 0, { timeoutMs: 30_000 });
  expect(cloud.answers).toEqual([304]);
  await cloud[Symbol.asyncDispose]();
});
