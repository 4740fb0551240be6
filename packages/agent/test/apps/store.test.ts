import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { captureLog } from '../../../../tests/support/log.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { type AppRecord, AppStore } from '../../src/apps/target/store.ts';

const recordOf = (appId: number, release = 1): AppRecord => ({
  ...{ appId, release, outcome: 'pending', stopped: [] },
  app: { appId, services: [{ serviceName: 'web', imageName: 'nginx', environment: { PASSWORD: 'secret' } }] },
});

async function openStore(path: string) {
  const captured = captureLog();
  const store = new AppStore({ path, log: captured.log });
  await store.load();
  return { store, captured };
}

test('what was saved is there after a restart, for its owner alone to read', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'data', 'apps.json');
  const { store } = await openStore(path);
  await Promise.all([1, 2, 3].map((id) => store.update(id, () => recordOf(id))));
  await store.update(2, (before) => before && { ...before, outcome: 'done' });
  await store.update(3, () => undefined);
  const { store: again } = await openStore(path);
  expect(again.apps).toEqual([recordOf(1), { ...recordOf(2), outcome: 'done' }]);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readdir(join(dir.path, 'data'))).toEqual(['apps.json']);
});

test('a change that cannot be written did not happen, and the next one does', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'apps.json');
  const { store } = await openStore(path);
  await store.update(1, () => recordOf(1));
  await mkdir(`${path}.new`);
  await expect(store.update(1, () => recordOf(1, 2))).rejects.toThrow('APPS_NOT_SAVED');
  expect(store.get(1)).toEqual(recordOf(1));
  await rm(`${path}.new`, { recursive: true });
  await store.update(1, (before) => before && recordOf(1, before.release + 1));
  expect((await openStore(path)).store.get(1)).toEqual(recordOf(1, 2));
});

test('an unfinished file beside it is not read; a damaged one is set aside, and said so', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'apps.json');
  await (await openStore(path)).store.update(1, () => recordOf(1));
  await writeFile(`${path}.new`, '{"version":1,"ap');
  expect((await openStore(path)).store.apps).toHaveLength(1);
  await writeFile(path, '{"version":1,"apps":[{"appId":1}]}');
  const { store, captured } = await openStore(path);
  expect(store.apps).toEqual([]);
  expect(captured.messages(50)).toEqual([
    'the list of apps is damaged and was set aside; their containers are left as they are',
  ]);
  expect(await readFile(`${path}.damaged`, 'utf8')).toContain('"appId":1');
  await store.update(2, () => recordOf(2));
  expect((await openStore(path)).store.apps).toEqual([recordOf(2)]);
});
