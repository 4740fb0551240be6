import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import type { CloudConfig } from '../config.ts';
import type { Identity } from '../identity/identity.ts';
import type { Presence } from '../identity/presence.ts';
import { readSecretFile, writeSecretFile } from '../identity/secrets.ts';
import type { Sessions } from '../identity/sessions.ts';
import type { Records } from '../records/records.ts';
import type { TargetBook } from '../targets/target-book.ts';
import type { TargetFeed } from '../targets/target-feed.ts';
import { TargetPusher } from '../targets/target-pusher.ts';
import { type BrokerStats, EmbeddedBroker } from './embedded.ts';
import { ExternalBroker } from './external.ts';
import type { DeviceInbox } from './inbox.ts';
import { MqttWebSocket } from './websocket.ts';

export interface BrokerParts {
  config: CloudConfig;
  brokerCa: Buffer | undefined;
  identity: Identity;
  presence: Presence;
  sessions: Sessions;
  inbox: DeviceInbox;
  records: Records;
  targets: TargetBook;
  feed: TargetFeed;
  log: Logger;
}

/** MQTT, by whichever broker. */
export interface Mqtt {
  port?: number;
  wsPort?: number;
  webSocket?: MqttWebSocket;
  stats?: () => BrokerStats;
  /** Throws when the broker does not work. */
  check(): void;
  start(): void;
  /** Takes no more lines; what was taken is answered when it is committed. */
  leave(): Promise<void>;
}

/** Opens the embedded broker, or connects to the one that the settings name; it ends with `starting`. */
export async function openBroker(parts: BrokerParts, starting: AsyncDisposableStack): Promise<Mqtt> {
  const { config, brokerCa, identity, presence, sessions, inbox, records, targets, feed, log } = parts;
  if (config.brokerUrl) {
    const broker = starting.use(
      new ExternalBroker({
        url: config.brokerUrl,
        clientId: config.brokerClientId ?? (await keptClientId(config.dataDir)),
        username: config.brokerUsername,
        password: config.brokerPassword,
        share: config.brokerShare,
        ca: brokerCa,
        inbox,
        presence,
        log,
      }),
    );
    const pusher = starting.use(new TargetPusher({ records, book: targets, broker, log }));
    feed.onChange(() => pusher.push());
    return {
      check: () => {
        if (!broker.connected) throw new MillraceError('BROKER_UNREACHABLE', 'not connected');
      },
      start: () => {
        broker.start();
        pusher.start();
      },
      leave: () => broker.leave(),
    };
  }
  await records.presence.forget();
  const broker = starting.use(
    await EmbeddedBroker.open({
      identity,
      presence,
      sessions,
      inbox,
      targets,
      log,
      anonymous: config.mqttAnonymous,
    }),
  );
  feed.onChange((devices) => broker.targetsChanged(devices));
  const webSocket = starting.use(new MqttWebSocket({ broker, allowedOrigins: config.mqttWsOrigins, log }));
  const host = config.mqttHost ?? config.host;
  const port = await broker.listen(host, config.mqttPort);
  const wsPort = await webSocket.listen(host, config.mqttWsPort);
  return {
    port,
    wsPort,
    webSocket,
    stats: () => broker.stats,
    check: () => undefined,
    start: () => undefined,
    leave: async () => broker.leave(),
  };
}

/** The external broker keeps our messages under this id, so a restart must come back with the same. */
async function keptClientId(dataDir: string): Promise<string> {
  const path = join(dataDir, 'mqtt-client-id');
  const kept = await readSecretFile(path);
  if (kept) return kept;
  const made = `millrace-${randomBytes(6).toString('hex')}`;
  await writeSecretFile(path, made);
  return made;
}
