import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import {
  type ClickHouseCluster,
  type ClickHouseServer,
  startClickHouseCluster,
} from '../../../../tests/support/clickhouse.ts';
import { until } from '../../../../tests/support/wait.ts';
import { Ingest } from '../../src/ingest/index.ts';
import { onShard, replicatedSchema } from '../../src/store/cluster/ddl.ts';
import { ShardMap } from '../../src/store/cluster/shard-map.ts';
import { type LogStore, openStore } from '../../src/store/index.ts';
import type { StoreLane } from '../../src/store/lane.ts';
import { migrations } from '../../src/store/migrations/index.ts';
import type { Partition } from '../../src/store/removal.ts';
import { encodeRows } from '../../src/store/row-format.ts';
import { ServerEngine } from '../../src/store/server-engine.ts';
import { string } from '../../src/store/sql.ts';
import { batch } from '../ingest/batches.ts';
import { append, silent } from './open-stores.ts';

let cluster: ClickHouseCluster;
let store: LogStore;

beforeAll(async () => {
  cluster = await startClickHouseCluster();
  store = await openStore({ url: cluster.url, cluster: cluster.name, log: silent });
});
afterAll(async () => {
  await store?.close();
  await cluster?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  await store.engine.command('TRUNCATE TABLE millrace.logs');
});

const devices = Array.from({ length: 18 }, (_, i) => `device-${i}`);

/** A device of each shard. */
function oneOfEach(): string[] {
  return store.lanes.map((_, lane) => devices.find((device) => store.laneOf(device) === lane) as string);
}

test('each shard has the lines of its devices alone, where a Distributed table looks for them', async () => {
  await Promise.all(devices.map((device) => append(store, [{ message: device }], { device })));
  const rows = await store.engine.query<{ device: string; shard: number }>(
    'SELECT device, _shard_num AS shard FROM millrace.logs ORDER BY device',
  );
  expect(rows).toEqual(devices.toSorted().map((device) => ({ device, shard: store.laneOf(device) + 1 })));
  expect(new Set(rows.map(({ shard }) => shard)).size).toBe(3);
  // With the two other shards unasked, or this would find nothing.
  for (const device of oneOfEach()) expect(await store.countLines(device)).toBe(1);
  expect(await store.countLines()).toBe(devices.length);
});

test.each([[[1]], [[1, 1, 1]], [[3, 1, 2]], [[0, 5, 1]]])(
  'shards of the weights %j get the devices that ClickHouse would give them',
  async (weights) => {
    const map = new ShardMap(weights);
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const list = devices.map((device) => `'${device}'`).join(', ');
    const rows = await store.engine.query<{ device: string; place: number }>(
      `SELECT arrayJoin([${list}]) AS device, CRC32(device) % ${total} AS place`,
    );
    for (const { device, place } of rows) {
      let shard = 0;
      for (let end = weights[0] ?? 0; place >= end; end += weights[shard] ?? 0) shard++;
      expect(map.of(device)).toBe(shard);
    }
  },
);

test('what is known of devices is read from the projection, on all shards', async () => {
  await Promise.all(devices.map((device) => append(store, [{ message: 'a' }, { message: 'b' }], { device })));
  const stats = await store.deviceStats();
  expect(stats.map(({ device, lines }) => [device, lines])).toEqual(devices.toSorted().map((d) => [d, 2]));
  const [device] = devices as [string];
  const explained = await store.lanes[store.laneOf(device)]?.engine.query<{ explain: string }>(
    `EXPLAIN SELECT journal, count(), min(seq), max(seq) FROM millrace.logs WHERE device = '${device}' GROUP BY journal`,
  );
  expect(explained?.map((row) => row.explain).join('\n')).toContain('ReadFromMergeTree (day_marks)');
});

test('a process that comes later finds the schema as it is; lines outlive it', async () => {
  await append(store, [{ message: 'kept' }]);
  await using later = await openStore({ url: cluster.url, cluster: cluster.name, log: silent });
  expect((await later.search({ limit: 10, order: 'asc' })).logs.map((line) => line.message)).toEqual([
    'kept',
  ]);
});

test('a column that a later version adds to the shards is there over all shards, too', async () => {
  await store.engine.command('ALTER TABLE millrace.overlaps ADD COLUMN added UInt8');
  await using later = await openStore({ url: cluster.url, cluster: cluster.name, log: silent });
  expect(await later.engine.query('SELECT added FROM millrace.overlaps')).toEqual([]);
});

test('a shard that is down delays its own devices alone, and nothing is stored twice', async () => {
  await using ingest = new Ingest({
    store,
    log: silent,
    limits: { maxFlightBytes: 50_000, retryMinMs: 10, retryMaxMs: 50 },
  });
  const through = new Map<string, number>();
  const three = oneOfEach();
  const [down] = three as [string];
  const server = cluster.servers[0] as ClickHouseServer;
  const streams = three.map((device) =>
    ingest.openStream(device, { via: 'http', onAck: (ack) => through.set(device, ack.through) }),
  );
  const send = (from: number, to: number) =>
    Promise.all(streams.map((stream) => stream.write(batch('journal01', from, to))));
  await send(1, 200);
  await until(() => three.every((device) => through.get(device) === 200));
  await server.kill();
  const sending = send(201, 400);
  const others = three.slice(1);
  await until(() => others.every((device) => through.get(device) === 400), {
    what: () => `the others to go on: ${JSON.stringify([...through])}`,
  });
  expect(through.get(down)).toBe(200);
  // What needs all shards says so instead of showing a part.
  await expect(store.countLines()).rejects.toMatchObject({ code: 'STORE_FAILED' });
  expect(await store.countLines(others[0])).toBe(400);
  await server.start();
  await sending;
  await Promise.all(streams.map((stream) => stream.end()));
  expect(through.get(down)).toBe(400);
  expect(await store.countLines()).toBe(1200);
});

test('behind a fence nothing is stored under an earlier claim, and what was being stored is over', async () => {
  const device = 'fenced';
  const lane = store.laneOf(device);
  const at = store.lanes[lane] as StoreLane;
  const server = cluster.servers[lane] as ClickHouseServer;
  const rows = (seq: number) =>
    encodeRows(
      { device, journal: 'journal01', firstSeq: seq, count: 1, lines: Buffer.from('{"message":"m"}\n') },
      { receivedMs: Date.now(), retention: 30 },
    );
  const put = (seq: number, epoch: number) =>
    at.append(rows(seq), { rows: 1, token: `fence-${seq}`, claims: new Map([[7, epoch]]) });
  await at.fence(new Map([[7, 100]]));
  await put(1, 100);
  // Another process's insert, which was let in and takes its time.
  const running = fetch(`${server.url}/?query_id=millrace-insert-slow`, {
    method: 'POST',
    body: `INSERT INTO FUNCTION null('x UInt8') SELECT sleepEachRow(0.5) FROM numbers(2) SETTINGS max_block_size = 1`,
  });
  let isOver = false;
  void running.then(() => {
    isOver = true;
  });
  await until(async () => {
    const answer = await fetch(`${server.url}/?query=SELECT+count()+FROM+system.processes`);
    return Number(await answer.text()) > 2;
  });
  await at.fence(new Map([[7, 101]]));
  await until(() => isOver, { timeoutMs: 100, what: 'the insert to be over before the fence is up' });
  await expect(put(2, 100)).rejects.toMatchObject({ fenced: true });
  await put(3, 101);
  expect(await store.countLines(device)).toBe(2);
  expect(await at.fences()).toEqual(new Map([[7, 101]]));
});

test('lines leave each shard as they leave a single server, and stay known', async () => {
  const receivedMs = Date.now();
  const day = new Date(receivedMs).toISOString().slice(0, 10);
  const three = oneOfEach();
  const [deleted] = three as [string];
  const [before] = await store.usage({ from: day, to: day, device: deleted });
  await Promise.all(
    three.map((device) => append(store, [{ message: 'a' }, { message: 'b' }], { device, receivedMs })),
  );
  expect(await store.partitions()).toMatchObject([{ day, retentionDays: 30, lines: 6 }]);
  expect(await store.size()).toMatchObject({ rows: 6 });
  const gone = await store.deleteLines({ device: deleted, arrivedByMs: receivedMs });
  expect(gone.lines).toBe(2);
  expect(await store.countLines()).toBe(4);
  const [partition] = await store.partitions();
  await store.dropPartition(partition as Partition, 'expired');
  expect(await store.countLines()).toBe(0);
  for (const device of three)
    expect(await store.watermark(device, 'journal01')).toEqual({ max: 2, holes: [] });
  const usage = await store.usage({ from: day, to: day });
  expect(usage.filter(({ device }) => three.includes(device)).map(({ device }) => device)).toEqual(
    three.toSorted(),
  );
  const [after] = await store.usage({ from: day, to: day, device: deleted });
  expect((after?.lines ?? 0) - (before?.lines ?? 0)).toBe(2);
  // Nothing leaves behind the program's back.
  for (const { engine } of store.lanes) {
    const [table] = await engine.query<{ sql: string }>(
      `SELECT create_table_query AS sql FROM system.tables WHERE database = 'millrace' AND name = 'logs'`,
    );
    expect(table?.sql).toContain('millrace_shard.logs');
    expect(table?.sql).not.toContain(' TTL ');
  }
});

test('a cluster that is none, or a shard without an address, is refused with the reason', async () => {
  const [first, second] = cluster.servers as [ClickHouseServer, ClickHouseServer];
  await expect(openStore({ url: first.url, cluster: 'flet', log: silent })).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    detail: expect.stringContaining('it knows fleet'),
  });
  await expect(
    openStore({ url: `${first.url},${second.url}`, cluster: 'fleet', log: silent }),
  ).rejects.toMatchObject({ code: 'STORE_FAILED', detail: expect.stringContaining('shard 3') });
  await expect(openStore({ url: cluster.url, log: silent })).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
  });
});

test('the tables of replicated shards are replicated, and ClickHouse can read what makes them', async () => {
  await using engine = await ServerEngine.open({ url: cluster.servers[0]?.url ?? '', log: silent });
  const statements = migrations.flatMap((step) => step.statements);
  const made = replicatedSchema(statements).slice(1);
  for (const sql of made) {
    const [formatted] = await engine.query<{ sql: string }>(`SELECT formatQuery(${string(sql)}) AS sql`);
    expect(formatted?.sql).toContain('millrace_shard.');
    expect(sql).not.toMatch(/\bmillrace\.\w/);
  }
  const logs = made.find((sql) => sql.includes('millrace_shard.logs ('));
  expect(logs).toContain(
    `ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/millrace/logs', '{replica}')`,
  );
  expect(logs).toContain(' replicated_deduplication_window = 1000');
  // Each server has its own fences: a replica that lags must not let through what another refuses.
  expect(made.find((sql) => sql.includes('millrace_shard.fences ('))).toContain(
    'ENGINE = ReplacingMergeTree(epoch)',
  );
});

test('what a statement says about our name in a text is left alone', () => {
  const sql = `DELETE FROM millrace.logs WHERE device = 'millrace.logs\\' millrace.x'`;
  expect(onShard(sql, { replicated: false })).toBe(
    `DELETE FROM millrace_shard.logs WHERE device = 'millrace.logs\\' millrace.x'`,
  );
});
