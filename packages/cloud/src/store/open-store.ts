import { MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import { ClusterEngine } from './cluster/cluster-engine.ts';
import { EmbeddedEngine } from './embedded-engine.ts';
import type { LogEngine } from './engine.ts';
import { LogStore } from './log-store.ts';
import { migrate } from './migrations/index.ts';
import { ServerEngine } from './server-engine.ts';
import { indexSettings, setTextIndex } from './text-index.ts';

export interface OpenStoreOptions {
  /** Folder of the embedded ClickHouse. Either this or `url`. */
  dataDir?: string;
  /** Address of a ClickHouse server, with credentials; of a cluster several, separated by commas. */
  url?: string;
  /** Name of the cluster that the servers at `url` belong to. */
  cluster?: string;
  log: Logger;
  /** Index the words of messages. Default true. */
  textIndex?: boolean;
  /** Cap on the embedded engine's memory. Default: a quarter of the RAM. */
  maxMemoryBytes?: number;
  /** Where the embedded engine writes backups to. Without it there are none. */
  backupDir?: string;
  /** Longest that a search may run. Default 30. */
  maxSearchSeconds?: number;
}

/**
 * Opens the log store and brings its schema up to date.
 *
 * @throws MillraceError `DATA_DIR_UNUSABLE`, `CONFIG_INVALID`, `STORE_TOO_NEW` or `STORE_FAILED`
 */
export async function openStore(options: OpenStoreOptions): Promise<LogStore> {
  const { log, url, dataDir } = options;
  if ((url === undefined) === (dataDir === undefined)) {
    throw new MillraceError('OPTION_INVALID', 'openStore takes either dataDir or url');
  }
  if (options.cluster !== undefined && url === undefined) {
    throw new MillraceError(
      'CONFIG_INVALID',
      'CLICKHOUSE_CLUSTER: needs the address of a server, CLICKHOUSE_URL',
    );
  }
  if (options.cluster === undefined && url?.includes(',')) {
    throw new MillraceError(
      'CONFIG_INVALID',
      'CLICKHOUSE_URL: several servers need the name of their cluster, CLICKHOUSE_CLUSTER',
    );
  }
  if (url !== undefined && options.cluster !== undefined) {
    const { cluster, textIndex = true, maxSearchSeconds } = options;
    const urls = url.split(',').map((one) => one.trim());
    const whole = await ClusterEngine.open({ urls, cluster, log, textIndex });
    return new LogStore({
      engine: whole,
      shards: whole.shards,
      replicas: whole.replicas,
      map: whole.map,
      cluster: whole,
      maxSearchSeconds,
      settings: await indexSettings(whole),
    });
  }
  const engine: LogEngine =
    url !== undefined
      ? await ServerEngine.open({ url, log })
      : await EmbeddedEngine.open({
          dataDir: dataDir as string,
          log,
          maxMemoryBytes: options.maxMemoryBytes,
          backupDir: options.backupDir,
        });
  try {
    await migrate(engine, log);
    await setTextIndex(engine, options.textIndex ?? true);
    const settings = await indexSettings(engine);
    return new LogStore({ engine, maxSearchSeconds: options.maxSearchSeconds, settings });
  } catch (error) {
    await engine.close();
    throw error;
  }
}
