import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { freePort } from '../../../tests/support/ports.ts';
import { repository, startProgram } from '../../../tests/support/programs.ts';
import { tempDir } from '../../../tests/support/tmp.ts';
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

test('the agent runs from its bundle alone', async () => {
  await using dir = await tempDir();
  const dist = join(dir.path, 'dist');
  await using build = startProgram(['scripts/build.mjs', dist]);
  expect(await build.ended(), build.stderr).toMatchObject({ code: 0 });
  expect(readdirSync(join(dist, 'compiled'))).toHaveLength(1);
  cpSync(join(repository, 'packages/millrace/package.json'), join(dir.path, 'package.json'));
  cpSync(join(repository, 'packages/millrace/bin'), join(dir.path, 'bin'), { recursive: true });
  writeFileSync(join(dist, 'agent.inputs.json'), '[]');
  await using install = startProgram(['bin/millrace.mjs', 'agent', 'install', '--user', '--dry-run'], {
    cwd: dir.path,
  });
  expect(await install.ended(), install.stderr).toMatchObject({ code: 0 });
  expect(install.stdout).toContain('/bin/millrace.mjs" agent\n');
  const shapingFile = join(dir.path, 'shaping.yaml');
  writeFileSync(shapingFile, "rules:\n  - drop: ['^noise']\n");
  const [apiPort, brokerPort] = [await freePort(), await freePort()];
  using engine = emptyEngine(dir.path);
  // No folder of dependencies is in reach from there, and no source. Each library that lies beside is asked for.
  await using agent = startProgram(['bin/millrace.mjs', 'agent'], {
    cwd: dir.path,
    env: {
      DATA_DIR: join(dir.path, 'data'),
      DOCKER_HOST: engine.host,
      SHAPING_FILE: shapingFile,
      MQTT_BROKER: `mqtt://127.0.0.1:${brokerPort}`,
      DEVICE_API_PORT: String(apiPort),
      API_PORT: String(await freePort()),
    },
  });
  await agent.says('agent started');
  await agent.says(`ECONNREFUSED 127.0.0.1:${brokerPort}`);
  const metrics = await fetch(`http://127.0.0.1:${apiPort}/metrics`);
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
