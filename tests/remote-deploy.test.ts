import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { joinKey, startTestAgent, startTestCloud, type TestCloud } from './support/cloud.ts';
import { busyboxImage, startEngine, type TestEngine } from './support/docker.ts';
import { millrace, startProgram } from './support/programs.ts';
import { tempDir } from './support/tmp.ts';
import { until } from './support/wait.ts';

/** Real agents with engines of their own, a cloud, and the command between people and them. */
const uuids = ['till-1', 'till-2'] as const;
let dir: Awaited<ReturnType<typeof tempDir>>;
let cloud: TestCloud;
const engines = new Map<string, TestEngine>();
const site = new AsyncDisposableStack();

beforeAll(async () => {
  dir = site.use(await tempDir());
  const started = await Promise.all([
    startTestCloud(dir.path),
    ...uuids.map(async () => {
      const engine = await startEngine();
      await engine.buildBusybox();
      return engine;
    }),
  ]);
  cloud = site.use(started[0] as TestCloud);
  await call('POST', '/fleets', { name: 'tills' });
  for (const [i, uuid] of uuids.entries()) {
    const engine = site.use(started[i + 1] as TestEngine);
    engines.set(uuid, engine);
    site.use(
      await startTestAgent(join(dir.path, uuid), {
        ...{ DEVICE_UUID: uuid, DOCKER_HOST: engine.host, CLOUD_ENDPOINT: cloud.url, JOIN_KEY: joinKey },
        ...{ APPS_STABLE_MS: '300', APPS_HEALTHY_MS: '60000' },
      }),
    );
    await until(
      async () => (await devices()).some((device) => device.uuid === uuid && device.reportedAt !== null),
      {
        what: `${uuid} to report`,
      },
    );
    await call('PATCH', `/devices/${uuid}`, { fleet: 'tills', name: `Till ${i + 1}` });
  }
}, 180_000);
afterAll(() => site.disposeAsync());

async function call(method: string, path: string, body: object): Promise<void> {
  const response = await fetch(`${cloud.url}/api/v1${path}`, {
    method,
    headers: { authorization: 'Bearer an-admin-token-for-tests', 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
}

interface Device {
  uuid: string;
  reportedAt: number | null;
  apps: { name: string; status: string }[];
}
const devices = async () => (await cloud.get<{ devices: Device[] }>('/api/v1/devices')).devices;

async function run(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const program = startProgram(millrace(...args), { env: { DATA_DIR: dir.path, MILLRACE_URL: cloud.url } });
  const { code } = await program.ended();
  return { code, stdout: program.stdout, stderr: program.stderr };
}

async function compose(name: string, command: string): Promise<string> {
  const path = join(dir.path, name);
  const service = { image: busyboxImage, command: ['sh', '-c', command], restart: 'no' };
  await writeFile(path, `name: shop\nservices:\n  web: ${JSON.stringify(service)}\n`);
  return path;
}

/** What the containers of the app on a device that run were started with. */
async function running(uuid: string): Promise<string[]> {
  const all = (await engines.get(uuid)?.docker.listContainers()) ?? [];
  return all.map(({ Command }) => Command);
}
const stays = (word: string) => `trap "exit 0" TERM; echo ${word}; sleep 100000 & wait`;

test('what is deployed from the cloud runs on the devices, or does not, and the cloud knows', async () => {
  const rolled = await run('deploy', 'tills', await compose('one.yaml', stays('one')), '--batch', '1');
  expect(rolled, rolled.stdout + rolled.stderr).toMatchObject({ code: 0 });
  expect(rolled.stdout).toMatch(
    /Till 1: updating[\s\S]*Till 1: done[\s\S]*Till 2: updating[\s\S]*Till 2: done[\s\S]*done: 2 of 2 devices done\n$/,
  );
  for (const uuid of uuids) expect(await running(uuid)).toEqual([expect.stringContaining('echo one')]);

  // One that does not stay up: the first device goes back to what it had, and the second is never asked.
  const broken = await run(
    'deploy',
    'tills',
    await compose('broken.yaml', 'echo two; exit 3'),
    '--batch',
    '1',
  );
  expect(broken, broken.stdout + broken.stderr).toMatchObject({ code: 1 });
  expect(broken.stdout).toMatch(/stopped: 1 device failed, and at most 0 may; till-1: SERVICE_UNWELL: /);
  for (const uuid of uuids) {
    await until(async () => (await running(uuid)).some((command) => command.includes('echo one')), {
      what: `${uuid} to run what it had`,
    });
  }
  const seen = await run('device', 'Till 1');
  expect(seen.stdout).toMatch(
    /shop \(\d+\): release \w{8} of the fleet, runs \w{8}: failed \(rejected\)\n {4}SERVICE_UNWELL: /,
  );
  expect(seen.stdout).toMatch(/web {2}(Starting|Running) {2}/);
  expect((await run('devices', '--fleet', 'tills')).stdout).toMatch(
    /Till 1 +till-1 +tills +online .* shop \w{8} rejected/,
  );

  // One device for itself, over what its fleet has.
  const own = await run('deploy', 'till-2', await compose('three.yaml', stays('three')));
  expect(own, own.stdout + own.stderr).toMatchObject({ code: 0 });
  expect(await running('till-2')).toEqual([expect.stringContaining('echo three')]);
  const lines = await cloud.linesOf('web');
  expect(lines.map(({ message }) => message)).toEqual(expect.arrayContaining(['one', 'two', 'three']));
  const [first] = await devices();
  expect(first).toMatchObject({ uuid: 'till-1', apps: [{ name: 'shop', status: 'rejected' }] });
}, 240_000);
