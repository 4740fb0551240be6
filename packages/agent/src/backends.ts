import type { Logger } from 'pino';
import { ApiBinder } from './api-binder.ts';
import type { Apps } from './apps/apps.ts';
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
export async function createMqttBackend({
  config,
  identity,
  journal,
  log,
}: BackendOptions): Promise<MqttLogBackend | undefined> {
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
    log,
  });
}

/** The cloud backend, likewise; `undefined` without an endpoint. */
export function createCloudBackend({
  config,
  identity,
  journal,
  log,
}: BackendOptions): CloudLogBackend | undefined {
  if (!config.cloudEndpoint || !config.cloudLogs) return undefined;
  return new CloudLogBackend({
    cloudEndpoint: config.cloudEndpoint,
    deviceUuid: identity.uuid,
    apiKey: deviceKey(config, identity),
    compression: config.cloudCompression,
    feed: journal.cursor('cloud'),
    log,
  });
}

/** What reports the device's state; `undefined` without an endpoint. */
export function createApiBinder(
  { config, identity, log }: Omit<BackendOptions, 'journal'>,
  { local, apps }: { local: LocalLogBackend; apps: Apps },
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
      return manager && appStates(manager.list());
    },
    recentLogs: config.reportRecentLogs ? local : undefined,
    log,
  });
}

function deviceKey(config: AgentConfig, identity: DeviceIdentity): string {
  return config.cloudApiKey ?? identity.apiKey;
}
