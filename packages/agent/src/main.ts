import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { errorText, MillraceError, readSettings } from '@millrace/wire';
import { type Logger, pino } from 'pino';
import type { ApiBinder } from './api-binder.ts';
import { appRoutes } from './apps/api/routes.ts';
import { Apps } from './apps/apps.ts';
import type { TargetFollower } from './apps/remote/follower.ts';
import { TargetNews } from './apps/remote/news.ts';
import {
  createApiBinder,
  createCloudBackend,
  createMqttBackend,
  createTargetFollower,
  isFollowing,
} from './backends.ts';
import { type AgentConfig, agentSettings } from './config.ts';
import { lockFolder } from './device/folder-lock.ts';
import { type DeviceIdentity, loadIdentity } from './device/identity.ts';
import { OwnLog } from './device/own-log.ts';
import { register } from './device/registration.ts';
import { powerRoutes } from './device-api/power.ts';
import { isLoopback, serveDeviceApi } from './device-api/server.ts';
import { connectEngine } from './docker/engine.ts';
import { FolderDisk } from './journal/disk.ts';
import { Journal } from './journal/journal.ts';
import type { CloudLogBackend } from './logging/cloud-backend.ts';
import { noGaps } from './logging/gap.ts';
import { LocalLogBackend } from './logging/local-backend.ts';
import { ContainerLogMonitor } from './logging/monitor.ts';
import type { MqttLogBackend } from './logging/mqtt-backend.ts';
import { ProcessMeter } from './metrics/process-meter.ts';
import { ShapingFile } from './shape/file.ts';
import { ShapedTaker } from './shape/shaped-taker.ts';
import { sumDrops } from './shape/shaper.ts';
import { createSources } from './sources.ts';
import type { AgentState } from './state.ts';

export type { AgentState } from './state.ts';

export interface AgentOptions {
  /** Environment variables; see `agentSettings`. Default: those of the process. */
  env?: Record<string, string | undefined>;
  /** Where the agent's own log is shown. It is shipped as well, from level info. */
  log?: Logger;
}

export interface Agent extends AsyncDisposable {
  readonly uuid: string;
  readonly deviceApiUrl: string;
  /** The ports of `DEVICE_API_PORT` and `API_PORT`, as they were chosen. */
  readonly ports: readonly number[];
  readonly state: AgentState;
  /** Captures nothing more, sends what it can within a moment, and saves the rest. Takes under 4 s. */
  stop(): Promise<void>;
}

// A last chance for lines that were captured just before the stop; what is left stays in the journal.
const drainMs = 1000;
const firstContactMs = 2000;
// A reader that keeps up should find what it has not sent in memory, not read and inflate what was just written. The
// journal bounds the bytes.
const recentLines = 200_000;

/**
 * Starts the device program: journal, device API, container capture and the backends that are configured. An
 * engine, broker or cloud that does not answer is no error: it is tried again.
 *
 * @throws MillraceError `CONFIG_INVALID`, `PORT_TAKEN`, `DATA_DIR_UNUSABLE`
 */
export async function startAgent(options: AgentOptions = {}): Promise<Agent> {
  const env = options.env ?? process.env;
  const config = readSettings(agentSettings, env);
  checkTogether(config);
  const ownLog = new OwnLog(options.log ?? pino({ level: config.logLevel }));
  const { log } = ownLog;
  await using started = new AsyncDisposableStack();
  const stopping = new AbortController();

  createFolder(config.dataDir);
  started.use(await lockFolder(config.dataDir));
  const identity = loadIdentity(config.dataDir, { uuid: config.deviceUuid, apiKey: config.cloudApiKey });
  const journal = started.use(openJournal(config, log));
  const local = new LocalLogBackend({ journal, log });
  ownLog.attach(journal);
  started.defer(() => ownLog.detach());

  const backend = { config, identity, journal, log };
  const news: TargetNews = new TargetNews({
    trustsMqtt: config.cloudDeploy === 'mqtt',
    follower: () => follower,
    log,
  });
  const mqtt = await createMqttBackend(backend, news);
  const cloud = createCloudBackend(backend, news);
  const docker = connectEngine({ env });
  const shaping =
    config.shapingFile !== undefined
      ? started.use(new ShapingFile({ path: config.shapingFile, log, changed: () => reshape() }))
      : undefined;
  const gaps = noGaps();
  const monitor: ContainerLogMonitor = new ContainerLogMonitor(local, docker, {
    positions: local,
    shaping,
    log,
    logs: config.dockerLogs,
    gaps,
    historyMs: config.historyMs,
    firstSeenMs: journal.created,
  });
  const taker = new ShapedTaker({ taker: local, rules: shaping });
  const reshape = () => {
    monitor.reshape();
    void taker.reshape();
  };
  const meter = started.use(new ProcessMeter());
  const sources = createSources({ config, env, taker, positions: local, gaps, log });
  const apps = started.use(
    new Apps({
      docker,
      dataDir: config.dataDir,
      owner: identity.uuid,
      patience: { healthyMs: config.appsHealthyMs, stableMs: config.appsStableMs },
      keepImages: config.appsKeepImages,
      registryAuthFile: config.registryAuthFile,
      isFollowing: isFollowing(config),
      onChange: () => binder?.noteChange(),
      log,
    }),
  );
  const binder: ApiBinder | undefined = createApiBinder(backend, { local, apps, news });
  const follower: TargetFollower | undefined = createTargetFollower(backend, apps);
  const state = (): AgentState => ({
    docker: {
      connected: monitor.state.engine === 'connected',
      containers: monitor.state.containers,
      ...(monitor.state.error && { error: monitor.state.error.detail }),
    },
    sources: Object.fromEntries(sources.map((source) => [source.name, source.state])),
    missed: gaps,
    dropped: sumDrops(monitor.dropped, taker.drops),
    ...(mqtt && { mqtt: mqtt.state }),
    ...(cloud && { cloud: cloud.state }),
    ...(binder && { report: binder.state }),
    ...(follower && { target: follower.state }),
    journal: { ...journal.stats(), oldestSeconds: oldestSeconds(journal) },
    process: meter.read(),
  });

  const api = started.use(
    await serveDeviceApi({
      local,
      uuid: identity.uuid,
      state,
      host: config.deviceApiHost,
      apiKey: config.deviceApiKey,
      routes: [appRoutes({ apps, local }), powerRoutes({ isEnabled: config.devicePower, log })],
      ports: [
        { variable: 'DEVICE_API_PORT', port: config.deviceApiPort },
        { variable: 'API_PORT', port: config.apiPort },
      ],
      log,
    }),
  );
  log.info({ uuid: identity.uuid, journal: journal.id }, 'agent started');

  started.defer(() => disconnectAll([mqtt, cloud], log));
  await within(firstContactMs, [
    monitor.start(),
    apps.start(),
    ...sources.map((source) => source.start()),
    mqtt?.connect(),
    connectCloud({ cloud, binder, follower }, backend, stopping.signal),
  ]);
  started.defer(() => drain([mqtt, cloud], journal));
  started.defer(() => monitor.stop());
  started.defer(() => taker.flush());
  for (const source of sources) started.use(source);
  if (binder) started.use(binder);
  if (follower) started.use(follower);
  started.defer(() => stopping.abort());

  // From here on the parts live until stop().
  const parts = started.move();
  const stop = () => parts.disposeAsync();
  return {
    uuid: identity.uuid,
    deviceApiUrl: `http://${config.deviceApiHost}:${api.ports[0]}`,
    ports: api.ports,
    get state() {
      return state();
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

function checkTogether(config: AgentConfig): void {
  if (config.cloudEndpoint && !config.cloudApiKey && !config.joinKey) {
    throw new MillraceError(
      'CONFIG_INVALID',
      'CLOUD_ENDPOINT is set, but neither CLOUD_API_KEY nor JOIN_KEY',
    );
  }
  if (config.cloudDeploy === 'mqtt' && !config.mqttBroker) {
    throw new MillraceError('CONFIG_INVALID', 'CLOUD_DEPLOY="mqtt" is set, but not MQTT_BROKER');
  }
  if (!isLoopback(config.deviceApiHost) && config.deviceApiKey === undefined) {
    throw new MillraceError(
      'CONFIG_INVALID',
      `DEVICE_API_HOST="${config.deviceApiHost}" can be reached from elsewhere, but DEVICE_API_KEY is not set`,
    );
  }
}

function createFolder(dir: string): void {
  try {
    mkdirSync(dir, { recursive: true });
  } catch (cause) {
    throw new MillraceError('DATA_DIR_UNUSABLE', `DATA_DIR ${dir}: ${errorText(cause)}`, { cause });
  }
}

function openJournal(config: AgentConfig, log: Logger): Journal {
  const dir = join(config.dataDir, 'logs');
  try {
    return new Journal({
      disk: new FolderDisk(dir),
      maxBytes: config.journalMaxBytes,
      maxFileBytes: config.journalFileBytes,
      syncIntervalMs: config.journalSyncMs,
      recentLines,
      log,
    });
  } catch (cause) {
    throw new MillraceError('DATA_DIR_UNUSABLE', `${dir}: ${errorText(cause)}`, { cause });
  }
}

function oldestSeconds(journal: Journal): number {
  const [oldest] = journal.stored().segments;
  if (!oldest) return 0;
  const { clock } = journal;
  const openedMs = clock.trueMs(oldest.openedMs, oldest.clock) ?? oldest.openedMs;
  return Math.max(0, Math.round((clock.wallMs - openedMs) / 1000));
}

async function connectCloud(
  { cloud, binder, follower }: CloudParts,
  { config, identity, log }: { config: AgentConfig; identity: DeviceIdentity; log: Logger },
  signal: AbortSignal,
): Promise<void> {
  if (!cloud && !binder && !follower) return;
  if (config.cloudEndpoint && !config.cloudApiKey && config.joinKey) {
    const { cloudEndpoint: endpoint, joinKey } = config;
    if (!(await register({ endpoint, joinKey, identity, log, signal }))) return;
  }
  // Not waited for: the first answers may take as long as the cloud likes.
  binder?.start();
  follower?.start();
  await cloud?.connect();
}

interface CloudParts {
  cloud: CloudLogBackend | undefined;
  binder: ApiBinder | undefined;
  follower: TargetFollower | undefined;
}

/** Waits for first contacts, so that a start can say how they went, but never long: they go on by themselves. */
async function within(ms: number, contacts: (Promise<void> | undefined)[]): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([Promise.all(contacts), promise]);
  clearTimeout(timer);
}

async function drain(
  backends: (MqttLogBackend | CloudLogBackend | undefined)[],
  journal: Journal,
): Promise<void> {
  const deadline = performance.now() + drainMs;
  await Promise.race([journal.flush(), new Promise((done) => setTimeout(done, drainMs).unref())]);
  const behind = () => backends.some((backend) => backend?.state.connected && backend.state.lag > 0);
  while (behind() && performance.now() < deadline) await new Promise((done) => setTimeout(done, 10));
}

async function disconnectAll(
  backends: (MqttLogBackend | CloudLogBackend | undefined)[],
  log: Logger,
): Promise<void> {
  const results = await Promise.allSettled(backends.map((backend) => backend?.disconnect()));
  for (const result of results) {
    if (result.status === 'rejected')
      log.warn({ error: errorText(result.reason) }, 'a backend did not close cleanly');
  }
}
