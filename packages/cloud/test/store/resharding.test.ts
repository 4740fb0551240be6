import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ClickHouseCluster, startClickHouseCluster } from '../../../../tests/support/clickhouse.ts';
import { Ingest } from '../../src/ingest/index.ts';
import type { ClusterEngine } from '../../src/store/cluster/cluster-engine.ts';
import { type LogStore, openStore } from '../../src/store/index.ts';
import type { Partition } from '../../src/store/removal.ts';
import { batch, upTo } from '../ingest/batches.ts';
import { silent } from './open-stores.ts';

/*
 * A cluster of two shards gets a third. A third of the devices go to a shard then that has nothing of them; what they
 * send again across that moment is stored once all the same.
 */

let cluster: ClickHouseCluster;
let store: LogStore;
const devices = Array.from({ length: 8 }, (_, i) => `device-${i}`);
const journal = 'journal01';
let movedFrom: Map<string, number>;

const open = () => openStore({ url: cluster.url, cluster: cluster.name, log: silent });

/** Sends lines of each device, and waits for their acknowledgement. */
async function send(from: number, to: number, through: number): Promise<void> {
  await using ingest = new Ingest({ store, log: silent });
  const acked = new Map<string, number>();
  await Promise.all(
    devices.map(async (device) => {
      const stream = ingest.openStream(device, {
        via: 'http',
        onAck: (ack) => acked.set(device, ack.through),
      });
      await stream.write(batch(journal, from, to));
      await stream.end();
    }),
  );
  expect([...acked.values()]).toEqual(devices.map(() => through));
}

async function seqsOf(device: string): Promise<number[]> {
  const rows = await store.engine.query<{ seq: number }>(
    `SELECT seq FROM millrace.logs WHERE device = '${device}' ORDER BY seq`,
  );
  return rows.map(({ seq }) => seq);
}

beforeAll(async () => {
  cluster = await startClickHouseCluster(2);
  store = await open();
  const before = await store.division();
  expect((store.engine as ClusterEngine).misplaced).toEqual(new Set());
  await send(1, 20, 20);
  const places = new Map(devices.map((device) => [device, store.laneOf(device)]));
  await store.close();
  await cluster.grow(3);
  store = await open();
  movedFrom = new Map([...places].filter(([device, lane]) => store.laneOf(device) !== lane));
  expect(movedFrom.size).toBeGreaterThan(1);
  expect(await store.division()).not.toBe(before);
});
afterAll(async () => {
  await store?.close();
  await cluster?.[Symbol.asyncDispose]();
});

test('lines that are sent again across the change are stored once, and found', async () => {
  // From what a device had no acknowledgement for, and what follows.
  await send(11, 30, 30);
  for (const device of devices) {
    expect(await seqsOf(device)).toEqual(upTo(30));
    expect(await store.watermark(device, journal)).toEqual({ max: 30, holes: [] });
    const { logs } = await store.search({ device, limit: 100, order: 'asc' });
    expect(logs).toHaveLength(30);
    expect(await store.gaps(device, 10)).toEqual([]);
  }
  // Once more, by a process that starts anew.
  await store.close();
  store = await open();
  await send(1, 31, 31);
  for (const device of devices) expect(await seqsOf(device)).toEqual(upTo(31));
});

test('where lines are misplaced is read from projections, and no other shard is asked', async () => {
  const { misplaced, map } = store.engine as ClusterEngine;
  expect(misplaced).toEqual(new Set(movedFrom.values()));
  const { from, to, total } = map.rangeOf(0);
  const explained = await store.lanes[0]?.engine.query<{ explain: string }>(
    `EXPLAIN SELECT device, count() AS n FROM millrace.logs
     WHERE CRC32(device) % ${total} NOT BETWEEN ${from} AND ${to - 1} GROUP BY device LIMIT 1`,
  );
  expect(explained?.map((row) => row.explain).join('\n')).toMatch(/ReadFromMergeTree \((day_marks|counts)\)/);
  // The new one holds nothing of others: while it is away, the devices of the first shards are known all the same.
  const own = devices.find((device) => store.laneOf(device) !== 2) as string;
  await cluster.servers[2]?.kill();
  expect(await store.watermark(own, journal)).toEqual({ max: 31, holes: [] });
  await cluster.servers[2]?.start();
});

test('usage counts both places, and what is deleted or dropped goes from both and stays known', async () => {
  const day = new Date().toISOString().slice(0, 10);
  const [deleted] = movedFrom.keys() as unknown as Iterable<string>;
  const [usage, ...more] = await store.usage({ from: day, to: day, device: deleted });
  expect([usage?.lines, more]).toEqual([31, []]);
  const all = await store.usage({ from: day, to: day });
  expect(all.map(({ device, lines }) => [device, lines])).toEqual(
    devices.toSorted().map((name) => [name, 31]),
  );
  const gone = await store.deleteLines({ device: deleted as string, arrivedByMs: Date.now() });
  expect(gone.lines).toBe(31);
  expect(await seqsOf(deleted as string)).toEqual([]);
  for (const partition of await store.partitions())
    await store.dropPartition(partition as Partition, 'expired');
  expect(await store.countLines()).toBe(0);
  await store.close();
  store = await open();
  await send(1, 31, 31);
  expect(await store.countLines()).toBe(0);
});
