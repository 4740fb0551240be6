import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { freePort } from '../../../tests/support/ports.ts';
import { repository, startProgram } from '../../../tests/support/programs.ts';
import { type TempDir, tempDir } from '../../../tests/support/tmp.ts';
import { until } from '../../../tests/support/wait.ts';
import { freshBundle } from '../bin/bundle.mjs';

test('a bundle is used only while none of its sources has changed or is gone', async () => {
  await using dir = await tempDir();
  const dist = join(dir.path, 'dist');
  mkdirSync(dist);
  expect(freshBundle(dist)).toBeUndefined();
  writeFileSync(join(dir.path, 'a.ts'), '');
  writeFileSync(join(dist, 'agent.inputs.json'), '["../a.ts"]');
  expect(freshBundle(dist)).toBeUndefined();
  const bundle = join(dist, 'agent.cjs');
  writeFileSync(bundle, '');
  utimesSync(bundle, 2000, 2000);
  utimesSync(join(dir.path, 'a.ts'), 2000, 2000);
  expect(freshBundle(dist)).toBe(bundle);
  utimesSync(join(dir.path, 'a.ts'), 2001, 2001);
  expect(freshBundle(dist)).toBeUndefined();
  utimesSync(join(dir.path, 'a.ts'), 1999, 1999);
  expect(freshBundle(dist)).toBe(bundle);
  rmSync(join(dir.path, 'a.ts'));
  expect(freshBundle(dist)).toBeUndefined();
});

/** The bundle and what starts it, with no folder of dependencies in reach, and no source. */
let alone: TempDir;
beforeAll(async () => {
  alone = await tempDir();
  const dist = join(alone.path, 'dist');
  await using build = startProgram(['scripts/build.mjs', dist]);
  expect(await build.ended(), build.stderr).toMatchObject({ code: 0 });
  expect(readdirSync(join(dist, 'compiled'))).toHaveLength(1);
  cpSync(join(repository, 'packages/millrace/package.json'), join(alone.path, 'package.json'));
  cpSync(join(repository, 'packages/millrace/bin'), join(alone.path, 'bin'), { recursive: true });
  writeFileSync(join(dist, 'agent.inputs.json'), '[]');
});
afterAll(() => alone?.[Symbol.asyncDispose]());

test('the agent runs from its bundle alone', async () => {
  await using dir = await tempDir();
  await using install = startProgram(['bin/millrace.mjs', 'agent', 'install', '--user', '--dry-run'], {
    cwd: alone.path,
  });
  expect(await install.ended(), install.stderr).toMatchObject({ code: 0 });
  expect(install.stdout).toContain('/bin/millrace.mjs" agent\n');
  const shapingFile = join(dir.path, 'shaping.yaml');
  writeFileSync(shapingFile, "rules:\n  - drop: ['^noise']\n");
  const brokerPort = await freePort();
  using engine = emptyEngine(dir.path);
  const settings = await settingsFor(dir.path, engine.host);
  // Each library that lies beside is asked for.
  await using agent = startProgram(['bin/millrace.mjs', 'agent'], {
    cwd: alone.path,
    env: { ...settings, SHAPING_FILE: shapingFile, MQTT_BROKER: `mqtt://127.0.0.1:${brokerPort}` },
  });
  await agent.says('agent started');
  await agent.says(`ECONNREFUSED 127.0.0.1:${brokerPort}`);
  const metrics = await fetch(`http://127.0.0.1:${settings.DEVICE_API_PORT}/metrics`);
  expect(await metrics.text()).toContain('millrace_agent_lines_total');
  expect(readFileSync(`/proc/${agent.pid}/cmdline`, 'utf8')).toContain('bin/bundled.cjs');
  // And so is what runs in a process of its own.
  let containers = 0;
  await until(() => {
    engine.addContainer(String(containers++).padStart(64, '0'), { 'max-size': '100k', 'max-file': '3' });
    return childrenOf(agent.pid).some((command) => command.includes('/log-holder.cjs'));
  });
  expect((await agent.end('SIGTERM')).code).toBe(0);
});

test('an agent loads no part of Node that it has no use for', async () => {
  await using dir = await tempDir();
  const list = join(dir.path, 'modules.json');
  const writesList = join(dir.path, 'writes-list.cjs');
  writeFileSync(
    writesList,
    `process.on('exit', () =>
      require('node:fs').writeFileSync(${JSON.stringify(list)}, JSON.stringify(process.moduleLoadList)));`,
  );
  using engine = emptyEngine(dir.path);
  await using agent = startProgram(['bin/millrace.mjs', 'agent'], {
    cwd: alone.path,
    env: {
      ...(await settingsFor(dir.path, engine.host)),
      CLOUD_ENDPOINT: `http://127.0.0.1:${await freePort()}`,
      CLOUD_API_KEY: 'test',
      NODE_OPTIONS: `--require=${writesList}`,
    },
  });
  await agent.says('agent started');
  await agent.says('CLOUD_UNREACHABLE');
  expect((await agent.end('SIGTERM')).code).toBe(0);
  const loaded = (JSON.parse(readFileSync(list, 'utf8')) as string[]).flatMap(
    (entry) => /^NativeModule (.*)/.exec(entry)?.[1] ?? [],
  );
  expect(loaded).toContain('http');
  const unused = ['assert', 'http2', 'https', 'readline', 'tls', 'worker_threads'];
  const behind = ['internal/deps/undici/undici', 'internal/modules/esm/hooks', 'internal/worker'];
  expect(loaded.filter((name) => [...unused, ...behind].includes(name))).toEqual([]);
});

async function settingsFor(dir: string, dockerHost: string) {
  const ports = { DEVICE_API_PORT: String(await freePort()), API_PORT: String(await freePort()) };
  return { DATA_DIR: join(dir, 'data'), DOCKER_HOST: dockerHost, ...ports };
}

/** Their command lines. */
function childrenOf(pid: number): string[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean);
  return children.map((child) => readFileSync(`/proc/${child}/cmdline`, 'utf8').replaceAll('\0', ' '));
}

/** An engine by what it says of itself, in whose folder containers are made that are not started. */
function emptyEngine(dir: string) {
  const root = join(dir, 'docker');
  mkdirSync(join(root, 'containers'), { recursive: true });
  const socketPath = join(dir, 'docker.sock');
  const server = createServer(({ url = '' }, response) => {
    if (url.includes('/events')) response.writeHead(200).flushHeaders();
    else if (url.includes('/info')) response.end(JSON.stringify({ DockerRootDir: root }));
    else if (url.includes('/containers/json')) response.end('[]');
    else response.end('OK');
  }).listen(socketPath);
  return {
    host: `unix://${socketPath}`,
    addContainer(id: string, logOptions: Record<string, string>) {
      const folder = join(root, 'containers', id);
      mkdirSync(folder);
      const config = { LogConfig: { Type: 'json-file', Config: logOptions } };
      writeFileSync(join(folder, 'hostconfig.json'), JSON.stringify(config));
    },
    [Symbol.dispose]() {
      server.close();
      server.closeAllConnections();
    },
  };
}
