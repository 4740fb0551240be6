import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import manifest from '../package.json' with { type: 'json' };
import { Backups } from './backup/backups.ts';
import { DeviceInbox } from './broker/inbox.ts';
import { type Mqtt, openBroker } from './broker/open.ts';
import { ClockSkews } from './clock/skew.ts';
import { type CloudConfig, readCloudConfig } from './config.ts';
import { HttpServer, type HttpTuning } from './http/server.ts';
import { Identity } from './identity/identity.ts';
import { Presence } from './identity/presence.ts';
import { Sessions } from './identity/sessions.ts';
import { Ingest } from './ingest/index.ts';
import { reachableHost } from './listening.ts';
import { CloudMetrics } from './metrics/cloud-metrics.ts';
import { Ownership } from './peers/ownership.ts';
import { lockFolder } from './records/folder-lock.ts';
import { Records } from './records/records.ts';
import { Ballast } from './retention/ballast.ts';
import { PolicyBook } from './retention/policy-book.ts';
import { QuotaBook } from './retention/quota-book.ts';
import { Sweeper } from './retention/sweeper.ts';
import { openStore } from './store/index.ts';
import { RolloutDriver } from './targets/rollout-driver.ts';
import { TargetBook } from './targets/target-book.ts';
import { TargetFeed } from './targets/target-feed.ts';

export { type CloudConfig, cloudSettings, readCloudConfig } from './config.ts';

export interface StartCloudOptions {
  /** Settings already read; otherwise they are read from `env`. */
  config?: CloudConfig;
  /** Default: `process.env`. */
  env?: Record<string, string | undefined>;
  log: Logger;
  tuning?: HttpTuning;
}

/** A running cloud. */
export interface Cloud extends AsyncDisposable {
  /** Where this machine reaches the API. */
  url: string;
  httpPort: number;
  /** Of the embedded broker; absent when an external one is used. */
  mqttPort?: number;
  wsPort?: number;
  /** Set only when it was made at this start: the one time that it can be shown. */
  adminToken?: string;
  joinKey: string;
  dataDir: string;
  /** Stops within 5 s, and commits and acknowledges first what has been read. */
  stop(): Promise<void>;
}

/** Looks at the other processes within their timeout. */
const deadTicks = 5;
const stopMs = 4500;
/** Of that, what the lines read so far may take to be committed. */
const drainMs = 3000;

/**
 * Starts the cloud: store, records, broker and HTTP server in one process. When a part fails, those that had
 * started are stopped again.
 *
 * @throws MillraceError `CONFIG_INVALID`, `PORT_TAKEN`, `DATA_DIR_UNUSABLE`, `STORE_FAILED`
 */
export async function startCloud(options: StartCloudOptions): Promise<Cloud> {
  const { log, tuning } = options;
  const config = options.config ?? readCloudConfig(options.env ?? process.env);
  const { dataDir, backupDir = join(dataDir, 'backups') } = config;
  const brokerCa = config.brokerCa === undefined ? undefined : await readCa(config.brokerCa);
  // Ends what has started, last first, should a later part fail.
  await using starting = new AsyncDisposableStack();
  starting.use(await lockFolder(dataDir));

  // The two databases take the longest, so they open side by side.
  const [records, store] = await both(
    Records.open({ dataDir, databaseUrl: config.databaseUrl, log: log.child({ part: 'records' }) }),
    openStore({
      ...(config.clickhouseUrl
        ? { url: config.clickhouseUrl }
        : { dataDir: join(dataDir, 'store'), backupDir }),
      cluster: config.clickhouseCluster,
      log: log.child({ part: 'store' }),
    }),
  );
  starting.use(records);
  starting.use(store);
  const sweeper = starting.use(
    new Sweeper({
      store,
      log: log.child({ part: 'retention' }),
      maxBytes: config.storeMaxBytes,
      ...(!config.clickhouseUrl && { ballast: new Ballast({ path: join(dataDir, 'store', 'ballast') }) }),
    }),
  );
  const identity = await Identity.open({
    records,
    dataDir,
    adminToken: config.adminToken,
    joinKey: config.joinKey,
  });
  const presence = starting.use(new Presence({ records, log }));
  const sessions = starting.use(new Sessions({ records, log: log.child({ part: 'identity' }) }));
  const metrics = starting.use(new CloudMetrics({ log: log.child({ part: 'metrics' }) }));
  const skews = new ClockSkews();
  const ownership = config.peerUrl ? ownershipOf(config.peerUrl, await store.division()) : undefined;
  const policies = starting.use(
    await PolicyBook.open({
      records,
      log,
      defaultDays: config.retentionDays,
      defaultQuotaBytes: config.quotaBytesPerDay,
    }),
  );
  const quotas = starting.use(
    new QuotaBook({
      quotaBytes: (device) => policies.quotaBytes(device),
      store,
      refusals: records.refusals,
      settled: () => ingest.settled(),
      tell: (device, message) => ingest.notify(device, message),
      log: log.child({ part: 'retention' }),
    }),
  );
  const ingest: Ingest = new Ingest({
    store,
    quotas,
    log: log.child({ part: 'ingest' }),
    claims: ownership,
    retention: (device) => policies.retention(device),
    onCommit: (tookMs) => metrics.noteCommit(tookMs),
    onBatch: (device, sealedMs, receivedMs) => skews.note(device, sealedMs, receivedMs),
  });
  // Behind ingest, so that what it holds is committed before anything is given up.
  if (ownership) starting.use(ownership);
  starting.defer(() => ingest.close());
  const leaving = new AbortController();
  starting.defer(() => leaving.abort());
  const route = ownership && ((device: string) => ownership.route(device));
  const inbox = new DeviceInbox({
    ingest,
    log,
    maxPayloadBytes,
    peers: route && { route, signal: leaving.signal },
  });

  const targetLog = log.child({ part: 'targets' });
  const targets = new TargetBook({ records });
  const feed = starting.use(
    await TargetFeed.open({
      records,
      book: targets,
      log: targetLog,
      isShared: config.databaseUrl !== undefined,
    }),
  );
  const rollouts = starting.use(
    new RolloutDriver({
      records,
      presence,
      onChange: () => feed.look(),
      log: targetLog,
      tickMs: tuning?.rolloutTickMs,
    }),
  );
  const brokerLog = log.child({ part: 'broker' });
  const mqtt = await openBroker(
    { config, brokerCa, identity, presence, sessions, inbox, records, targets, feed, log: brokerLog },
    starting,
  );
  const http = starting.use(
    await HttpServer.open({
      records,
      identity,
      presence,
      sessions,
      skews,
      store,
      ingest,
      policies,
      sweeper,
      quotas,
      targets,
      feed,
      rollouts,
      checks: {
        store: () => store.ping(),
        records: () => records.ping(),
        broker: async () => mqtt.check(),
      },
      peers: ownership &&
        route && {
          route,
          peers: () => ownership.peers(),
          onPeers: (listener: () => void) => ownership.onPeers(listener),
          inbox,
          secret: ownership.secret,
          maxPayloadBytes,
        },
      backups: new Backups({ records, store, dataDir, backupDir, version: manifest.version, log }),
      metrics,
      metricsSources: {
        ingest: () => ingest.stats(),
        broker: mqtt.stats,
        setAside: () => inbox.setAside,
        storeSize: () => store.size(),
        retention: () => ({ sweeper: sweeper.stats, quotas: quotas.stats }),
      },
      mqttUpgrade: mqtt.webSocket && ((...request) => mqtt.webSocket?.upgrade(...request)),
      log: log.child({ part: 'http' }),
      version: manifest.version,
      tuning,
    }),
  );
  const httpPort = await http.listen(config.host, config.port);
  await ownership?.start();
  mqtt.start();
  rollouts.start();
  sweeper.start();

  function ownershipOf(url: string, division: string): Ownership {
    return new Ownership({
      table: records.peers,
      url,
      lanes: store.lanes,
      division,
      divisionChanged: () => store.divisionChanged(),
      laneOf: (device) => store.laneOf(device),
      settled: () => ingest.settled(),
      log: log.child({ part: 'peers' }),
      timing: { tickMs: config.peerTimeoutMs / deadTicks, deadTicks },
    });
  }

  const parts = starting.move();
  let stopped: Promise<void> | undefined;
  const stop = () => {
    stopped ??= stopParts({ http, mqtt, ingest, parts, log });
    return stopped;
  };
  return {
    url: `http://${reachableHost(config.host)}:${httpPort}`,
    httpPort,
    mqttPort: mqtt.port,
    wsPort: mqtt.wsPort,
    adminToken: identity.newAdminToken,
    joinKey: identity.joinKey,
    dataDir,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

const maxPayloadBytes = 1024 * 1024;

async function readCa(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new MillraceError('CONFIG_INVALID', `CLOUD_MQTT_CA="${path}": ${errorText(error)}`, {
      cause: error,
    });
  }
}

/** Waits for two parts, and lets go of the one that opened when the other did not. */
async function both<A extends AsyncDisposable, B extends AsyncDisposable>(
  first: Promise<A>,
  second: Promise<B>,
): Promise<[A, B]> {
  const [a, b] = await Promise.allSettled([first, second]);
  if (a.status === 'fulfilled' && b.status === 'fulfilled') return [a.value, b.value];
  if (a.status === 'fulfilled') await a.value[Symbol.asyncDispose]();
  if (b.status === 'fulfilled') await b.value[Symbol.asyncDispose]();
  throw a.status === 'rejected' ? a.reason : (b as PromiseRejectedResult).reason;
}

interface StopParts {
  http: HttpServer;
  mqtt: Mqtt;
  ingest: Ingest;
  parts: AsyncDisposableStack;
  log: Logger;
}

/**
 * Streams and what comes by MQTT first, so that they end behind something committed; then ingest, while the broker can
 * still answer what it commits; then the rest. A store that does not answer must not hold up the end: what it had not confirmed, no
 * device was told of, and so will be sent again.
 */
async function stopParts({ http, mqtt, ingest, parts, log }: StopParts): Promise<void> {
  const deadline = Date.now() + stopMs;
  const isDrained = await within(drainMs, async () => {
    await Promise.all([http.drain(), mqtt.leave()]);
    await ingest.close();
  });
  if (!isDrained) log.warn('the store did not answer: what it had not confirmed will be sent again');
  const isStopped = await within(deadline - Date.now(), () => parts.disposeAsync());
  if (!isStopped) log.warn('some parts did not stop in time and were left behind');
}

/** Whether `work` came to its end in time; a failure of it is thrown if it came in time too. */
async function within(timeoutMs: number, work: () => Promise<void>): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), timeoutMs);
  const running = work().then(() => true);
  // Once it is late nobody waits for it any more.
  running.catch(() => undefined);
  try {
    return await Promise.race([running, late]);
  } finally {
    clearTimeout(timer);
  }
}
