import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import {
  defaultServiceBase,
  deviceTopic,
  MillraceError,
  type TopicLayout,
  topicLayout,
  topicLevel,
} from '@millrace/wire';
import type { IClientOptions } from 'mqtt';
import { type Logger, pino } from 'pino';
import type { BackoffOptions } from '../../delivery/backoff.ts';
import { displayUrl, urlSecrets } from '../../delivery/secrets.ts';
import { MemoryFeed, type MemoryFeedOptions } from '../memory-feed.ts';
import type { Feed } from '../types.ts';

/** Passed on to MQTT.js, but for what would take queueing and reconnecting out of our hands. */
export type MqttClientOptions = Omit<
  IClientOptions,
  | 'reconnectPeriod'
  | 'reconnectOnConnackError'
  | 'resubscribe'
  | 'queueQoSZero'
  | 'manualConnect'
  | 'incomingStore'
  | 'outgoingStore'
  | 'servers'
>;

export interface MqttLogBackendOptions {
  /** `mqtt://`, `mqtts://`, `ws://` or `wss://` with host and port. */
  brokerUrl: string;
  /** `username`, `password`, `clientId`, `ca`, `cert`, `key`, `rejectUnauthorized` and more, as MQTT.js takes them. */
  clientOptions?: MqttClientOptions;
  /**
   * Where lines go. `device/logs`, or any base that holds `{uuid}`, asks for the device layout; any other base
   * for the service layout. Default `container-manager/logs`.
   */
  baseTopic?: string;
  /** 0 may lose lines, 1 may repeat lines (default), 2 repeats them only over a broken connection. */
  qos?: 0 | 1 | 2;
  /** Ask the broker to keep the last message of each topic. Default false. */
  retain?: boolean;
  /** Several lines per message: `{count, logs}`. Default false. */
  enableBatching?: boolean;
  /** Longest that a line waits for others, in ms. Default 1000. */
  batchInterval?: number;
  /** Most lines in a message. Default 50. */
  maxBatchSize?: number;
  /** Log each publish. Default false. */
  debug?: boolean;

  /** Where lines are read from. Without it `log()` fills a bounded buffer in memory. */
  feed?: Feed;
  /** Bounds of that buffer. */
  memory?: MemoryFeedOptions;
  /** The device's id in topics. Default: client id or host name. */
  deviceUuid?: string;
  /** Publish `device/{uuid}/status`, retained and with a last will. Default true where `deviceUuid` is given. */
  status?: boolean;
  /**
   * What counts as arrived: the broker's acknowledgement (default), or that of a Millrace cloud once it has
   * stored the lines. `cloud` needs the device layout.
   */
  ack?: 'broker' | 'cloud';
  /**
   * Most messages under way. A broker that asks for fewer (MQTT 5) gets fewer. Default 64, and 16 with QoS 2:
   * Mosquitto cuts a connection with more than 20 of these.
   */
  maxInFlight?: number;
  /** Without any acknowledgement for this long the connection is given up, or the lines are sent again. Default 30 000. */
  ackTimeoutMs?: number;
  /** Pauses between attempts. Default 500 to 60 000 ms, and 30 000 after a refusal. */
  backoff?: BackoffOptions & { refusedMs?: number };
  /** Default: JSON lines on standard output. */
  log?: Logger;
  /** Told of every message on `device/{uuid}/target`, retained ones first. Needs `deviceUuid`. */
  onTarget?: ((payload: Buffer) => void) | undefined;
  /** Told of every change of `connected`. */
  onStateChange?: (state: MqttBackendState) => void;
}

export interface MqttBackendState {
  connected: boolean;
  /** Messages handed to the broker, and how many of them it has confirmed. */
  published: number;
  acked: number;
  /** Lines in these messages. */
  lines: number;
  /** Payload bytes of these messages. */
  bytes: number;
  /** Lines that the broker refused for good (MQTT 5). */
  refused: number;
  /** Lines that are not confirmed, and lines that a full buffer has shed. */
  lag: number;
  lost: number;
  lastError: string | undefined;
}

/** Options with their defaults, checked. */
export interface MqttSettings {
  url: URL;
  /** The address without credentials, for logs. */
  shownUrl: string;
  /** What must never be seen in a log. */
  secrets: (string | undefined)[];
  clientOptions: IClientOptions;
  layout: TopicLayout;
  statusUuid: string | undefined;
  qos: 0 | 1 | 2;
  retain: boolean;
  batch: { intervalMs: number; maxLines: number } | undefined;
  debug: boolean;
  feed: Feed;
  /** Set when the feed is our own: what `log()` fills. */
  memory: MemoryFeed | undefined;
  ack: 'broker' | 'cloud';
  maxInFlight: number;
  ackTimeoutMs: number;
  backoff: BackoffOptions;
  refusedMs: number;
  /** The topic of the device's target, and who listens to it. */
  target: { topic: string; take: (payload: Buffer) => void } | undefined;
  log: Logger;
}

// MQTT.js refuses client certificates with the names that it otherwise takes for the same protocol.
const protocols: Record<string, 'mqtt' | 'mqtts' | 'ws' | 'wss'> = {
  'mqtt:': 'mqtt',
  'tcp:': 'mqtt',
  'mqtts:': 'mqtts',
  'ssl:': 'mqtts',
  'tls:': 'mqtts',
  'ws:': 'ws',
  'wss:': 'wss',
};

/** @throws MillraceError `OPTION_INVALID` or `TOPIC_INVALID`, naming the option and what is allowed */
export function readMqttOptions(options: MqttLogBackendOptions): MqttSettings {
  const { clientOptions: given = {}, deviceUuid, baseTopic = defaultServiceBase } = options;
  const url = brokerUrl(options.brokerUrl);
  const protocol = protocols[url.protocol] as 'mqtt' | 'mqtts' | 'ws' | 'wss';
  const secure = protocol === 'mqtts' || protocol === 'wss';
  for (const key of ['ca', 'cert', 'key'] as const) {
    if (given[key] !== undefined && !secure) {
      invalid(`clientOptions.${key} needs a brokerUrl that begins with mqtts:// or wss://`);
    }
  }
  if ((given.cert === undefined) !== (given.key === undefined)) {
    invalid('clientOptions.cert and clientOptions.key must be given together');
  }
  if (deviceUuid !== undefined && (typeof deviceUuid !== 'string' || deviceUuid === '')) {
    invalid('deviceUuid must be a text that is not empty');
  }
  if (typeof baseTopic !== 'string') invalid('baseTopic must be a text');
  const layout = topicLayout(baseTopic, deviceUuid ?? given.clientId ?? hostname());
  const ack = oneOf('ack', options.ack ?? 'broker', ['broker', 'cloud'] as const);
  const qos = oneOf('qos', options.qos ?? 1, [0, 1, 2]);
  const retain = options.retain ?? false;
  if (ack === 'cloud' && layout.kind !== 'device') {
    invalid('ack "cloud" needs the device layout: set baseTopic to device/logs, or to a base with {uuid}');
  }
  if (ack === 'cloud' && retain) invalid('retain must be false with ack "cloud"');
  const clientId =
    given.clientId ?? `millrace-${deviceUuid ? topicLevel(deviceUuid) : randomBytes(6).toString('hex')}`;
  const batch = {
    intervalMs: whole('batchInterval', options.batchInterval ?? 1000, 0, 600_000),
    maxLines: whole('maxBatchSize', options.maxBatchSize ?? 50, 1, 10_000),
  };
  const debug = options.debug ?? false;
  const log = options.log ?? pino({ name: 'mqtt-log-backend', level: debug ? 'debug' : 'info' });
  const memory = options.feed ? undefined : new MemoryFeed(options.memory);
  return {
    url,
    shownUrl: displayUrl(url),
    secrets: [given.password?.toString(), ...urlSecrets(url)],
    clientOptions: {
      keepalive: 30,
      connectTimeout: 20_000,
      ...given,
      protocol,
      clientId,
      // Ours: the feed is the queue, and each connection starts from what it has not confirmed.
      reconnectPeriod: 0,
      resubscribe: false,
      queueQoSZero: false,
    },
    layout,
    statusUuid: options.status === false ? undefined : deviceUuid,
    qos,
    retain,
    batch: options.enableBatching ? batch : undefined,
    debug,
    feed: options.feed ?? (memory as MemoryFeed),
    memory,
    ack,
    maxInFlight: whole('maxInFlight', options.maxInFlight ?? (qos === 2 ? 16 : 64), 1, 60_000),
    ackTimeoutMs: whole('ackTimeoutMs', options.ackTimeoutMs ?? 30_000, 1, 3_600_000),
    backoff: options.backoff ?? {},
    refusedMs: options.backoff?.refusedMs ?? 30_000,
    target:
      options.onTarget && deviceUuid !== undefined
        ? { topic: deviceTopic(deviceUuid, 'target'), take: options.onTarget }
        : undefined,
    // `debug: true` shows publishes whatever level the program logs at.
    log: debug && !log.isLevelEnabled('debug') ? log.child({}, { level: 'debug' }) : log,
  };
}

function brokerUrl(text: unknown): URL {
  const url = typeof text === 'string' ? URL.parse(text) : null;
  if (!url || !Object.hasOwn(protocols, url.protocol) || url.hostname === '') {
    // The text itself may hold a password, so it is not repeated.
    invalid('brokerUrl must look like mqtt://host:1883 (or mqtts://, ws://, wss://)');
  }
  return url;
}

function oneOf<const T>(name: string, value: unknown, allowed: readonly T[]): T {
  const known = allowed.find((candidate) => candidate === value);
  if (known === undefined) invalid(`${name} must be one of ${allowed.join(', ')}, not ${String(value)}`);
  return known;
}

function whole(name: string, value: unknown, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    invalid(`${name} must be a whole number from ${min} to ${max}, not ${String(value)}`);
  }
  return value;
}

function invalid(detail: string): never {
  throw new MillraceError('OPTION_INVALID', detail);
}
