import { MillraceError, readSettings, type Setting, type Settings, type SettingValues } from '@millrace/wire';
import * as z from 'zod';
import { retentionClasses } from './retention/days.ts';

/** Where the program listens when nothing else is said. */
export const defaultPorts = { cloud: 8080, mqtt: 1883, mqttWs: 9001 } as const;

const port = (fallback: number) =>
  z
    .string()
    .regex(/^\d{1,5}$/, 'must be a port number from 0 (any free port) to 65535')
    .transform(Number)
    .refine((value) => value <= 65535, 'must be a port number from 0 (any free port) to 65535')
    .default(fallback);

const url = (protocols: readonly string[]) =>
  z
    .string()
    .refine(
      (value) => {
        const parsed = URL.parse(value);
        return parsed !== null && protocols.includes(parsed.protocol) && parsed.hostname !== '';
      },
      `must be a URL that starts with ${protocols.map((protocol) => `${protocol}//`).join(', ')}`,
    )
    .optional();

/** One URL, or several with commas between them. */
const urlList = (protocols: readonly string[]) => {
  const one = url(protocols);
  const message = `must be a URL that starts with ${protocols.map((protocol) => `${protocol}//`).join(', ')}, or several separated by commas`;
  return z
    .string()
    .refine((text) => text.split(',').every((part) => one.safeParse(part.trim()).success), message)
    .optional();
};

const origins = z
  .string()
  .transform((value) => value.split(',').map((item) => item.trim().replace(/\/$/, '')))
  .refine(
    (list) => list.every((item) => item === '*' || URL.parse(item)?.origin === item),
    'must be a comma-separated list of origins such as https://logs.example.com, or *',
  )
  .default([]);

const retentionDays = z
  .string()
  .refine(
    (value) => retentionClasses.some((days) => String(days) === value),
    `must be one of ${retentionClasses.join(', ')}`,
  )
  .transform(Number)
  .default(30);

const leastStoreBytes = 100 * 1024 * 1024;
const storeBytes = z
  .string()
  .regex(/^\d{1,15}$/, `must be a number of bytes from ${leastStoreBytes}`)
  .transform(Number)
  .refine((value) => value >= leastStoreBytes, `must be a number of bytes from ${leastStoreBytes}`)
  .optional();

const setting = <T>(value: Setting<T>): Setting<T> => value;

/** Every environment variable of the cloud program. */
export const cloudSettings = {
  dataDir: setting({
    env: 'DATA_DIR',
    schema: z.string().default('./data'),
    defaultText: './data',
    help: 'Folder of the log store, the records and the keys that this program makes.',
  }),
  host: setting({
    env: 'CLOUD_HOST',
    schema: z.string().default('0.0.0.0'),
    defaultText: '0.0.0.0',
    help: 'Address the HTTP server listens on.',
  }),
  port: setting({
    env: 'CLOUD_PORT',
    schema: port(defaultPorts.cloud),
    defaultText: String(defaultPorts.cloud),
    help: 'Port of the API, of the log-stream and of MQTT over WebSocket at /mqtt.',
  }),
  mqttHost: setting({
    env: 'MQTT_HOST',
    schema: z.string().optional(),
    defaultText: 'as CLOUD_HOST',
    help: 'Address the embedded MQTT broker listens on.',
  }),
  mqttPort: setting({
    env: 'MQTT_PORT',
    schema: port(defaultPorts.mqtt),
    defaultText: String(defaultPorts.mqtt),
    help: 'Port of the embedded MQTT broker.',
  }),
  mqttWsPort: setting({
    env: 'MQTT_WS_PORT',
    schema: port(defaultPorts.mqttWs),
    defaultText: String(defaultPorts.mqttWs),
    help: 'Port of the embedded MQTT broker for WebSocket clients.',
  }),
  mqttAnonymous: setting({
    env: 'MQTT_ANONYMOUS',
    schema: z.enum(['loopback', 'off'], 'must be loopback or off').default('loopback'),
    defaultText: 'loopback',
    help: 'Whether MQTT clients on this machine may read without credentials (loopback), or nobody may (off).',
  }),
  mqttWsOrigins: setting({
    env: 'MQTT_WS_ORIGINS',
    schema: origins,
    help: 'Web origins beside those of this machine whose pages may use MQTT over WebSocket, separated by commas.',
  }),
  brokerUrl: setting({
    env: 'CLOUD_MQTT_BROKER',
    schema: url(['mqtt:', 'mqtts:', 'tcp:', 'ssl:', 'tls:', 'ws:', 'wss:']),
    help: "An external MQTT broker to read from instead of the embedded one. Its access rules must keep every device to its own topics: a device's identity is then the uuid in the topic.",
  }),
  brokerUsername: setting({
    env: 'CLOUD_MQTT_USERNAME',
    schema: z.string().optional(),
    help: 'User name for the external broker.',
  }),
  brokerPassword: setting({
    env: 'CLOUD_MQTT_PASSWORD',
    schema: z.string().optional(),
    help: 'Password for the external broker.',
    secret: true,
  }),
  brokerCa: setting({
    env: 'CLOUD_MQTT_CA',
    schema: z.string().optional(),
    help: 'File with the certificate authority (PEM) that the external broker is checked against.',
  }),
  brokerClientId: setting({
    env: 'CLOUD_MQTT_CLIENT_ID',
    schema: z.string().optional(),
    defaultText: 'made and kept',
    help: 'Client id at the external broker, which keeps messages under it while this program is down.',
  }),
  brokerShare: setting({
    env: 'CLOUD_MQTT_SHARE',
    schema: z
      .string()
      .regex(/^[^/+#]+$/, 'must be a name without / + #')
      .optional(),
    help: 'Group of a shared subscription ($share/{group}/…): of all cloud processes that name the same one, the external broker gives each message to one.',
  }),
  joinKey: setting({
    env: 'JOIN_KEY',
    schema: z.string().min(8, 'must have at least 8 characters').optional(),
    defaultText: 'made and kept in DATA_DIR/join-key',
    help: 'Lets an unknown device register itself.',
    secret: true,
  }),
  adminToken: setting({
    env: 'ADMIN_TOKEN',
    schema: z.string().min(16, 'must have at least 16 characters').optional(),
    defaultText: 'made and shown at the first start',
    help: 'Token for the API; replaces the one set or made earlier.',
    secret: true,
  }),
  backupDir: setting({
    env: 'BACKUP_DIR',
    schema: z.string().optional(),
    defaultText: 'DATA_DIR/backups',
    help: 'Folder in which backups are made.',
  }),
  clickhouseUrl: setting({
    env: 'CLICKHOUSE_URL',
    schema: urlList(['http:', 'https:']),
    defaultText: 'embedded, in DATA_DIR',
    help: 'A ClickHouse server to store log lines in: http(s)://user:password@host:8123. Of a cluster one server, if all have its port and credentials, or each of them, separated by commas.',
    secret: true,
  }),
  clickhouseCluster: setting({
    env: 'CLICKHOUSE_CLUSTER',
    schema: z.string().min(1, 'must be the name of a cluster').optional(),
    help: "Name of a cluster in the ClickHouse servers' remote_servers. Each device's lines are kept on one of its shards.",
  }),
  peerUrl: setting({
    env: 'CLOUD_PEER_URL',
    schema: url(['http:', 'https:']),
    help: 'Set it where several cloud processes share one ClickHouse and one PostgreSQL: where the others reach this one, http://10.0.0.5:8080. Needs CLICKHOUSE_URL and DATABASE_URL.',
  }),
  peerTimeoutMs: setting({
    env: 'CLOUD_PEER_TIMEOUT',
    schema: z
      .string()
      .regex(/^\d{3,6}$/, 'must be a number of milliseconds from 500 to 600000')
      .transform(Number)
      .refine((ms) => ms >= 500 && ms <= 600_000, 'must be a number of milliseconds from 500 to 600000')
      .default(5000),
    defaultText: '5000',
    help: 'Ms without a sign of life after which the other processes take over the devices of one. Being wrong about it costs a pause, never a line.',
  }),
  retentionDays: setting({
    env: 'RETENTION_DAYS',
    schema: retentionDays,
    defaultText: '30',
    help: `How long lines are kept that no policy speaks of: ${retentionClasses.join(', ')} days.`,
  }),
  quotaBytesPerDay: setting({
    env: 'QUOTA_BYTES_PER_DAY',
    schema: z
      .string()
      .regex(/^\d{1,15}$/, 'must be a number of bytes')
      .transform(Number)
      .optional(),
    help: 'What each device may send in a day (UTC) that no policy speaks of, in bytes of messages. Unset: any amount.',
  }),
  storeMaxBytes: setting({
    env: 'STORE_MAX_BYTES',
    schema: storeBytes,
    help: 'Most bytes on disk of the embedded log store. Past them the oldest day goes, whatever its retention.',
  }),
  databaseUrl: setting({
    env: 'DATABASE_URL',
    schema: url(['postgres:', 'postgresql:']),
    defaultText: 'embedded, in DATA_DIR',
    help: 'A PostgreSQL server to keep the records in: postgres://user:password@host:5432/database.',
    secret: true,
  }),
  logLevel: setting({
    env: 'LOG_LEVEL',
    schema: z
      .enum(
        ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
        'must be trace, debug, info, warn, error, fatal or silent',
      )
      .default('info'),
    defaultText: 'info',
    help: "How much of this program's own log is shown.",
  }),
} satisfies Settings;

export type CloudConfig = SettingValues<typeof cloudSettings>;

/**
 * Reads the cloud's settings from an environment.
 *
 * @throws MillraceError `CONFIG_INVALID` naming every variable that is wrong
 */
export function readCloudConfig(env: Record<string, string | undefined>): CloudConfig {
  const config = readSettings(cloudSettings, env);
  if (config.storeMaxBytes !== undefined && config.clickhouseUrl !== undefined) {
    throw new MillraceError(
      'CONFIG_INVALID',
      'STORE_MAX_BYTES: is for the embedded log store, and CLICKHOUSE_URL names a server',
    );
  }
  if (config.peerUrl !== undefined && !(config.clickhouseUrl && config.databaseUrl)) {
    throw new MillraceError('CONFIG_INVALID', 'CLOUD_PEER_URL: needs CLICKHOUSE_URL and DATABASE_URL');
  }
  if (config.clickhouseCluster !== undefined && config.clickhouseUrl === undefined) {
    throw new MillraceError(
      'CONFIG_INVALID',
      'CLICKHOUSE_CLUSTER: needs the address of a server, CLICKHOUSE_URL',
    );
  }
  return config;
}
