import { execFile } from 'node:child_process';
import { chmod, readdir, readlink, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { LogMessage } from '@millrace/wire';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { batch, StreamClient } from '../packages/cloud/test/support/stream-client.ts';
import { adminToken, joinKey } from './support/cloud.ts';
import { startEngine, type TestEngine } from './support/docker.ts';
import { importNode, nodeImage } from './support/node-image.ts';
import { freePort } from './support/ports.ts';
import { repository } from './support/programs.ts';
import { tempDir } from './support/tmp.ts';
import { until } from './support/wait.ts';

const agentImage = 'millrace-test/agent';

const cloudImage = 'millrace-test/cloud';
/** The embedded store is half a gigabyte: it is mounted, and not copied into the image and out of it again. */
const store = join(dirname(createRequire(import.meta.url).resolve('chdb/package.json')), '..');
const storeParts = ['chdb', `@chdb/lib-${process.platform}-${process.arch}-gnu`];

let engine: TestEngine;

beforeAll(async () => {
  engine = await startEngine();
  await importNode(engine.docker, [join(store, storeParts[1] as string, 'libchdb.so')]);
  await makeImage('agent', '--tag', agentImage);
  return () => engine[Symbol.asyncDispose]();
});

async function makeImage(program: string, ...options: string[]): Promise<void> {
  await promisify(execFile)(
    process.execPath,
    ['scripts/image.mjs', '--program', program, '--base', nodeImage, ...options],
    { cwd: repository, env: { ...process.env, DOCKER_HOST: engine.host, DOCKER_BUILDKIT: '0' } },
  );
}

interface AgentRun {
  user?: string;
  env?: string[];
  binds?: string[];
  capabilities?: string[];
}

/** Runs the image as deploy/agent/compose.yaml does, and asks its API from the machine. */
async function runAgent({ user, env = [], binds = [], capabilities = [] }: AgentRun) {
  const port = await freePort();
  const { gid } = await stat(engine.socketPath);
  const container = await engine.docker.createContainer({
    Image: agentImage,
    ...(user && { User: user }),
    Env: [`DEVICE_API_PORT=${port}`, `API_PORT=${await freePort()}`, ...env],
    HostConfig: {
      NetworkMode: 'host',
      ReadonlyRootfs: true,
      CapDrop: ['ALL'],
      CapAdd: capabilities,
      SecurityOpt: ['no-new-privileges:true'],
      GroupAdd: [String(gid)],
      Binds: [`${engine.socketPath}:/var/run/docker.sock`, ...binds],
      RestartPolicy: { Name: 'always' },
    },
  });
  onTestFinished(() => container.remove({ force: true, v: true }));
  await container.start();
  const get = async (path: string): Promise<unknown> => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`).catch(() => undefined);
    return response?.ok ? response.json() : undefined;
  };
  await until(async () => get('/v1/device'), {
    what: () => `the agent's API to answer on port ${port}`,
  });
  const post = async (path: string, body: string): Promise<unknown> =>
    (await fetch(`http://127.0.0.1:${port}${path}`, { method: 'POST', body })).json();
  return {
    container,
    get,
    post,
    /** What containers said; the agent's own lines are there, too. */
    messages: async () => {
      const { logs } = (await get('/v1/logs?limit=1000')) as { logs: LogMessage[] };
      return logs.filter(({ source }) => source.type === 'container').map(({ message }) => message);
    },
  };
}

test('the image runs without root, with nothing to write to but its volume, and keeps what it has over a restart', async () => {
  const agent = await runAgent({});
  const printer = await engine.run({ cmd: ['sh', '-c', 'echo one; echo two; sleep 600'] });
  onTestFinished(() => printer.remove({ force: true }));
  await until(async () => (await agent.messages()).includes('two'));
  const { State } = await agent.container.inspect();
  expect((await stat(`/proc/${State.Pid}`)).uid).toBe(65532);

  await agent.container.restart();
  await until(async () => agent.get('/v1/device'));
  const more = await engine.run({ cmd: ['echo', 'three'] });
  onTestFinished(() => more.remove({ force: true }));
  await until(async () => (await agent.messages()).includes('three'));
  // Nothing twice, and nothing of its own container.
  expect(await agent.messages()).toEqual(['one', 'two', 'three']);
}, 120_000);

test('with the log files mounted it reads those', async () => {
  const printer = await engine.run({ cmd: ['sh', '-c', 'echo from a file; sleep 600'] });
  onTestFinished(() => printer.remove({ force: true }));
  const { LogPath } = await printer.inspect();
  const folder = dirname(dirname(LogPath));
  const agent = await runAgent({
    user: '0:0',
    binds: [`${folder}:${folder}:ro`],
    capabilities: ['DAC_OVERRIDE'],
  });
  await until(async () => (await agent.messages()).includes('from a file'));
  const { State } = await agent.container.inspect();
  const fds = `/proc/${State.Pid}/fd`;
  const open = await Promise.all(
    // What was closed meanwhile is none of these.
    (await readdir(fds)).map((fd) => readlink(join(fds, fd)).catch(() => '')),
  );
  expect(open).toContainEqual(expect.stringMatching(/-json\.log$/));
}, 120_000);

test('rules work, and a compose file is read, though there is nothing but the bundle', async () => {
  await using dir = await tempDir();
  await chmod(dir.path, 0o755);
  await writeFile(join(dir.path, 'rules.yaml'), "rules:\n  - drop: ['^noise']\n");
  const agent = await runAgent({
    env: ['SHAPING_FILE=/rules/rules.yaml'],
    binds: [`${dir.path}:/rules:ro`],
  });
  const printer = await engine.run({ cmd: ['sh', '-c', 'echo noise; echo signal; sleep 600'] });
  onTestFinished(() => printer.remove({ force: true }));
  await until(async () => (await agent.messages()).includes('signal'));
  expect(await agent.messages()).toEqual(['signal']);
  const answer = await agent.post('/v1/apps/7/compose', 'services: {web: {image: shop, build: .}}');
  expect(answer).toMatchObject({
    code: 'APP_INVALID',
    detail: expect.stringContaining('services.web.build'),
  });
}, 120_000);

test('without the socket it says so, and what to do', async () => {
  const container = await engine.docker.createContainer({
    Image: agentImage,
    Env: [`DEVICE_API_PORT=${await freePort()}`, `API_PORT=${await freePort()}`],
    HostConfig: { NetworkMode: 'host' },
  });
  onTestFinished(() => container.remove({ force: true, v: true }));
  await container.start();
  await until(async () =>
    /ENGINE_UNREACHABLE/.test(String(await container.logs({ stdout: true, stderr: true }))),
  );
}, 60_000);

test('the image of the cloud runs without root on a read-only file system, is healthy, stores, and ends in order', async () => {
  await makeImage('cloud', '--without-store', '--tag', cloudImage);
  const [port, mqttPort, wsPort] = [await freePort(), await freePort(), await freePort()];
  const container = await engine.docker.createContainer({
    Image: cloudImage,
    Env: [
      ...[`CLOUD_PORT=${port}`, `MQTT_PORT=${mqttPort}`, `MQTT_WS_PORT=${wsPort}`],
      ...[`ADMIN_TOKEN=${adminToken}`, `JOIN_KEY=${joinKey}`],
    ],
    // The image's own check, but every second: nobody waits for half a minute here.
    Healthcheck: { Test: [], Interval: 1_000_000_000 },
    HostConfig: {
      NetworkMode: 'host',
      ReadonlyRootfs: true,
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges:true'],
      Binds: storeParts.map((part) => `${join(store, part)}:/millrace/node_modules/${part}:ro`),
    },
  });
  onTestFinished(() => container.remove({ force: true, v: true }));
  const url = `http://127.0.0.1:${port}`;
  const started = async () => {
    await container.start();
    const logs = async () => String(await container.logs({ stdout: true, stderr: true }));
    let output = '';
    await until(
      async () => {
        output = await logs();
        return fetch(`${url}/healthz`).then(
          ({ ok }) => ok,
          () => false,
        );
      },
      { timeoutMs: 60_000, what: () => `the cloud to be healthy: ${output}` },
    );
  };
  await started();
  expect((await stat(`/proc/${(await container.inspect()).State.Pid}`)).uid).toBe(1000);

  const registered = await fetch(`${url}/device/register`, {
    method: 'POST',
    headers: { authorization: `Bearer ${joinKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ uuid: 'device-1' }),
  });
  const { api_key: key } = (await registered.json()) as { api_key: string };
  using stream = new StreamClient({ url, uuid: 'device-1', key, acks: true });
  stream.send(batch('journal01', 1, 20));
  await stream.acked(20);
  await until(async () => (await container.inspect()).State.Health?.Status === 'healthy', {
    timeoutMs: 60_000,
    what: 'the engine to find it healthy',
  });
  stream.send(batch('journal01', 21, 5));
  // It commits and acknowledges what it has read, and the process ends by itself.
  await container.stop({ t: 10 });
  await stream.acked(25);
  expect((await container.inspect()).State.ExitCode).toBe(0);

  await started();
  const found = await fetch(`${url}/api/v1/logs?device=device-1&query=line&limit=100`, {
    headers: { authorization: `Bearer ${adminToken}` },
  });
  expect(((await found.json()) as { logs: unknown[] }).logs).toHaveLength(25);
}, 180_000);
