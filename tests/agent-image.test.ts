import { execFile } from 'node:child_process';
import { chmod, copyFile, mkdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { LogMessage } from '@millrace/wire';
import type Docker from 'dockerode';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { startEngine, type TestEngine } from './support/docker.ts';
import { outputOf, streamOf } from './support/docker-processes.ts';
import { freePort } from './support/ports.ts';
import { repository } from './support/programs.ts';
import { tempDir } from './support/tmp.ts';
import { until } from './support/wait.ts';

const nodeImage = 'millrace-test/node';
const agentImage = 'millrace-test/agent';

let engine: TestEngine;

beforeAll(async () => {
  engine = await startEngine();
  await importNode(engine.docker);
  await promisify(execFile)(
    process.execPath,
    ['scripts/image.mjs', '--tag', agentImage, '--base', nodeImage],
    { cwd: repository, env: { ...process.env, DOCKER_HOST: engine.host, DOCKER_BUILDKIT: '0' } },
  );
  return () => engine[Symbol.asyncDispose]();
});

/** This Node with the libraries it is linked to, and nothing else: no registry is asked for an image. */
async function importNode(docker: Docker): Promise<void> {
  await using dir = await tempDir();
  const linked = await outputOf('ldd', [process.execPath]);
  const libraries = [...linked.matchAll(/(\/\S+\.so[.\d]*)/g)].map(([, path]) => path as string);
  for (const [from, to] of [
    [process.execPath, '/usr/bin/node'],
    ...libraries.map((path) => [path, path]),
  ] as [string, string][]) {
    await mkdir(join(dir.path, dirname(to)), { recursive: true });
    await copyFile(from, join(dir.path, to));
  }
  const tar = streamOf('tar', ['-C', dir.path, '-c', '.']);
  const options = { repo: nodeImage, tag: 'latest', changes: 'ENV PATH=/usr/bin' };
  const progress = await docker.importImage(tar, options);
  await new Promise<void>((resolve, reject) =>
    docker.modem.followProgress(progress, (error: Error | null) => (error ? reject(error) : resolve())),
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
  const open = await outputOf('find', [`/proc/${State.Pid}/fd`, '-lname', `*-json.log`, '-printf', '%l\n']);
  expect(open).toContain('-json.log');
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
