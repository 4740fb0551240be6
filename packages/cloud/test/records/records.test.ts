import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { PGlite } from '@electric-sql/pglite';
import pino from 'pino';
import { expect, test } from 'vitest';
import { copyNewRecords } from '../../../../tests/support/cloud-template.ts';
import { nodeFlags } from '../../../../tests/support/programs.ts';
import { memoryDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { lockFolder } from '../../src/records/folder-lock.ts';
import { Records } from '../../src/records/records.ts';

const log = pino({ level: 'silent' });
const writer = join(import.meta.dirname, 'writer.ts');

async function spawnWriter(dataDir: string) {
  const child = spawn(process.execPath, [...nodeFlags, writer, dataDir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const acknowledged: string[] = [];
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    acknowledged.push(...lines);
  });
  return { child, acknowledged };
}

test('devices, tokens and presence survive a restart', async () => {
  await using dir = await memoryDir();
  await copyNewRecords(dir.path);
  {
    await using records = await Records.open({ dataDir: dir.path, log });
    expect(await records.devices.add({ uuid: 'd1', name: null, keyHash: 'aa', createdAtMs: 5 })).toBe(true);
    expect(await records.devices.add({ uuid: 'd1', name: 'x', keyHash: 'bb', createdAtMs: 6 })).toBe(false);
    await records.tokens.save({ name: 'admin', role: 'admin', hash: '01' });
    await records.tokens.save({ name: 'admin', role: 'admin', hash: '02' });
    await records.presence.save({ uuid: 'd1', online: true, changedAtMs: 1_700_000_000_000 });
  }
  await using records = await Records.open({ dataDir: dir.path, log });
  expect(await records.devices.list()).toMatchObject([
    { uuid: 'd1', name: null, keyHash: 'aa', createdAtMs: 5, fleet: null, tags: {} },
  ]);
  expect(await records.tokens.byHash('01')).toBeUndefined();
  expect(await records.tokens.byHash('02')).toMatchObject({ name: 'admin' });
  expect(await records.presence.list()).toEqual([
    { uuid: 'd1', online: true, changedAtMs: 1_700_000_000_000 },
  ]);
  await records.presence.forget();
  expect(await records.presence.list()).toMatchObject([{ online: false }]);
  await records.tokens.removeByHash('02');
  expect(await records.tokens.get('admin')).toBeUndefined();
});

test('what was confirmed survives a SIGKILL in the middle of writes, and a left lock blocks nobody', async () => {
  await using dir = await memoryDir();
  await copyNewRecords(dir.path);
  const confirmed = new Set<string>();
  for (const wanted of [5, 40, 120]) {
    const { child, acknowledged } = await spawnWriter(dir.path);
    await until(() => acknowledged.length >= wanted, { what: 'the writer to have written' });
    child.kill('SIGKILL');
    await once(child, 'exit');
    for (const uuid of acknowledged) confirmed.add(uuid);
  }
  using _lock = await lockFolder(dir.path);
  await using records = await Records.open({ dataDir: dir.path, log });
  const stored = new Set((await records.devices.list()).map(({ uuid }) => uuid));
  expect([...confirmed].filter((uuid) => !stored.has(uuid))).toEqual([]);
  expect(stored.size).toBeGreaterThanOrEqual(165);
});

test('a first start that is killed half-way leaves nothing that a second one trips over', async () => {
  await using dir = await memoryDir();
  const { child } = await spawnWriter(dir.path);
  await until(() => existsSync(join(dir.path, 'records.unfinished', 'PG_VERSION')), {
    what: 'initdb to begin',
  });
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(existsSync(join(dir.path, 'records'))).toBe(false);
  await using records = await Records.open({ dataDir: dir.path, log });
  expect(await records.devices.list()).toEqual([]);
});

test('records of a newer program are refused', async () => {
  await using dir = await memoryDir();
  await copyNewRecords(dir.path);
  await (await Records.open({ dataDir: dir.path, log }))[Symbol.asyncDispose]();
  const raw = await PGlite.create(join(dir.path, 'records'));
  await raw.exec(`INSERT INTO millrace_migrations (version, name) VALUES (999, 'from the future')`);
  await raw.close();
  await expect(Records.open({ dataDir: dir.path, log })).rejects.toThrow(/version 999/);
});

test('a folder is locked while its holder lives, for this process and for others', async () => {
  await using dir = await memoryDir();
  await copyNewRecords(dir.path);
  const { child, acknowledged } = await spawnWriter(dir.path);
  await until(() => acknowledged.length > 0, { what: 'the writer to hold the lock' });
  await expect(lockFolder(dir.path)).rejects.toMatchObject({ code: 'DATA_DIR_UNUSABLE' });
  child.kill('SIGKILL');
  await once(child, 'exit');
  const lock = await lockFolder(dir.path);
  await expect(lockFolder(dir.path)).rejects.toThrow(/another running Millrace cloud/);
  lock[Symbol.dispose]();
  using _again = await lockFolder(dir.path);
});

test('a folder that cannot be made is a clear error', async () => {
  await expect(lockFolder('/dev/null/data')).rejects.toMatchObject({ code: 'DATA_DIR_UNUSABLE' });
});
