import { createHash } from 'node:crypto';
import { MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import { type EngineSettings, type LogEngine, StoreError } from '../engine.ts';
import { migrate } from '../migrations/index.ts';
import { setTextIndex } from '../text-index.ts';
import { dividedTablesSql, shardDatabase, wholeTable } from './ddl.ts';
import { joinShard, leaderOf } from './joining.ts';
import { holdsMisplaced } from './misplaced.ts';
import { ShardEngine } from './shard-engine.ts';
import { ShardMap } from './shard-map.ts';
import { type ClusterAddress, openShards, type ShardServers } from './topology.ts';

/**
 * A cluster of ClickHouse servers whose shards each have the lines of some devices.
 *
 * Every server gets the same schema by itself, in `millrace_shard`, and `millrace` with Distributed tables of the
 * same names over all shards. So statements that read lines work here as on one server. What is about one device
 * goes to its shard alone ({@link shards}, {@link map}): inserts above all, each of which is then one block on one
 * server, committed as a whole or not at all, and waits for no other shard.
 */
export class ClusterEngine implements LogEngine {
  readonly kind = 'server';
  readonly database = 'millrace';
  readonly place: string;
  /** One server of each shard, the same for as long as this process lives: another may lag behind it. */
  readonly shards: readonly ShardEngine[];
  readonly map: ShardMap;
  /** The other replicas of each shard that answered at the start. */
  readonly replicas: readonly (readonly ShardEngine[])[];
  /** All that answered, replicas too. */
  readonly #servers: readonly ShardEngine[];
  readonly #weights: readonly number[];
  #misplaced: ReadonlySet<number> = new Set();

  private constructor(cluster: string, shards: readonly ShardServers[]) {
    const engines = shards.map(({ servers, replicas }) =>
      servers.map((server) => new ShardEngine(server, { replicated: replicas > 1 })),
    );
    this.#servers = engines.flat();
    this.shards = engines.map(([first]) => first as ShardEngine);
    this.replicas = engines.map(([, ...others]) => others);
    this.#weights = shards.map(({ weight }) => weight);
    this.map = new ShardMap(this.#weights);
    this.place = `${cluster} (${this.shards.map(({ place }) => place).join(', ')})`;
  }

  /**
   * Connects to all shards and brings their schema up to date.
   *
   * @throws MillraceError `CONFIG_INVALID`, `STORE_TOO_NEW` or `STORE_FAILED`
   */
  static async open(address: ClusterAddress & { log: Logger; textIndex: boolean }): Promise<ClusterEngine> {
    const { cluster, log, textIndex } = address;
    const engine = new ClusterEngine(cluster, await openShards(address));
    try {
      for (const [i, shard] of engine.shards.entries()) {
        // One makes what the others join.
        const replicas = [shard, ...(engine.replicas[i] ?? [])];
        const leader = await leaderOf(replicas);
        await migrate(leader, log);
        await setTextIndex(leader, textIndex);
        for (const replica of replicas) if (replica !== leader) await joinShard(replica, leader, log);
      }
      await engine.#makeWholeTables(cluster);
      // What others have acknowledged may be on its way to this replica.
      await Promise.all(engine.shards.map((shard) => shard.synchronize()));
      await engine.findMisplaced();
      if (engine.misplaced.size > 0) {
        const shardsOf = [...engine.misplaced].map((shard) => shard + 1);
        log.info({ shards: shardsOf }, 'log store: these shards have lines of devices that others have now');
      }
      return engine;
    } catch (error) {
      await engine.close();
      throw error;
    }
  }

  /** Shards, from 0, that hold something of devices whose lines go to others now: the cluster had other shards once. */
  get misplaced(): ReadonlySet<number> {
    return this.#misplaced;
  }

  /** Looks for {@link misplaced}. It must be done when nobody stores by another division any more. @throws StoreError */
  async findMisplaced(): Promise<void> {
    const found = new Set<number>();
    await Promise.all(
      this.shards.map(async (shard, i) => {
        if (await holdsMisplaced(shard, this.map, i)) found.add(i);
      }),
    );
    this.#misplaced = found;
  }

  /** By what devices are divided: the same text for two processes only if they send each device to the same shard. */
  async division(): Promise<string> {
    const ids = await Promise.all(this.shards.map((shard) => shard.id()));
    return createHash('sha256')
      .update(JSON.stringify(ids.map((id, i) => [id, this.#weights[i]])))
      .digest('hex')
      .slice(0, 16);
  }

  async #makeWholeTables(cluster: string): Promise<void> {
    for (const { server } of this.#servers) {
      await server.command('CREATE DATABASE IF NOT EXISTS millrace');
      const tables = await server.query<{ name: string; byDevice: number }>(dividedTablesSql);
      const columns = await server.query<{ table: string; same: number }>(
        `SELECT table, countDistinct(columns) = 1 AND count() = 2 AS same FROM (
           SELECT table, database, groupArray((name, type)) AS columns FROM system.columns
           WHERE database IN ('millrace', '${shardDatabase}') GROUP BY table, database)
         GROUP BY table`,
      );
      for (const { name, byDevice } of tables) {
        if (columns.some(({ table, same }) => table === name && same === 1)) continue;
        await server.command(wholeTable(cluster, { name, byDevice: byDevice === 1 }));
      }
    }
  }

  insertRows(): Promise<void> {
    throw new MillraceError('INTERNAL', 'rows go to a shard, not to the cluster');
  }

  /** Asks any server, which asks the shards that may have what is asked for. @throws StoreError */
  async query<T>(sql: string, settings: EngineSettings = {}): Promise<T[]> {
    let silent: StoreError | undefined;
    for (const { server } of this.#servers) {
      try {
        // What is misplaced would not be found.
        const optimize_skip_unused_shards = this.#misplaced.size === 0 ? 1 : 0;
        return await server.query<T>(sql, { ...settings, optimize_skip_unused_shards });
      } catch (error) {
        // Only a server that gave no answer at all leaves the question open.
        if (!(error instanceof StoreError) || error.engineCode !== undefined) throw error;
        silent = error;
      }
    }
    throw silent ?? new StoreError('no server of the cluster answers');
  }

  /** On every shard, for its own part. @throws StoreError */
  async command(sql: string): Promise<void> {
    await Promise.all(this.shards.map((shard) => shard.command(sql)));
  }

  async close(): Promise<void> {
    await Promise.all(this.#servers.map((server) => server.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
