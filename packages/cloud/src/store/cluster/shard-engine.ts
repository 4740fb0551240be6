import type { EngineSettings, InsertOptions } from '../engine.ts';
import type { FencedEngine } from '../fences.ts';
import type { ServerEngine } from '../server-engine.ts';
import { onShard, type ShardDdlOptions, shardDatabase } from './ddl.ts';

/** One server of a cluster and what its shard holds, by the statements of a server that stands alone. */
export class ShardEngine implements FencedEngine {
  readonly kind = 'server';
  readonly database = shardDatabase;
  readonly place: string;
  readonly server: ServerEngine;
  readonly #options: ShardDdlOptions;

  constructor(server: ServerEngine, options: ShardDdlOptions) {
    this.server = server;
    this.place = server.place;
    this.#options = options;
  }

  insertRows(bytes: Buffer, options: InsertOptions): Promise<void> {
    return this.server.insertRows(bytes, {
      ...options,
      table: onShard(options.table, this.#options),
      // What was acknowledged must outlive the replica that took it.
      ...(this.#options.replicated && { settings: { ...options.settings, insert_quorum: 'auto' } }),
    });
  }

  query<T>(sql: string, settings?: EngineSettings): Promise<T[]> {
    return this.server.query(onShard(sql, this.#options), settings);
  }

  command(sql: string): Promise<void> {
    return this.server.command(onShard(sql, this.#options));
  }

  insertsOver(): Promise<void> {
    return this.server.insertsOver();
  }

  /** What tells this shard from all others, whichever of its replicas is asked. @throws StoreError */
  async id(): Promise<string> {
    const [row] = await this.server.query<{ id: string }>(
      this.#options.replicated
        ? `SELECT zookeeper_path AS id FROM system.replicas WHERE database = '${shardDatabase}' AND table = 'logs'`
        : `SELECT toString(uuid) AS id FROM system.tables WHERE database = '${shardDatabase}' AND name = 'logs'`,
    );
    return row?.id ?? '';
  }

  /** Resolves when this replica has what the others had when it was asked. @throws StoreError */
  async synchronize(): Promise<void> {
    if (!this.#options.replicated) return;
    for (const table of ['logs', 'repeats', 'overlaps']) {
      await this.server.command(`SYSTEM SYNC REPLICA ${shardDatabase}.${table} LIGHTWEIGHT`);
    }
  }

  close(): Promise<void> {
    return this.server.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
