import { MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import type { EngineSettings, LogEngine } from '../engine.ts';
import { type Migration, migrate, migrations } from '../migrations/index.ts';
import { onShard, shardDatabase } from './ddl.ts';
import type { ShardEngine } from './shard-engine.ts';

/**
 * The replica of a shard that the others follow: the one whose schema is the furthest. A server that was replaced by an
 * empty one, though it may be named first, has none.
 *
 * @throws StoreError
 */
export async function leaderOf(replicas: readonly ShardEngine[]): Promise<ShardEngine> {
  let leader = replicas[0] as ShardEngine;
  let furthest = -1;
  for (const replica of replicas.length > 1 ? replicas : []) {
    const [table] = await replica.query<{ n: number }>(
      `SELECT count() AS n FROM system.tables WHERE database = 'millrace' AND name = 'migrations'`,
    );
    const [row] = table?.n
      ? await replica.query<{ version: number }>('SELECT max(version) AS version FROM millrace.migrations')
      : [{ version: 0 }];
    if ((row?.version ?? 0) <= furthest) continue;
    leader = replica;
    furthest = row?.version ?? 0;
  }
  return leader;
}

/**
 * Brings the schema of a replica up to that of another one of the same shard, which is up to date. Replicated tables are
 * made as they are there *now*: in Keeper they stand in their newest form, and a table made by the steps of their history
 * is refused (METADATA_MISMATCH). How they are altered afterwards Keeper passes on. All other tables are the replica's own
 * and go through every step.
 *
 * @throws StoreError
 */
export async function joinShard(
  replica: ShardEngine,
  leader: ShardEngine,
  log: Logger,
  steps: readonly Migration[] = migrations,
): Promise<number[]> {
  const rows = await leader.server.query<{ name: string; sql: string }>(
    `SELECT name, create_table_query AS sql FROM system.tables
     WHERE database = '${shardDatabase}' AND engine LIKE 'Replicated%'`,
  );
  return migrate(new JoiningReplica(replica, new Map(rows.map(({ name, sql }) => [name, sql]))), log, steps);
}

/** A replica to which the steps of the schema are said as if it stood alone. */
class JoiningReplica implements LogEngine {
  readonly kind = 'server';
  readonly database = shardDatabase;
  readonly place: string;
  readonly #replica: ShardEngine;
  /** By name, how the replicated tables are made. */
  readonly #replicated: ReadonlyMap<string, string>;

  constructor(replica: ShardEngine, replicated: ReadonlyMap<string, string>) {
    this.#replica = replica;
    this.place = replica.place;
    this.#replicated = replicated;
  }

  command(sql: string): Promise<void> {
    const own = onShard(sql, { replicated: true });
    const [, what, table = ''] =
      /^\s*(CREATE|ALTER) TABLE (?:IF NOT EXISTS )?millrace_shard\.(\w+)/.exec(own) ?? [];
    const made = this.#replicated.get(table);
    if (made === undefined) return this.#replica.command(sql);
    if (what === 'ALTER') return Promise.resolve();
    return this.#replica.server.command(made.replace(/^CREATE TABLE /, 'CREATE TABLE IF NOT EXISTS '));
  }

  query<T>(sql: string, settings?: EngineSettings): Promise<T[]> {
    return this.#replica.query(sql, settings);
  }

  insertRows(): Promise<void> {
    throw new MillraceError('INTERNAL', 'nothing is stored while a replica joins');
  }

  close(): Promise<void> {
    return this.#replica.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
