import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import pino from 'pino';
import { expect, test } from 'vitest';
import { copyEmptyRecords } from '../../../../tests/support/records-template.ts';
import { memoryDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { Backups, backUpOffline, restore } from '../../src/backup/index.ts';
import { joinKeyFile, readCloudConfig } from '../../src/index.ts';
import type { Records } from '../../src/records/records.ts';
import { type LogStore, openStore } from '../../src/store/index.ts';
import { adminToken, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { batch, StreamClient } from '../support/stream-client.ts';

const log = pino({ level: 'silent' });

async function send(cloud: TestCloud, uuid: string, key: string, text: string): Promise<void> {
  using stream = new StreamClient({ url: cloud.url, uuid, key });
  stream.send(text);
  stream.end();
  expect((await stream.answer()).status).toBe(201);
}

interface Made {
  name: string;
  path: string;
}

/** Whether a device is online is of the moment: it is written behind its streams, and anew after a start. */
const ofTheMoment = new Set(['online', 'onlineChangedAt', 'clockSkewMs']);
const lasting = (key: string, value: unknown) => (ofTheMoment.has(key) ? undefined : value);

/** What people can ask, and what they are told. */
async function answers(cloud: TestCloud): Promise<unknown[]> {
  const paths = [
    '/logs?limit=1000',
    '/logs?query=fleet:berlin%20"line%207"',
    '/logs/histogram',
    '/logs/facets?fields=device,service',
    '/devices',
    '/devices/d1/gaps',
    '/fleets',
    '/searches',
  ];
  const all: unknown[] = [];
  for (const path of paths) {
    const response = await cloud.get(`/api/v1${path}`);
    expect(response.status, path).toBe(200);
    all.push(JSON.parse(await response.text(), lasting));
  }
  return all;
}

const post = (cloud: TestCloud, path: string, body?: unknown) =>
  fetch(`${cloud.url}/api/v1${path}`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${adminToken}`,
      ...(body !== undefined && { 'content-type': 'application/json' }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });

test('after a restore the same questions have the same answers, and nothing is stored twice', {
  timeout: 180_000,
}, async () => {
  await using target = await memoryDir();
  const dataDir = join(target.path, 'restored');
  await using dir = await memoryDir();
  const backupDir = join(dir.path, "it's a <folder> & so on");
  let key: string;
  let before: unknown[];
  let path: string;
  {
    await using cloud = await startTestCloud({ env: { BACKUP_DIR: backupDir } });
    key = await cloud.register('d1');
    await cloud.register('d2');
    await post(cloud, '/fleets', { name: 'berlin' });
    await post(cloud, '/searches', { name: 'mine', query: 'level:error' });
    const set = {
      method: 'PATCH',
      headers: { authorization: `Bearer ${adminToken}`, 'content-type': 'application/json' },
    };
    await fetch(`${cloud.url}/api/v1/devices/d1`, { ...set, body: '{"fleet":"berlin","tags":{"a":"b"}}' });
    await send(cloud, 'd1', key, batch('journal01', 1, 40));
    await send(cloud, 'd1', key, batch('journal01', 61, 5));
    before = await answers(cloud);
    // Left by one that was cut off.
    await mkdir(join(backupDir, '2020-01-01T000000Z.unfinished', 'store'), { recursive: true });
    const [one, other] = await Promise.all([post(cloud, '/backups'), post(cloud, '/backups')]);
    expect([one.status, other.status].sort()).toEqual([202, 409]);
    const { name } = (await (one.status === 202 ? one : other).json()) as { name: string };
    const list = async () =>
      (await (await cloud.get('/api/v1/backups')).json()) as { backups: Made[]; failed: unknown };
    let made = {} as Made;
    await until(
      async () => {
        const { backups, failed } = await list();
        expect(failed).toBeNull();
        made = backups[0] ?? made;
        return backups.length > 0;
      },
      { what: 'the backup', timeoutMs: 60_000 },
    );
    expect(made).toMatchObject({ name, lines: 45, records: true });
    path = made.path;
    expect(await readdir(backupDir)).toEqual([made.name]);
    expect((await stat(path)).mode & 0o777).toBe(0o700);
    expect(await list()).toEqual({ backups: [made], running: null, failed: null });
    // After the backup, so not in it.
    await send(cloud, 'd1', key, batch('journal01', 41, 5));
    expect(await readFile(join(path, joinKeyFile), 'utf8').catch(() => 'none')).toBe('none');
  }
  expect(await restore({ from: path, dataDir, log })).toMatchObject({ lines: 45 });
  await using cloud = await startTestCloud({ dataDir });
  expect(await answers(cloud)).toEqual(before);
  // The device goes on from where it was, and a batch that it repeats is known.
  await send(cloud, 'd1', key, batch('journal01', 31, 15));
  const seqs = (await cloud.allLines('d1')).map(({ seq }) => seq);
  expect(seqs).toEqual([...Array.from({ length: 45 }, (_, i) => i + 1), 61, 62, 63, 64, 65]);
});

test('without a running cloud a backup is made as well, and nothing that is there is overwritten', {
  timeout: 180_000,
}, async () => {
  await using dir = await memoryDir();
  const dataDir = join(dir.path, 'data');
  const config = readCloudConfig({ DATA_DIR: dataDir });
  await mkdir(dataDir);
  await writeFile(join(dataDir, joinKeyFile), 'the-join-key\n', { mode: 0o600 });
  await expect(backUpOffline(config, log)).rejects.toMatchObject({ code: 'DATA_DIR_UNUSABLE' });
  await copyEmptyRecords(dataDir);
  await (await openStore({ dataDir: join(dataDir, 'store'), log })).close();
  const made = await backUpOffline(config, log);
  expect(made).toMatchObject({ lines: 0, records: true });
  expect(made.path.startsWith(join(dataDir, 'backups'))).toBe(true);
  await expect(restore({ from: made.path, dataDir, log })).rejects.toMatchObject({
    code: 'DATA_DIR_UNUSABLE',
    detail: expect.stringContaining('is there already'),
  });
  const copy = join(dir.path, 'copy');
  // A cloud on servers would not read it.
  for (const server of ['clickhouseUrl', 'databaseUrl']) {
    const aside = restore({ from: made.path, dataDir: copy, [server]: 'http://elsewhere', log });
    await expect(aside).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  }
  // A copy that broke off leaves nothing behind.
  const dump = await readFile(join(made.path, 'records.tar.gz'));
  for (const torn of [dump.subarray(0, 1000), gzipSync(gunzipSync(dump).subarray(0, 100_000))]) {
    await writeFile(join(made.path, 'records.tar.gz'), torn);
    await expect(restore({ from: made.path, dataDir: copy, log })).rejects.toMatchObject({
      code: 'BACKUP_UNUSABLE',
      detail: expect.stringContaining('records.tar.gz cannot be restored: '),
    });
    expect(await readdir(copy)).toEqual(['cloud.lock']);
  }
  await writeFile(join(made.path, 'records.tar.gz'), dump);
  await restore({ from: made.path, dataDir: copy, log });
  expect(await readFile(join(copy, joinKeyFile), 'utf8')).toBe('the-join-key\n');
  expect((await readdir(copy)).sort()).toEqual(['cloud.lock', 'join-key', 'records', 'store']);
});

test('what is no backup, or only the half of one, is refused before anything is made', async () => {
  await using dir = await memoryDir();
  const dataDir = join(dir.path, 'data');
  await mkdir(join(dir.path, 'half', 'store'), { recursive: true });
  for (const [from, reason] of [
    [join(dir.path, 'half'), 'it has no backup.json'],
    [join(dir.path, 'nowhere'), 'it has no backup.json'],
  ] as const) {
    await expect(restore({ from, dataDir, log })).rejects.toMatchObject({
      code: 'BACKUP_UNUSABLE',
      detail: expect.stringContaining(reason),
    });
  }
  await writeFile(join(dir.path, 'half', 'backup.json'), '{"format":2}');
  await expect(restore({ from: join(dir.path, 'half'), dataDir, log })).rejects.toThrow(/format/);
  // Whole by its looks: the store says no, and what a start would take for a store is not there.
  const manifest = { format: 1, createdAtMs: 1, version: 'x', lines: 1, records: false };
  await writeFile(join(dir.path, 'half', 'backup.json'), JSON.stringify(manifest));
  await expect(restore({ from: join(dir.path, 'half'), dataDir, log })).rejects.toMatchObject({
    code: 'BACKUP_UNUSABLE',
    detail: expect.stringMatching(/half\/store cannot be restored: /),
  });
  expect(await readdir(dataDir)).toEqual(['cloud.lock']);
});

test('a server is left to its own means', async () => {
  await using dir = await memoryDir();
  const backups = new Backups({
    store: { engine: { kind: 'server' } } as LogStore,
    records: {} as Records,
    ...{ dataDir: dir.path, backupDir: dir.path, version: 'x', log },
  });
  const { name, done } = backups.start();
  await expect(done).rejects.toMatchObject({ code: 'BACKUP_IMPOSSIBLE' });
  expect(backups.failed).toMatchObject({ name, error: { code: 'BACKUP_IMPOSSIBLE' } });
  expect(await backups.list()).toEqual([]);
  // Without a cloud that runs, neither server nor cluster is asked: nobody listens there.
  const env = { DATA_DIR: '/nowhere', CLICKHOUSE_URL: 'http://127.0.0.1:9', CLICKHOUSE_CLUSTER: 'fleet' };
  await expect(backUpOffline(readCloudConfig(env), log)).rejects.toMatchObject({
    code: 'BACKUP_IMPOSSIBLE',
    detail: expect.stringContaining('BACKUP DATABASE millrace_shard'),
  });
});
