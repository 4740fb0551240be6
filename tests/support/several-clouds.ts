import { join } from 'node:path';
import { type ClickHouseCluster, startClickHouseCluster } from './clickhouse.ts';
import { startTestCloud, type TestCloud } from './cloud.ts';
import { type Mosquitto, startMosquitto } from './mosquitto.ts';
import { freePort } from './ports.ts';
import { type PostgresServer, startPostgres } from './postgres.ts';
import { type Balancer, startBalancer } from './tcp-balancer.ts';
import { tempDir } from './tmp.ts';
import { until } from './wait.ts';

/** Several cloud processes on one ClickHouse cluster, one PostgreSQL and one Mosquitto, behind a load balancer. */
export interface SeveralClouds extends AsyncDisposable {
  clouds: readonly TestCloud[];
  balancer: Balancer;
  cluster: ClickHouseCluster;
  postgres: PostgresServer;
  mosquitto: Mosquitto;
}

export interface SeveralCloudsOptions {
  clouds?: number;
  shards?: number;
  /** Where the broker is for the clouds, if not where it is. */
  brokerUrl?: (mosquitto: Mosquitto) => Promise<string>;
  env?: Record<string, string>;
}

export async function startSeveralClouds(options: SeveralCloudsOptions = {}): Promise<SeveralClouds> {
  const { clouds: count = 2, shards = 3, env = {} } = options;
  await using starting = new AsyncDisposableStack();
  const dir = starting.use(await tempDir('millrace-clouds-'));
  const cluster = starting.use(await startClickHouseCluster(shards));
  const postgres = starting.use(await startPostgres());
  const mosquitto = starting.use(await startMosquitto());
  const databaseUrl = await postgres.database();
  const brokerUrl = (await options.brokerUrl?.(mosquitto)) ?? mosquitto.url;
  const clouds: TestCloud[] = [];
  for (let i = 0; i < count; i++) {
    const port = await freePort();
    const cloud = await startTestCloud(join(dir.path, `cloud-${i + 1}`), {
      CLOUD_PORT: String(port),
      CLOUD_PEER_URL: `http://127.0.0.1:${port}`,
      CLOUD_PEER_TIMEOUT: '2000',
      CLICKHOUSE_URL: cluster.url,
      CLICKHOUSE_CLUSTER: cluster.name,
      DATABASE_URL: databaseUrl,
      CLOUD_MQTT_BROKER: brokerUrl,
      CLOUD_MQTT_SHARE: 'clouds',
      LOG_LEVEL: 'info',
      ...env,
    });
    clouds.push(starting.use(cloud));
  }
  const balancer = starting.use(await startBalancer(clouds.map(({ url }) => Number(new URL(url).port))));
  await until(async () => (await Promise.all(clouds.map(isHealthy))).every(Boolean), {
    timeoutMs: 60_000,
    what: 'the clouds to be healthy',
  });
  const running = starting.move();
  return {
    ...{ clouds, balancer, cluster, postgres, mosquitto },
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

async function isHealthy(cloud: TestCloud): Promise<boolean> {
  return fetch(`${cloud.url}/healthz`).then(
    ({ ok }) => ok,
    () => false,
  );
}
