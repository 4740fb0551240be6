import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { FolderDisk } from '../../src/journal/disk.ts';
import { Journal } from '../../src/journal/journal.ts';
import { startAgent } from '../../src/main.ts';

// Shown nowhere; the agent ships it all the same.
const log = pino({ level: 'info' }, { write: () => {} });

/** A small file system of its own, which can be filled and made read-only. */
function mountTmpfs(path: string): Disposable & { remount(mode: 'ro' | 'rw'): void } {
  mkdirSync(path);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', path]);
  return {
    remount: (mode) => void execFileSync('mount', ['-o', `remount,${mode}`, path]),
    [Symbol.dispose]: () => void execFileSync('umount', ['-l', path]),
  };
}

function environment(dir: string): Record<string, string> {
  return {
    DATA_DIR: dir,
    DEVICE_UUID: 'kiosk-7',
    CLOUD_API_KEY: 'a-key-that-is-given',
    DEVICE_API_PORT: '0',
    API_PORT: '0',
    DOCKER_HOST: `unix://${dir}/no-engine.sock`,
  };
}

async function ownLines(url: string): Promise<string[]> {
  const { logs } = await (await fetch(`${url}/v1/logs`)).json();
  return logs.map((line: { message: string }) => line.message);
}

test('the agent starts on a read-only disk, keeps its lines in memory, and writes once it can', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'card');
  using card = mountTmpfs(path);
  card.remount('ro');
  await using agent = await startAgent({ env: environment(path), log });
  expect(agent.uuid).toBe('kiosk-7');
  expect(await ownLines(agent.deviceApiUrl)).toContain('agent started');
  await until(() => agent.state.journal.memoryOnly, { what: 'the outage to be noticed' });
  card.remount('rw');
  await until(() => !agent.state.journal.memoryOnly, { what: 'the disk to be used' });
  expect(agent.state.journal.diskBytes).toBeGreaterThan(0);
  await expect(startAgent({ env: environment(path), log })).rejects.toThrow('DATA_DIR_UNUSABLE');
});

test('a disk that is full is survived, and used again when there is room', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'card');
  using _card = mountTmpfs(path);
  const options = { disk: new FolderDisk(join(path, 'logs')), outageGraceMs: 20, diskRetryMs: 20 };
  const journal = new Journal(options);
  const cursor = journal.cursor('cloud');
  const got: (number | undefined)[] = [];
  const print = async (from: number, to: number) => {
    for (let n = from; n <= to; n++)
      journal.append({ message: `line ${n}`, timestamp: n }, { key: 's', value: n });
    while (got.length < to) {
      const batch = await cursor.next(AbortSignal.timeout(10_000));
      if (!batch) throw new Error(`only ${got.length} lines came`);
      got.push(...batch.messages().map((line) => line.timestamp));
      cursor.ack(batch.header.journal, batch.lastSeq);
    }
  };
  await print(1, 100);
  execFileSync('sh', ['-c', `cat /dev/zero > ${path}/ballast || true`], { stdio: 'ignore' });
  // The last page of the file may have room for some more.
  for (let n = 100; !journal.stats().memoryOnly; n += 100) await print(n + 1, n + 100);
  const inMemory = got.length;
  await print(inMemory + 1, inMemory + 100);
  rmSync(join(path, 'ballast'));
  await until(() => !journal.stats().memoryOnly, { what: 'the disk to be used again' });
  await print(inMemory + 101, inMemory + 200);
  expect(got).toEqual(Array.from({ length: inMemory + 200 }, (_, i) => i + 1));
  await journal.close();
  await using again = new Journal(options);
  expect(again.position('s')).toBe(inMemory + 200);
});
