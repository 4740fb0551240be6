import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ClickHouseServer, startClickHouse } from '../../../../tests/support/clickhouse.ts';
import { hasZooKeeper, startZooKeeper, type ZooKeeper } from '../../../../tests/support/zookeeper.ts';
import { onShard, shardDatabase } from '../../src/store/cluster/ddl.ts';
import { joinShard, leaderOf } from '../../src/store/cluster/joining.ts';
import { ShardEngine } from '../../src/store/cluster/shard-engine.ts';
import { migrate, migrations } from '../../src/store/migrations/index.ts';
import { ServerEngine } from '../../src/store/server-engine.ts';
import { setTextIndex } from '../../src/store/text-index.ts';
import { silent } from './open-stores.ts';

/*
 * Two servers of one shard and a real ZooKeeper. A server that comes out of the embedded library cannot go further than to
 * make replicated tables: they stay read-only, since its replicas have no address to be reached at (an interserver port
 * is set by the server program alone). So the first one's tables are made here in the form that the steps of the schema
 * lead to; how the second joins them is real.
 */

let zooKeeper: ZooKeeper;
const servers: ClickHouseServer[] = [];
const replicas: ShardEngine[] = [];

const tablesOf = (replica: ShardEngine) =>
  replica.server.query<{ name: string; engine: string; sql: string }>(
    `SELECT name, engine, create_table_query AS sql FROM system.tables
     WHERE database = '${shardDatabase}' ORDER BY engine = 'MaterializedView', name`,
  );

describe.skipIf(!hasZooKeeper)('the second replica of a shard', () => {
  beforeAll(async () => {
    zooKeeper = await startZooKeeper();
    for (const replica of ['a', 'b']) {
      const server = await startClickHouse(undefined, { zooKeeperPort: zooKeeper.port, replica });
      servers.push(server);
      const engine = await ServerEngine.open({ url: server.url, log: silent });
      replicas.push(new ShardEngine(engine, { replicated: true }));
    }
    const [first] = replicas as [ShardEngine];
    const alone = new ShardEngine(first.server, { replicated: false });
    await migrate(alone, silent);
    await setTextIndex(alone, true);
    const made = await tablesOf(alone);
    await first.server.command(`DROP DATABASE ${shardDatabase} SYNC`);
    await first.server.command(`CREATE DATABASE ${shardDatabase}`);
    for (const { sql } of made) await first.server.command(onShard(sql, { replicated: true }));
    for (const { version, name } of migrations) {
      await first.command(`INSERT INTO millrace.migrations (version, name) SELECT ${version}, '${name}'`);
    }
  });
  afterAll(async () => {
    for (const replica of replicas) await replica.close();
    for (const server of servers) await server[Symbol.asyncDispose]();
    await zooKeeper?.[Symbol.asyncDispose]();
  });

  test('joins what the first has become; by the steps that led there it would be refused', async () => {
    const [first, second] = replicas as [ShardEngine, ShardEngine];
    // Whichever is named first: one that has nothing follows.
    expect(await leaderOf([second, first])).toBe(first);
    await expect(migrate(second, silent)).rejects.toThrow(/in ZooKeeper differs/);
    await second.server.command(`DROP DATABASE ${shardDatabase} SYNC`);

    expect(await joinShard(second, first, silent)).toEqual(migrations.map(({ version }) => version));
    const known = await second.server.query<{ name: string; replicas: number }>(
      'SELECT table AS name, total_replicas AS replicas FROM system.replicas ORDER BY name',
    );
    expect(known).toEqual(
      ['gone', 'logs', 'overlaps', 'repeats', 'usage_gone'].map((name) => ({ name, replicas: 2 })),
    );
    expect(await tablesOf(second)).toEqual(await tablesOf(first));
    expect(await second.id()).toBe(await first.id());
    // At the next start there is nothing left to do.
    expect(await joinShard(second, first, silent)).toEqual([]);
    expect(await leaderOf(replicas)).toBe(first);
  });
});
