import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import pino from 'pino';
import { expect, test } from 'vitest';
import { startClickHouseCluster } from '../../../../tests/support/clickhouse.ts';
import { startMosquitto } from '../../../../tests/support/mosquitto.ts';
import { startPostgres } from '../../../../tests/support/postgres.ts';
import { memoryDir } from '../../../../tests/support/tmp.ts';
import { type CheckResult, checkCloud } from '../../src/check/check.ts';
import { startTestCloud } from '../support/cloud.ts';
import { openRecords } from '../support/databases.ts';

const log = pino({ level: 'silent' });
const onFreePorts = { CLOUD_HOST: '127.0.0.1', CLOUD_PORT: '0', MQTT_PORT: '0', MQTT_WS_PORT: '0' };
const secret = 'a-password-nobody-may-see';

async function check(env: Record<string, string>): Promise<Record<string, CheckResult>> {
  const results = await checkCloud({ env: { ...onFreePorts, ...env }, log });
  expect(JSON.stringify(results)).not.toContain(secret);
  for (const { state, action } of results) if (state !== 'ok') expect(action).toBeTruthy();
  return Object.fromEntries(results.map((result) => [result.part, result]));
}

test('before a first start all is well, and nothing is made', async () => {
  await using dir = await memoryDir();
  const dataDir = join(dir.path, 'not', 'there');
  const found = await check({ DATA_DIR: dataDir });
  expect(Object.values(found).map(({ state }) => state)).not.toContain('failed');
  expect(found['data folder']?.detail).toMatch(/will be made/);
  expect(found['log store']?.detail).toMatch(/will be made/);
  expect(found.records?.detail).toMatch(/will be made/);
  expect(existsSync(join(dir.path, 'not'))).toBe(false);
});

test('a wrong setting is named, and a secret one not shown', async () => {
  const found = await check({ CLOUD_PORT: '70000', DATABASE_URL: secret });
  expect(found).toMatchObject({ settings: { state: 'failed' } });
  expect(found.settings?.detail).toMatch(/CLOUD_PORT="70000".*DATABASE_URL/);
  // What a start refuses, a check does.
  for (const [variable, value] of [
    ['CLOUD_PEER_URL', 'http://10.0.0.5:8080'],
    ['CLICKHOUSE_CLUSTER', 'fleet'],
  ] as const) {
    expect((await check({ [variable]: value })).settings).toMatchObject({
      state: 'failed',
      detail: expect.stringContaining(`${variable}: needs`),
    });
  }
});

test('a data folder that is none, and a port that is taken, are told', async () => {
  await using dir = await memoryDir();
  await writeFile(join(dir.path, 'file'), '');
  expect(await check({ DATA_DIR: join(dir.path, 'file') })).toMatchObject({
    'data folder': { state: 'failed' },
  });
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const found = await check({ DATA_DIR: dir.path, MQTT_PORT: String(port) });
  expect(found.MQTT_PORT).toMatchObject({ state: 'failed', detail: `MQTT_PORT ${port} is taken` });
  expect(found.CLOUD_PORT).toMatchObject({ state: 'ok' });
  server.close();
});

test('servers that do not answer are told by their address alone', async () => {
  await using dir = await memoryDir();
  const found = await check({
    DATA_DIR: dir.path,
    DATABASE_URL: `postgres://me:${secret}@127.0.0.1:9/x`,
    CLICKHOUSE_URL: `http://me:${secret}@127.0.0.1:9/`,
    CLOUD_MQTT_BROKER: `mqtt://127.0.0.1:9`,
    CLOUD_MQTT_PASSWORD: secret,
  });
  for (const part of ['records', 'log store', 'broker']) {
    expect(found[part]?.state, part).toBe('failed');
    expect(found[part]?.detail).toMatch(/127\.0\.0\.1:9|ECONNREFUSED|does not answer/);
  }
});

test('servers that answer say how their tables and clocks stand, and are not changed', async () => {
  await using postgres = await startPostgres();
  await using broker = await startMosquitto({ users: { cloud: secret } });
  await using servers = await startClickHouseCluster(1, 'fleet');
  const databaseUrl = await postgres.database();
  await using dir = await memoryDir();
  const stores = { CLICKHOUSE_URL: servers.url, CLICKHOUSE_CLUSTER: 'fleet' };
  const env = { DATA_DIR: dir.path, DATABASE_URL: databaseUrl, CLOUD_MQTT_BROKER: broker.url, ...stores };
  const found = await check({ ...env, CLOUD_MQTT_USERNAME: 'cloud', CLOUD_MQTT_PASSWORD: secret });
  expect(found.records).toMatchObject({
    state: 'ok',
    detail: expect.stringMatching(/PostgreSQL \d+.*version 0, brought up/),
  });
  expect(found['clock of PostgreSQL']).toMatchObject({ state: 'ok' });
  expect(found.broker).toMatchObject({ state: 'ok' });
  expect(found.cluster).toMatchObject({ state: 'ok', detail: 'fleet: 1 shards, and each answers' });
  const strange = { CLICKHOUSE_CLUSTER: 'swarm', DATABASE_URL: databaseUrl.replace('millrace:', 'nobody:') };
  const again = await check({
    ...{ ...env, ...strange },
    ...{ CLOUD_MQTT_USERNAME: 'cloud', CLOUD_MQTT_PASSWORD: 'wrong' },
  });
  expect(again.cluster).toMatchObject({
    state: 'failed',
    detail: expect.stringContaining('knows no such cluster; it knows fleet'),
  });
  expect(again.records).toMatchObject({
    state: 'failed',
    detail: expect.stringMatching(/^DATABASE_URL: 127.0.0.1:\d+ refuses: role "nobody"/),
  });
  expect(again.broker).toMatchObject({ state: 'failed' });
  expect((await check(env)).records?.detail).toMatch(/version 0/);
  await (await openRecords({ dataDir: dir.path, databaseUrl }))[Symbol.asyncDispose]();
  expect((await check(env)).records?.detail).toMatch(/, version \d+$/);
});

test('a cloud that runs is asked for the parts that it holds', async () => {
  await using cloud = await startTestCloud();
  const env = { DATA_DIR: cloud.dataDir, CLOUD_PORT: String(cloud.cloud.httpPort) };
  expect(await check(env)).toMatchObject({
    'data folder': { state: 'ok', detail: expect.stringContaining('is running') },
    'running cloud: store': { state: 'ok' },
    'running cloud: records': { state: 'ok' },
    'running cloud: broker': { state: 'ok' },
  });
  expect(await check({ ...env, CLOUD_PORT: '9' })).toMatchObject({
    'running cloud': { state: 'failed', detail: expect.not.stringContaining('fetch failed') },
  });
  await cloud.cloud.stop();
  const stopped = await check(env);
  expect(stopped['log store']).toMatchObject({
    state: 'ok',
    detail: expect.stringMatching(/embedded.*schema \d+$/),
  });
  expect(stopped.records).toMatchObject({
    state: 'ok',
    detail: expect.stringMatching(/embedded.*version \d+$/),
  });
});
