import { access } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { CloudConfig } from '../config.ts';
import { inspectCluster, inspectStore } from '../store/index.ts';
import { clockResult } from './clock.ts';
import { type CheckResult, failed } from './result.ts';

/** Whether the log store opens, how its schema stands, and what its clock says. */
export async function checkStore(
  config: CloudConfig,
  { isRunning, log }: { isRunning: boolean; log: Logger },
): Promise<CheckResult[]> {
  const { clickhouseUrl, clickhouseCluster } = config;
  if (clickhouseUrl === undefined) return checkOne(config, { isRunning, log });
  const urls = clickhouseCluster === undefined ? [clickhouseUrl] : clickhouseUrl.split(',');
  const results = await Promise.all(urls.map((url) => checkOne(config, { url: url.trim(), isRunning, log })));
  const found = results.flat();
  // What is wrong with a server itself is said already.
  if (clickhouseCluster === undefined || found.some(({ state }) => state === 'failed')) return found;
  return [
    ...found,
    await checkCluster({ urls: urls.map((url) => url.trim()), cluster: clickhouseCluster, log }),
  ];
}

async function checkCluster(address: Parameters<typeof inspectCluster>[0]): Promise<CheckResult> {
  const part = 'cluster';
  const { cluster } = address;
  try {
    const { shards, replicas } = await inspectCluster(address);
    const each = replicas === 1 ? '' : ` of ${replicas} replicas`;
    return { part, state: 'ok', detail: `${cluster}: ${shards} shards${each}, and each answers` };
  } catch (error) {
    const action =
      'Check CLICKHOUSE_CLUSTER, CLICKHOUSE_URL, remote_servers on the servers, and that all of them are up.';
    return { ...failed(part, error), action };
  }
}

/** The embedded store, or one server. */
async function checkOne(
  config: CloudConfig,
  { url, isRunning, log }: { url?: string; isRunning: boolean; log: Logger },
): Promise<CheckResult[]> {
  const part = 'log store';
  const inCluster = config.clickhouseCluster !== undefined;
  const dataDir = join(config.dataDir, 'store');
  if (url === undefined) {
    if (isRunning) return [];
    const isThere = await access(dataDir).then(
      () => true,
      () => false,
    );
    if (!isThere) return [{ part, state: 'ok', detail: 'embedded; will be made at the first start' }];
  }
  try {
    const found = await inspectStore({ ...(url === undefined ? { dataDir } : { url, inCluster }), log });
    const detail = `${url === undefined ? 'embedded' : found.place}, ClickHouse ${found.engineVersion}`;
    const clocks = url === undefined ? [] : [clockResult('clock of ClickHouse', found.nowMs)];
    if (found.schema > found.newestSchema) {
      return [
        {
          part,
          state: 'failed',
          detail: `${detail}: made by a newer program (schema ${found.schema}, this one knows ${found.newestSchema})`,
          action: 'Install that version of Millrace or a later one.',
        },
        ...clocks,
      ];
    }
    const schema =
      found.schema === found.newestSchema
        ? `schema ${found.schema}`
        : `schema ${found.schema}, brought up to ${found.newestSchema} at the next start`;
    return [{ part, state: 'ok', detail: `${detail}, ${schema}` }, ...clocks];
  } catch (error) {
    const action = url === undefined ? undefined : 'Check CLICKHOUSE_URL, the server and the network.';
    return [{ ...failed(part, error), ...(action && { action }) }];
  }
}
