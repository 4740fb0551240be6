import type { ConditionalStatement } from '../migrations/migration.ts';
import { string } from '../sql.ts';

/** Where a shard keeps its own part. `millrace` holds tables of the same names, over all shards. */
export const shardDatabase = 'millrace_shard';
const wholeDatabase = 'millrace';

/** By what lines are divided. `shard-map.ts` computes the same. */
export const shardingKey = 'CRC32(device)';

/** Tables that tell about a server itself: each replica has its own. */
const perServer = ['migrations', 'fences'];

/**
 * The name of our database where system tables are asked, a string literal, which stays as it is, or that name before
 * one of its tables. No literal of a caller can hold the first: its quotes are escaped.
 */
const databaseOrLiteral = /\bdatabase = 'millrace'|'(?:[^'\\]|\\.)*'|\bmillrace\./gs;

export interface ShardDdlOptions {
  /** The shard has several replicas, which `{shard}` and `{replica}` tell apart. */
  replicated: boolean;
}

/** A statement about `millrace.…` for the tables of one shard. */
export function onShard(sql: string, { replicated }: ShardDdlOptions): string {
  const own = sql.replace(databaseOrLiteral, (text) => {
    if (text.startsWith("'")) return text;
    return text.startsWith('database') ? `database = '${shardDatabase}'` : `${shardDatabase}.`;
  });
  return replicated ? replicatedTable(own) : own;
}

/** CREATE TABLE … ENGINE = MergeTree as a table that all replicas of the shard share. */
function replicatedTable(sql: string): string {
  const [, table] = /^\s*CREATE TABLE (?:IF NOT EXISTS )?millrace_shard\.(\w+)/.exec(sql) ?? [];
  if (table === undefined || perServer.includes(table)) return sql;
  return sql
    .replace(
      /\bENGINE = (\w*MergeTree)\b(?:\(([^)]*)\))?/,
      (_, engine: string, given: string | undefined) => {
        const more = given ? `, ${given}` : '';
        return `ENGINE = Replicated${engine}(${string(`/clickhouse/tables/{shard}/millrace/${table}`)}, '{replica}'${more})`;
      },
    )
    .replace('non_replicated_deduplication_window', 'replicated_deduplication_window');
}

/** Tables of a shard that have a counterpart over all shards. */
export const dividedTablesSql = `SELECT name, has(columns, 'device') AS byDevice
FROM system.tables AS tables
INNER JOIN (SELECT table, groupArray(name) AS columns FROM system.columns WHERE database = '${shardDatabase}' GROUP BY table)
  AS of ON of.table = tables.name
WHERE database = '${shardDatabase}' AND engine LIKE '%MergeTree' AND name NOT IN (${perServer.map(string).join(', ')})
ORDER BY name`;

/** The table over all shards. Replaced whenever it is made: it holds nothing, and its columns follow the shards'. */
export function wholeTable(cluster: string, { name, byDevice }: { name: string; byDevice: boolean }): string {
  const key = byDevice ? `, ${shardingKey}` : '';
  return `CREATE OR REPLACE TABLE ${wholeDatabase}.${name} AS ${shardDatabase}.${name}
ENGINE = Distributed(${string(cluster)}, '${shardDatabase}', ${string(name)}${key})`;
}

/** Everything that is made on each server of a cluster whose shards have replicas, for people to read. */
export function replicatedSchema(statements: readonly (string | ConditionalStatement)[]): string[] {
  return [
    `CREATE DATABASE IF NOT EXISTS ${shardDatabase}`,
    ...statements.map((sql) =>
      onShard(typeof sql === 'string' ? sql : sql.statement, { replicated: true }).trim(),
    ),
  ];
}
