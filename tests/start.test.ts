import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { startEngine } from './support/docker.ts';
import { mosquittoSub } from './support/mosquitto.ts';
import { freePort } from './support/ports.ts';
import { millrace, type Program, startProgram } from './support/programs.ts';
import { copyEmptyRecords } from './support/records-template.ts';
import { memoryDir, tempDir } from './support/tmp.ts';
import { until } from './support/wait.ts';

/** `npm start` on free ports and a folder of its own, without a Docker engine. */
async function settingsFor(dataDir: string): Promise<Record<string, string>> {
  return {
    DATA_DIR: dataDir,
    CLOUD_PORT: String(await freePort()),
    MQTT_PORT: String(await freePort()),
    MQTT_WS_PORT: String(await freePort()),
    DEVICE_API_PORT: String(await freePort()),
    API_PORT: String(await freePort()),
    DOCKER_HOST: `unix://${dataDir}/no-docker.sock`,
  };
}

/** A folder for a start that is not the first: it has its database. */
async function usedDir() {
  const dir = await memoryDir();
  await copyEmptyRecords(dir.path);
  return dir;
}

/** What a newcomer types. */
function npmStart(env: Record<string, string>): Program {
  return startProgram(['start'], { env, command: 'npm' });
}

/** What that runs, with whatever Node the system has. */
function startUp(env: Record<string, string>): Program {
  return startProgram(['scripts/run.mjs', 'millrace', 'up'], { env, command: systemNode });
}

/** The Node that this machine has, and not the project's own, which PATH has in front under npm. */
const systemNode =
  (process.env.PATH ?? '')
    .split(delimiter)
    .filter((folder) => !folder.includes('node_modules'))
    .map((folder) => join(folder, 'node'))
    .find((path) => existsSync(path)) ?? process.execPath;

async function logs(
  env: Record<string, string>,
  ...args: string[]
): Promise<{ code: number | null; program: Program }> {
  const program = startProgram(millrace('logs', ...args), { env });
  return { program, code: (await program.ended()).code };
}

test('a start shows where everything is, ships its own log without Docker, and stops and starts again', async () => {
  await using dir = await tempDir();
  const env = await settingsFor(dir.path);
  let token = '';
  {
    await using up = npmStart(env);
    await up.says('Ctrl-C stops it.');
    for (const text of [
      `http://127.0.0.1:${env.CLOUD_PORT}`,
      `mqtt://127.0.0.1:${env.MQTT_PORT}`,
      `ws://127.0.0.1:${env.MQTT_WS_PORT}`,
      `http://127.0.0.1:${env.DEVICE_API_PORT}/v1/logs`,
      dir.path,
      'Docker       not found; trying again',
      'npx millrace logs -f',
      `mosquitto_sub -p ${env.MQTT_PORT} -t 'container-manager/logs/#' -v`,
    ]) {
      expect(up.stdout).toContain(text);
    }
    token = /Admin token +(\S{40,})/.exec(up.stdout)?.[1] ?? '';
    expect(token).not.toBe('');
    expect((await stat(join(dir.path, 'cli-token'))).mode & 0o777).toBe(0o600);

    // Its own log is there by every way: the command, the API of the device, MQTT.
    await until(async () => (await logs(env, 'agent', 'started')).program.stdout.includes('agent started'));
    const device = await fetch(`http://127.0.0.1:${env.DEVICE_API_PORT}/v1/logs`);
    expect(await device.text()).toContain('agent started');
    const api = await fetch(`http://127.0.0.1:${env.API_PORT}/api/v1/logs`);
    expect(await api.text()).toContain('agent started');
    const admin = await fetch(`http://127.0.0.1:${env.CLOUD_PORT}/api/v1/devices`, {
      headers: { authorization: `Bearer ${token}` },
    });
    expect(admin.status).toBe(200);
    const url = `mqtt://127.0.0.1:${env.MQTT_PORT}`;
    await using status = await mosquittoSub({ url }, 'device/+/status');
    await until(() => status.messages.some(({ payload }) => JSON.parse(payload).online === true));

    expect((await up.end('SIGINT')).code).toBe(0);
    expect(up.stdout + up.stderr).not.toMatch(/did not (answer|stop in time)/);
  }
  {
    await using up = startUp(env);
    await up.says('Ctrl-C stops it.');
    expect(up.stdout).not.toContain('Admin token');
    // The lines of both starts, each once.
    const starts = async () => (await logs(env, 'agent', 'started')).program.stdout.trim().split('\n');
    await until(async () => (await starts()).length >= 2);
    expect(await starts()).toHaveLength(2);
    expect((await up.end('SIGTERM')).code).toBe(0);
  }
});

test('with a Docker engine, what containers print is followed, and is on MQTT as plain JSON', async () => {
  await using dir = await usedDir();
  await using engine = await startEngine();
  await engine.run({
    name: 'web',
    cmd: ['sh', '-c', 'echo before; sleep 600'],
    labels: { 'millrace.app-id': '1001' },
  });
  const env: Record<string, string> = { ...(await settingsFor(dir.path)), DOCKER_HOST: engine.host };
  await using up = startUp(env);
  await up.says('Ctrl-C stops it.');
  expect(up.stdout).toContain('attached to 1 container,');
  expect(up.stdout).toContain('docker run --rm --name hello busybox');

  await using subscriber = await mosquittoSub(
    { url: `mqtt://127.0.0.1:${env.MQTT_PORT}` },
    'container-manager/logs/+/+/error',
  );
  await using follower = startProgram(millrace('logs', '-f', '--service', 'hello'), { env });
  await engine.run({
    name: 'hello',
    cmd: ['sh', '-c', 'echo one; echo two >&2; sleep 600'],
    labels: { 'millrace.app-id': '7' },
  });
  await follower.says(/hello info {2}one\n/);
  await follower.says(/hello error two\n/);
  await until(() => subscriber.messages.length > 0);
  const [{ topic, payload } = { topic: '', payload: '' }] = subscriber.messages;
  expect(topic).toBe('container-manager/logs/7/hello/error');
  expect(JSON.parse(payload)).toMatchObject({
    id: expect.stringMatching(/^[0-9a-z]+-\d+$/),
    message: 'two',
    timestamp: expect.any(Number),
    level: 'error',
    source: { type: 'container', name: 'hello' },
    serviceName: 'hello',
    containerId: expect.stringMatching(/^[0-9a-f]{64}$/),
    isStdErr: true,
    isSystem: false,
  });
  expect((await logs(env, '--service', 'web')).program.stdout).toMatch(/web info {2}before\n$/);
  expect((await follower.end('SIGINT')).code).toBe(0);
  expect((await up.end('SIGINT')).code).toBe(0);
});

test('Ctrl-C at once, in the middle of the start, still ends it cleanly', async () => {
  await using dir = await usedDir();
  await using up = startUp(await settingsFor(dir.path));
  await up.says('schema step applied');
  expect((await up.end('SIGINT')).code).toBe(0);
});

describe('what is wrong is told by name, at once, with exit code 1', () => {
  const ports = ['CLOUD_PORT', 'MQTT_PORT', 'MQTT_WS_PORT', 'DEVICE_API_PORT', 'API_PORT'];

  test('ports that are taken, all of them', async () => {
    await using dir = await tempDir();
    const env = await settingsFor(dir.path);
    const servers = ports.map((name) => createServer().listen(Number(env[name]), '0.0.0.0'));
    await Promise.all(servers.map((server) => once(server, 'listening')));
    try {
      await using up = startUp(env);
      expect((await up.ended()).code).toBe(1);
      expect(up.stderr).toContain('(PORT_TAKEN)');
      for (const name of ports) expect(up.stderr).toContain(`${name} ${env[name]} is taken`);
      expect(up.stderr).not.toContain('    at ');
    } finally {
      for (const server of servers) server.close();
    }
  });

  test('a port that is meant for two things', async () => {
    await using dir = await tempDir();
    const env = await settingsFor(dir.path);
    await using up = startUp({ ...env, MQTT_PORT: env.CLOUD_PORT as string });
    expect((await up.ended()).code).toBe(1);
    expect(up.stderr).toContain(`MQTT_PORT ${env.CLOUD_PORT} is the same as CLOUD_PORT`);
  });

  test('wrong values, all of them, and no secret', async () => {
    await using dir = await tempDir();
    const env = await settingsFor(dir.path);
    await using up = startUp({
      ...env,
      CLOUD_PORT: 'eighty',
      MQTT_QOS: '3',
      ADMIN_TOKEN: 'hunter2',
      LOG_LEVEL: 'info',
    });
    expect((await up.ended()).code).toBe(1);
    expect(up.stderr).toMatch(/CLOUD_PORT="eighty": must be/);
    expect(up.stderr).toMatch(/MQTT_QOS="3": must be/);
    expect(up.stderr).toMatch(/ADMIN_TOKEN: must have at least 16/);
    expect(up.stderr).not.toContain('hunter2');
  });

  test('a data folder that cannot be made, or is in use', async () => {
    await using dir = await usedDir();
    const env = await settingsFor(dir.path);
    await using file = startUp({ ...env, DATA_DIR: '/dev/null/x' });
    expect((await file.ended()).code).toBe(1);
    expect(file.stderr).toContain('(DATA_DIR_UNUSABLE)');

    await using first = startUp(env);
    await first.says('Ctrl-C stops it.');
    await using second = startUp({ ...(await settingsFor(dir.path)), DATA_DIR: dir.path });
    expect((await second.ended()).code).toBe(1);
    expect(second.stderr).toContain('(DATA_DIR_UNUSABLE)');
    expect((await first.end('SIGINT')).code).toBe(0);
  });

  test('a wrong command line is code 2', async () => {
    for (const args of [['fly'], ['up', '--fast'], ['logs', '--stream', 'stdin']]) {
      await using program = startProgram(millrace(...args));
      expect((await program.ended()).code).toBe(2);
      expect(program.stderr).toMatch(/error: .*\n/);
    }
  });
});

test('millrace runs when an older Node starts it, and from any folder', async () => {
  await using dir = await tempDir();
  await using older = startProgram(millrace('logs'), { command: systemNode, cwd: dir.path });
  expect((await older.ended()).code).toBe(1);
  expect(older.stderr).toContain('(TOKEN_UNUSABLE)');
});

test('every environment variable is in --help', async () => {
  await using program = startProgram(millrace('up', '--help'));
  expect((await program.ended()).code).toBe(0);
  for (const name of [
    'DATA_DIR',
    'CLOUD_PORT',
    'MQTT_BROKER',
    'JOIN_KEY',
    'CLICKHOUSE_URL',
    'DEVICE_API_PORT',
  ]) {
    expect(program.stdout).toMatch(new RegExp(`^  ${name} `, 'm'));
  }
});
