import { MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import { ShardEngine } from './cluster/shard-engine.ts';
import { type ClusterAddress, openShards } from './cluster/topology.ts';
import { EmbeddedEngine } from './embedded-engine.ts';
import type { LogEngine } from './engine.ts';
import { migrations } from './migrations/index.ts';
import { ServerEngine } from './server-engine.ts';

export interface StoreState {
  /** Without credentials. */
  place: string;
  engineVersion: string;
  /** 0 when there is none yet. */
  schema: number;
  /** That this program knows. */
  newestSchema: number;
  /** By the engine's clock. */
  nowMs: number;
}

/**
 * Looks at a store without changing it.
 *
 * @throws MillraceError `DATA_DIR_UNUSABLE`, `CONFIG_INVALID`, `STORE_FAILED`
 */
export async function inspectStore(options: {
  dataDir?: string;
  url?: string;
  /** The server at `url` is one of a cluster. */
  inCluster?: boolean;
  log: Logger;
}): Promise<StoreState> {
  const { dataDir, url, inCluster = false, log } = options;
  if (url === undefined && dataDir === undefined) {
    throw new MillraceError('OPTION_INVALID', 'inspectStore takes either dataDir or url');
  }
  await using engine: LogEngine =
    url !== undefined
      ? serverEngine(await ServerEngine.open({ url, log, requestTimeoutMs: 10_000 }), inCluster)
      : await EmbeddedEngine.open({ dataDir: dataDir as string, log });
  const [about] = await engine.query<{ engineVersion: string; nowMs: number; tables: number }>(
    `SELECT version() AS engineVersion, toUnixTimestamp64Milli(now64(3)) AS nowMs,
      (SELECT count() FROM system.tables WHERE database = 'millrace' AND name = 'migrations') AS tables`,
  );
  const [row] = about?.tables
    ? await engine.query<{ schema: number }>('SELECT max(version) AS schema FROM millrace.migrations')
    : [];
  return {
    place: engine.place,
    engineVersion: about?.engineVersion ?? '',
    schema: row?.schema ?? 0,
    newestSchema: Math.max(...migrations.map(({ version }) => version)),
    nowMs: about?.nowMs ?? 0,
  };
}

/**
 * Connects to a cluster as a start does.
 *
 * @returns the number of its shards, and how many replicas of each are asked for
 * @throws MillraceError `CONFIG_INVALID` when there is no such cluster, `STORE_FAILED` when a shard does not answer
 */
export async function inspectCluster(address: ClusterAddress): Promise<{ shards: number; replicas: number }> {
  const shards = await openShards(address);
  await Promise.all(shards.flatMap(({ servers }) => servers.map((server) => server.close())));
  return { shards: shards.length, replicas: Math.max(...shards.map(({ replicas }) => replicas)) };
}

function serverEngine(server: ServerEngine, inCluster: boolean): LogEngine {
  return inCluster ? new ShardEngine(server, { replicated: false }) : server;
}
