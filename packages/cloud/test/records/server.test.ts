import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type PostgresServer, startPostgres } from '../../../../tests/support/postgres.ts';
import { memoryDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { Identity } from '../../src/identity/identity.ts';
import { adminToken, joinKey, startTestCloud } from '../support/cloud.ts';
import { openRecords } from '../support/databases.ts';
import { batch, StreamClient } from '../support/stream-client.ts';

const cloudProcess = join(import.meta.dirname, '../support/cloud-process.ts');
let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server[Symbol.asyncDispose]());

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

interface CloudProcess extends AsyncDisposable {
  url: string;
}

async function startProcess(databaseUrl: string): Promise<CloudProcess> {
  const dir = await memoryDir();
  const child: ChildProcess = spawn(process.execPath, [cloudProcess], {
    env: {
      ...process.env,
      ...{ DATA_DIR: dir.path, DATABASE_URL: databaseUrl, CLOUD_HOST: '127.0.0.1' },
      ...{ CLOUD_PORT: '0', MQTT_PORT: '0', MQTT_WS_PORT: '0', ADMIN_TOKEN: adminToken, JOIN_KEY: joinKey },
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let printed = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    printed += text;
  });
  const dispose = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    await dir[Symbol.asyncDispose]();
  };
  try {
    await until(() => printed.includes('\n') || child.exitCode !== null, { what: 'the cloud to start' });
    expect(child.exitCode).toBeNull();
  } catch (error) {
    await dispose();
    throw error;
  }
  return { url: printed.trim(), [Symbol.asyncDispose]: dispose };
}

test('two clouds that start at once on an empty database share it', async () => {
  const url = await server.database();
  const [first, second] = await Promise.all([startProcess(url), startProcess(url)]);
  await using _first = first;
  await using _second = second;
  const registered = await fetch(`${first.url}/device/register`, {
    method: 'POST',
    headers: { ...bearer(joinKey), 'content-type': 'application/json' },
    body: JSON.stringify({ uuid: 'd1' }),
  });
  const { api_key: key } = (await registered.json()) as { api_key: string };
  using stream = new StreamClient({ url: second.url, uuid: 'd1', key, acks: true });
  stream.send(batch('journal01', 1, 3));
  await stream.acked(3);
  for (const { url: address } of [first, second]) {
    const answer = await fetch(`${address}/api/v1/devices`, { headers: bearer(adminToken) });
    expect(await answer.json()).toMatchObject({ devices: [{ uuid: 'd1', registered: true }] });
  }
});

test('of those that start at once, one makes the admin token, and all bring the tables up to date', async () => {
  const databaseUrl = await server.database();
  await using dir = await memoryDir();
  await using stack = new AsyncDisposableStack();
  for (let i = 0; i < 4; i++) await mkdir(join(dir.path, String(i)));
  const open = async () => stack.use(await openRecords({ dataDir: dir.path, databaseUrl }));
  const all = await Promise.all([open(), open(), open(), open()]);
  const identities = await Promise.all(
    all.map((records, i) =>
      Identity.open({ records, dataDir: join(dir.path, String(i)), joinKey: 'one key for all' }),
    ),
  );
  const made = identities.flatMap(({ newAdminToken }) => newAdminToken ?? []);
  expect(made).toHaveLength(1);
  for (const identity of identities) expect(await identity.isAdmin(made[0])).toBe(true);
});

test('while the server is away, what is open goes on and what is new is asked to wait', async () => {
  const databaseUrl = await server.database();
  await using cloud = await startTestCloud({ env: { DATABASE_URL: databaseUrl } });
  const key = await cloud.register('d1');
  using stream = new StreamClient({ url: cloud.url, uuid: 'd1', key, acks: true });
  stream.send(batch('journal01', 1, 3));
  await stream.acked(3);
  await server.kill();
  try {
    stream.send(batch('journal01', 4, 3));
    await stream.acked(6);
    const refused = await cloud.get('/api/v1/logs');
    expect([refused.status, await refused.json()]).toMatchObject([503, { code: 'RECORDS_FAILED' }]);
    using other = new StreamClient({ url: cloud.url, uuid: 'd1', key });
    expect(await other.status()).toBe(503);
    const health = await fetch(`${cloud.url}/healthz`);
    expect(await health.json()).toMatchObject({ checks: { records: 'failing', store: 'ok' } });
  } finally {
    await server.start();
  }
  await until(async () => (await cloud.get('/api/v1/logs')).ok, { what: 'the records to be back' });
  expect(await cloud.lines('d1', 6)).toHaveLength(6);
  expect((await fetch(`${cloud.url}/healthz`)).status).toBe(200);
  stream.send(batch('journal01', 7, 1));
  await stream.acked(7);
  expect(cloud.logged.join('')).not.toContain('a-password-nobody-may-see');
});

test('a server that does not answer is an error without its password', async () => {
  const nowhere = 'postgres://millrace:a-password-nobody-may-see@127.0.0.1:9/x';
  await using dir = await memoryDir();
  const opening = openRecords({ dataDir: dir.path, databaseUrl: nowhere });
  await expect(opening).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  await expect(opening).rejects.toThrow(/DATABASE_URL: 127.0.0.1:9 does not answer/);
  await expect(opening).rejects.not.toThrow(/nobody-may-see/);
});
