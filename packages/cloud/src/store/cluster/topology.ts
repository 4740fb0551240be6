import { MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import { StoreError } from '../engine.ts';
import { placeOf, ServerEngine } from '../server-engine.ts';
import { string } from '../sql.ts';

export interface ClusterAddress {
  /** Addresses with credentials. One is enough where all servers have the same port and credentials. */
  urls: readonly string[];
  /** Its name in the servers' `remote_servers`. */
  cluster: string;
  log: Logger;
}

/** A shard and those of its replicas that answered. */
export interface ShardServers {
  weight: number;
  replicas: number;
  servers: ServerEngine[];
}

interface HostRow {
  shard: number;
  weight: number;
  replica: number;
  host: string;
  isLocal: boolean;
}

/**
 * Connects to the servers of a cluster, as `system.clusters` names them.
 *
 * @throws MillraceError `CONFIG_INVALID` when there is no such cluster, `STORE_FAILED` when a shard does not answer
 */
export async function openShards({ urls, cluster, log }: ClusterAddress): Promise<ShardServers[]> {
  await using opened = new AsyncDisposableStack();
  const failures: string[] = [];
  const open = async (url: string): Promise<ServerEngine | undefined> => {
    try {
      return opened.use(await ServerEngine.open({ url, log }));
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      failures.push(`${placeOf(url)}: ${error.detail}`);
      return undefined;
    }
  };
  const shards = new Map<number, ShardServers>();
  const enter = async (server: ServerEngine, hosts: readonly HostRow[]) => {
    const own = hosts.find(({ isLocal }) => isLocal);
    if (!own) {
      throw new MillraceError(
        'CONFIG_INVALID',
        `CLICKHOUSE_CLUSTER="${cluster}": ${server.place} does not find itself among the servers of the cluster`,
      );
    }
    for (const { shard, weight } of hosts) {
      const replicas = hosts.filter((host) => host.shard === shard).length;
      if (!shards.has(shard)) shards.set(shard, { weight, replicas, servers: [] });
    }
    shards.get(own.shard)?.servers.push(server);
  };

  const given = await Promise.all(urls.map(open));
  for (const server of given) if (server) await enter(server, await hostsOf(server, cluster));
  const [only] = urls;
  const [first] = given;
  if (urls.length === 1 && only !== undefined && first) {
    const others = (await hostsOf(first, cluster)).filter(({ isLocal }) => !isLocal);
    const found = await Promise.all(others.map(({ host }) => open(withHost(only, host))));
    for (const server of found) if (server) await enter(server, await hostsOf(server, cluster));
  }
  if (failures.length > 0) log.warn({ failures }, 'servers of the cluster do not answer');
  const ordered = [...shards].sort(([a], [b]) => a - b);
  const silent = ordered.filter(([, { servers }]) => servers.length === 0).map(([shard]) => shard);
  if (ordered.length === 0 || silent.length > 0) {
    const which = silent.length > 0 ? `shard ${silent.join(', ')} of ` : '';
    throw new StoreError(
      `${which}the cluster ${cluster} does not answer, or no address of it is in CLICKHOUSE_URL (${failures.join('; ')})`,
    );
  }
  opened.move();
  return ordered.map(([, shard]) => shard);
}

async function hostsOf(server: ServerEngine, cluster: string): Promise<HostRow[]> {
  const rows = await server.query<Omit<HostRow, 'isLocal'> & { isLocal: number }>(
    `SELECT shard_num AS shard, shard_weight AS weight, replica_num AS replica, host_name AS host, is_local AS isLocal
     FROM system.clusters WHERE cluster = ${string(cluster)} ORDER BY shard, replica`,
  );
  if (rows.length > 0) return rows.map((row) => ({ ...row, isLocal: row.isLocal === 1 }));
  const known = await server.query<{ cluster: string }>('SELECT DISTINCT cluster FROM system.clusters');
  const names = known.map(({ cluster: name }) => name).join(', ') || 'none';
  throw new MillraceError(
    'CONFIG_INVALID',
    `CLICKHOUSE_CLUSTER="${cluster}": ${server.place} knows no such cluster; it knows ${names}`,
  );
}

function withHost(url: string, host: string): string {
  const other = new URL(url);
  other.hostname = host.includes(':') ? `[${host}]` : host;
  return other.href;
}
