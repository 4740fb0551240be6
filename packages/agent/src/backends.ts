import type { Logger } from 'pino';
import { ApiBinder } from './api-binder.ts';
import type { Apps } from './apps/apps.ts';
import { fetchTarget } from './apps/remote/fetch-target.ts';
import { TargetFollower } from './apps/remote/follower.ts';
import type { TargetNews } from './apps/remote/news.ts';
import { type AgentConfig, readNamedFile } from './config.ts';
import type { DeviceIdentity } from './device/identity.ts';
import type { Journal } from './journal/journal.ts';
import { CloudLogBackend } from './logging/cloud-backend.ts';
import type { LocalLogBackend } from './logging/local-backend.ts';
import type { MqttLogBackend } from './logging/mqtt-backend.ts';
import { appStates } from './state-report/app-states.ts';
import { SystemMeter } from './state-report/system-meter.ts';
import { agentVersion } from './version.ts';

interface BackendOptions {
  config: AgentConfig;
  identity: DeviceIdentity;
  journal: Journal;
  log: Logger;
}

/**
 * The MQTT backend that the configuration asks for, reading from the journal; `undefined` without a broker, and then
 * its library is not loaded either.
 */
export async function createMqttBackend(
  { config, identity, journal, log }: BackendOptions,
  news: TargetNews,
): Promise<MqttLogBackend | undefined> {
  if (!config.mqttBroker) return undefined;
  const { MqttLogBackend } = await import('./logging/mqtt-backend.ts');
  // A Millrace cloud knows the device by its uuid and key; any other broker has users of its own.
  const asDevice = config.mqttUsername === undefined && config.mqttAck === 'cloud';
  return new MqttLogBackend({
    brokerUrl: config.mqttBroker,
    clientOptions: {
      clientId: config.mqttClientId ?? `millrace-${identity.uuid}`,
      username: asDevice ? identity.uuid : config.mqttUsername,
      password: asDevice ? deviceKey(config, identity) : config.mqttPassword,
      ca: readNamedFile('MQTT_CA', config.mqttCa),
      cert: readNamedFile('MQTT_CERT', config.mqttCert),
      key: readNamedFile('MQTT_KEY', config.mqttKey),
      rejectUnauthorized: config.mqttRejectUnauthorized,
    },
    baseTopic: config.mqttTopic,
    qos: config.mqttQos as 0 | 1 | 2,
    retain: config.mqttRetain,
    enableBatching: config.mqttBatch,
    batchInterval: config.mqttBatchInterval,
    maxBatchSize: config.mqttBatchSize,
    debug: config.mqttDebug,
    ack: config.mqttAck,
    deviceUuid: identity.uuid,
    feed: journal.cursor('mqtt'),
    onTarget: hearsByMqtt(config) ? (payload) => news.take(payload) : undefined,
    log,
  });
}

/** The cloud backend, likewise; `undefined` without an endpoint. */
export function createCloudBackend(
  { config, identity, journal, log }: BackendOptions,
  news: TargetNews,
): CloudLogBackend | undefined {
  if (!config.cloudEndpoint || !config.cloudLogs) return undefined;
  return new CloudLogBackend({
    cloudEndpoint: config.cloudEndpoint,
    deviceUuid: identity.uuid,
    apiKey: deviceKey(config, identity),
    compression: config.cloudCompression,
    feed: journal.cursor('cloud'),
    onTarget: config.cloudDeploy === 'off' ? undefined : (version) => news.hear(version),
    log,
  });
}

/** What reports the device's state; `undefined` without an endpoint. */
export function createApiBinder(
  { config, identity, log }: Omit<BackendOptions, 'journal'>,
  { local, apps, news }: { local: LocalLogBackend; apps: Apps; news: TargetNews },
): ApiBinder | undefined {
  if (!config.cloudEndpoint || !config.reportState) return undefined;
  return new ApiBinder({
    cloudEndpoint: config.cloudEndpoint,
    deviceUuid: identity.uuid,
    apiKey: deviceKey(config, identity),
    agentVersion,
    meter: new SystemMeter({ dataDir: config.dataDir }),
    apps: async () => {
      const manager = await apps.known();
      return manager && appStates(manager.list(), manager.cloud?.refused);
    },
    onTarget: config.cloudDeploy === 'off' ? undefined : (version) => news.hear(version),
    recentLogs: config.reportRecentLogs ? local : undefined,
    log,
  });
}

/** What keeps the device at the cloud's target; `undefined` when no cloud may say what runs here. */
export function createTargetFollower(
  { config, identity, log }: Omit<BackendOptions, 'journal'>,
  apps: Apps,
): TargetFollower | undefined {
  if (!isFollowing(config)) return undefined;
  const { uuid: deviceUuid } = identity;
  const { cloudEndpoint: endpoint, cloudDeployPollMs: pollMs } = config;
  const cloud = endpoint ? { endpoint, apiKey: deviceKey(config, identity), deviceUuid } : undefined;
  return new TargetFollower({
    fetch: cloud && ((version, signal) => fetchTarget(cloud, version, signal)),
    apply: async (version, document) => {
      const { readTarget } = await import('@millrace/wire/apps');
      const releases = readTarget(document, deviceUuid);
      // A device that has never had an app stays one that knows nothing of them.
      if (releases.length === 0 && !(await apps.known())) return;
      await (await apps.manager()).follow(version, releases);
    },
    applied: async () => (await apps.known())?.cloud?.version,
    pollMs,
    log,
  });
}

/** Whether a cloud may say what runs here. */
export function isFollowing({ cloudDeploy, cloudEndpoint, mqttBroker }: AgentConfig): boolean {
  if (cloudDeploy === 'off') return false;
  return cloudEndpoint !== undefined || (cloudDeploy === 'mqtt' && mqttBroker !== undefined);
}

/** Only where it is a Millrace cloud's topic: a broker of others may end the connection of who asks for too much. */
function hearsByMqtt(config: AgentConfig): boolean {
  return isFollowing(config) && (config.cloudDeploy === 'mqtt' || config.mqttAck === 'cloud');
}

function deviceKey(config: AgentConfig, identity: DeviceIdentity): string {
  return config.cloudApiKey ?? identity.apiKey;
}
