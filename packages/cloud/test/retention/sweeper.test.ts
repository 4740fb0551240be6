import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { Ballast } from '../../src/retention/ballast.ts';
import { Sweeper, type SweptStore } from '../../src/retention/sweeper.ts';
import { StoreError } from '../../src/store/index.ts';
import { silent } from '../store/open-stores.ts';

const expired = { day: '2026-01-01', retentionDays: 3, lines: 5, bytesOnDisk: 100 };

/** A store with one expired partition, on a disk without room while the ballast lies there. */
function fullStore(ballast: string) {
  const dropped: object[] = [];
  const store: SweptStore = {
    partitions: async () => (dropped.length === 0 ? [expired] : []),
    diskBytes: async () => 0,
    dropPartition: async (partition) => {
      if (await stat(ballast).catch(() => undefined)) {
        throw new StoreError('Cannot reserve 1.00 MiB, not enough space', { engineCode: 243 });
      }
      dropped.push(partition);
    },
    dropOldestPart: async () => 0,
  };
  return { store, dropped };
}

test('on a full disk the ballast makes room to remove what has expired, and is taken again', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'ballast');
  const ballast = new Ballast({ path, bytes: 3_000_000 });
  await ballast.take();
  expect((await stat(path)).blocks * 512).toBeGreaterThanOrEqual(3_000_000);
  const { store, dropped } = fullStore(path);
  await using sweeper = new Sweeper({ store, log: silent, ballast, intervalMs: 1_000_000 });
  sweeper.start();
  await until(() => dropped.length > 0, { what: 'the drop' });
  expect(dropped).toEqual([expired]);
  await until(async () => (await stat(path).catch(() => undefined))?.size === 3_000_000, {
    what: 'the ballast',
  });
});

test('a failure that is none of the disk leaves the ballast alone, and the next round tries again', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'ballast');
  const { store, dropped } = fullStore(path);
  let failures = 2;
  const failing: SweptStore = {
    ...store,
    partitions: async () => {
      if (failures-- > 0) throw new StoreError('no answer');
      return store.partitions();
    },
  };
  await using sweeper = new Sweeper({
    store: failing,
    log: silent,
    ballast: new Ballast({ path }),
    intervalMs: 1,
  });
  sweeper.start();
  await until(() => dropped.length > 0, { what: 'the drop' });
  expect(sweeper.stats.dropped.expired).toEqual({ count: 1, lines: 5 });
});
