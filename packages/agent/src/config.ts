import { readFileSync } from 'node:fs';
import { MillraceError, type Settings, type SettingValues, targetPollMs } from '@millrace/wire';
import * as z from 'zod';

const portNumber = z.coerce
  .number('must be a port number, 0 to 65535')
  .int('must be a port number, 0 to 65535')
  .min(0, 'must be a port number, 0 to 65535')
  .max(65535, 'must be a port number, 0 to 65535');

const port = (fallback: number) => portNumber.default(fallback);

const whole = (fallback: number, min: number, max: number) =>
  z.coerce
    .number(`must be a whole number from ${min} to ${max}`)
    .int(`must be a whole number from ${min} to ${max}`)
    .min(min, `must be a whole number from ${min} to ${max}`)
    .max(max, `must be a whole number from ${min} to ${max}`)
    .default(fallback);

const flag = (fallback: boolean) =>
  z
    .stringbool({ error: 'must be true or false' })
    .optional()
    .transform((value) => value ?? fallback);

const url = (protocols: readonly string[]) =>
  z
    .string()
    .refine((text) => URL.canParse(text) && protocols.includes(new URL(text).protocol.slice(0, -1)), {
      error: `must be a URL that starts with ${protocols.map((name) => `${name}://`).join(' or ')}`,
    })
    .optional();

const list = () =>
  z
    .string()
    .default('')
    .transform((text) => text.split(',').flatMap((part) => part.trim() || []));

/** Every setting of the agent. The documentation's table and `--help` are made from this. */
export const agentSettings = {
  dataDir: {
    env: 'DATA_DIR',
    schema: z.string().default('./data'),
    defaultText: './data',
    help: 'Folder for the journal (logs/) and the identity of this device.',
  },
  deviceUuid: {
    env: 'DEVICE_UUID',
    schema: z
      .string()
      .regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 letters, digits, - or _')
      .optional(),
    help: 'Identity of this device; made and kept in the data folder if unset.',
  },
  deviceApiHost: {
    env: 'DEVICE_API_HOST',
    schema: z.string().default('127.0.0.1'),
    defaultText: '127.0.0.1',
    help: 'Address that the device API listens on. Beyond loopback it wants DEVICE_API_KEY.',
  },
  deviceApiKey: {
    env: 'DEVICE_API_KEY',
    schema: z.string().min(16, 'must have at least 16 characters').optional(),
    secret: true,
    help: 'Key that the device API asks for (Authorization: Bearer …), but for /ping and /v1/healthy; unset: none, on loopback.',
  },
  devicePower: {
    env: 'DEVICE_POWER',
    schema: flag(false),
    defaultText: 'false',
    help: 'Whether the device API may reboot the device and shut it down (POST /v1/reboot, /v1/shutdown).',
  },
  deviceApiPort: {
    env: 'DEVICE_API_PORT',
    schema: port(48484),
    defaultText: '48484',
    help: 'Port of the device API.',
  },
  apiPort: { env: 'API_PORT', schema: port(3000), defaultText: '3000', help: 'Second port of the same API.' },
  dockerHost: {
    env: 'DOCKER_HOST',
    schema: z.string().optional(),
    defaultText: 'unix:///var/run/docker.sock',
    help: 'Docker engine whose containers are read.',
  },
  dockerLogs: {
    env: 'DOCKER_LOGS',
    schema: z.enum(['auto', 'files', 'api'], 'must be auto, files or api').default('auto'),
    defaultText: 'auto',
    help: "How containers' logs are read: from the log files where they are readable, else through the engine (auto); or only so.",
  },
  historyMs: {
    env: 'HISTORY_MS',
    schema: whole(3_600_000, 0, Number.MAX_SAFE_INTEGER),
    defaultText: '3600000',
    help: 'How far back the logs of containers older than the agent are read at its first start, in ms. So for the other sources, when they are first read.',
  },
  journald: {
    env: 'JOURNALD',
    schema: z.enum(['off', 'on', 'auto'], 'must be off, on or auto').default('off'),
    defaultText: 'off',
    help: "Whether the system's journal is read (journalctl); auto: where there is one. Lines of containers in it are left to Docker.",
  },
  journaldUnits: {
    env: 'JOURNALD_UNITS',
    schema: list(),
    defaultText: 'all',
    help: 'Only these units or identifiers of the journal, separated by commas: ssh, docker*, kernel.',
  },
  journaldDir: {
    env: 'JOURNALD_DIR',
    schema: z.string().optional(),
    help: 'Folder of journal files to read instead of the journal of this machine, e.g. /var/log/journal mounted into a container.',
  },
  syslogPort: {
    env: 'SYSLOG_PORT',
    schema: portNumber.optional(),
    help: 'Port on which syslog is received, over UDP and TCP, e.g. 5514; unset: none.',
  },
  syslogHost: {
    env: 'SYSLOG_HOST',
    schema: z.string().default('127.0.0.1'),
    defaultText: '127.0.0.1',
    help: 'Address for SYSLOG_PORT. Syslog knows no login: on another than loopback whoever reaches it can write.',
  },
  logFiles: {
    env: 'LOG_FILES',
    schema: list(),
    help: 'Files to follow, separated by commas: /var/log/app/*.log, or shop=/srv/shop/**/*.txt to name their lines.',
  },
  shapingFile: {
    env: 'SHAPING_FILE',
    schema: z.string().min(1).optional(),
    help: 'YAML file with rules for lines: least level, drop, keep, redact, rate. Read again when it changes.',
  },
  appsHealthyMs: {
    env: 'APPS_HEALTHY_MS',
    schema: whole(120_000, 1000, 86_400_000),
    defaultText: '120000',
    help: 'How long a new release of an app may take to be well, from its last image on, before the release before comes back, in ms.',
  },
  appsStableMs: {
    env: 'APPS_STABLE_MS',
    schema: whole(10_000, 100, 3_600_000),
    defaultText: '10000',
    help: 'How long a service without a health check has to run to count as well, in ms.',
  },
  appsKeepImages: {
    env: 'APPS_KEEP_IMAGES',
    schema: flag(false),
    defaultText: 'false',
    help: 'Whether images that the agent has pulled stay when no app needs them any more; false: they are removed.',
  },
  registryAuthFile: {
    env: 'REGISTRY_AUTH_FILE',
    schema: z.string().min(1).optional(),
    help: "File with logins at image registries, in the form of Docker's config.json (docker login writes one). Read at each pull.",
  },
  mqttBroker: {
    env: 'MQTT_BROKER',
    schema: url(['mqtt', 'mqtts', 'ws', 'wss']),
    help: 'MQTT broker to publish to, e.g. mqtt://broker:1883; unset: none.',
  },
  mqttTopic: {
    env: 'MQTT_TOPIC',
    schema: z.string().default('container-manager/logs'),
    defaultText: 'container-manager/logs',
    help: 'Base topic. device/logs, or one with {uuid}, gives one topic per device.',
  },
  mqttUsername: { env: 'MQTT_USERNAME', schema: z.string().optional(), help: 'User at the broker.' },
  mqttPassword: {
    env: 'MQTT_PASSWORD',
    schema: z.string().optional(),
    secret: true,
    help: 'Password at the broker.',
  },
  mqttClientId: {
    env: 'MQTT_CLIENT_ID',
    schema: z.string().min(1).max(128).optional(),
    defaultText: 'millrace-<uuid>',
    help: 'Client id at the broker.',
  },
  mqttQos: {
    env: 'MQTT_QOS',
    schema: whole(1, 0, 2),
    defaultText: '1',
    help: 'Quality of service: 0, 1 or 2.',
  },
  mqttRetain: {
    env: 'MQTT_RETAIN',
    schema: flag(false),
    defaultText: 'false',
    help: 'Let the broker keep the last message of each topic.',
  },
  mqttBatch: {
    env: 'MQTT_BATCH',
    schema: flag(false),
    defaultText: 'false',
    help: 'Publish lines in batches: {count, logs}.',
  },
  mqttBatchInterval: {
    env: 'MQTT_BATCH_INTERVAL',
    schema: whole(1000, 1, 3_600_000),
    defaultText: '1000',
    help: 'Longest time a line waits for its batch, in ms.',
  },
  mqttBatchSize: {
    env: 'MQTT_BATCH_SIZE',
    schema: whole(50, 1, 2000),
    defaultText: '50',
    help: 'Most lines in a batch.',
  },
  mqttAck: {
    env: 'MQTT_ACK',
    schema: z.enum(['broker', 'cloud'], 'must be broker or cloud').default('broker'),
    defaultText: 'broker',
    help: 'Who confirms a line: the broker (PUBACK) or a Millrace cloud behind it, after storing it.',
  },
  mqttCa: { env: 'MQTT_CA', schema: z.string().optional(), help: 'File with the CA that signed the broker.' },
  mqttCert: { env: 'MQTT_CERT', schema: z.string().optional(), help: 'File with the client certificate.' },
  mqttKey: {
    env: 'MQTT_KEY',
    schema: z.string().optional(),
    help: "File with the client certificate's key.",
  },
  mqttRejectUnauthorized: {
    env: 'MQTT_REJECT_UNAUTHORIZED',
    schema: flag(true),
    defaultText: 'true',
    help: 'Refuse a broker whose certificate cannot be verified.',
  },
  mqttDebug: { env: 'MQTT_DEBUG', schema: flag(false), defaultText: 'false', help: 'Log each publish.' },
  cloudEndpoint: {
    env: 'CLOUD_ENDPOINT',
    schema: url(['http', 'https']),
    help: 'Cloud to stream to over HTTP(S); unset: none.',
  },
  cloudApiKey: {
    env: 'CLOUD_API_KEY',
    schema: z.string().min(1).optional(),
    secret: true,
    help: 'Key of this device at the cloud.',
  },
  cloudCompression: {
    env: 'CLOUD_COMPRESSION',
    schema: z.enum(['gzip', 'none'], 'must be gzip or none').default('gzip'),
    defaultText: 'gzip',
    help: 'Compression of the stream to the cloud.',
  },
  cloudLogs: {
    env: 'CLOUD_LOGS',
    schema: flag(true),
    defaultText: 'true',
    help: 'Whether lines are streamed to CLOUD_ENDPOINT; false: the state alone is reported there.',
  },
  reportState: {
    env: 'REPORT_STATE',
    schema: flag(true),
    defaultText: 'true',
    help: 'Whether the state of the device is reported to CLOUD_ENDPOINT.',
  },
  reportRecentLogs: {
    env: 'REPORT_RECENT_LOGS',
    schema: flag(false),
    defaultText: 'false',
    help: 'Whether each report of metrics, every 5 minutes, brings the newest lines along, at most 1000: where nothing but that call is allowed.',
  },
  cloudDeploy: {
    env: 'CLOUD_DEPLOY',
    schema: z.enum(['on', 'off', 'mqtt'], 'must be on, off or mqtt').default('on'),
    defaultText: 'on',
    help: 'Whether apps may be deployed from the cloud: on, as CLOUD_ENDPOINT says; mqtt, also as whoever may publish device/{uuid}/target at MQTT_BROKER says; off, not at all.',
  },
  cloudDeployPollMs: {
    env: 'CLOUD_DEPLOY_POLL_MS',
    schema: whole(targetPollMs, 1000, 86_400_000),
    defaultText: String(targetPollMs),
    help: 'How often CLOUD_ENDPOINT is asked what is to run here, beside being told at once, in ms.',
  },
  joinKey: {
    env: 'JOIN_KEY',
    schema: z.string().min(1).optional(),
    secret: true,
    help: 'Lets this device register itself at the cloud when it has no CLOUD_API_KEY.',
  },
  journalMaxBytes: {
    env: 'JOURNAL_MAX_BYTES',
    schema: whole(200 * 1024 * 1024, 1024 * 1024, Number.MAX_SAFE_INTEGER),
    defaultText: '209715200',
    help: 'Most bytes of the journal on disk. What was delivered goes first, then debug lines, then info, then the oldest.',
  },
  journalFileBytes: {
    env: 'JOURNAL_FILE_BYTES',
    schema: whole(5 * 1024 * 1024, 64 * 1024, 1024 * 1024 * 1024),
    defaultText: '5242880',
    help: 'Size at which a journal file is closed.',
  },
  journalSyncMs: {
    env: 'JOURNAL_SYNC_MS',
    schema: whole(1000, 1, 3_600_000),
    defaultText: '1000',
    help: 'Mean time between writes to flash in the long run, in ms.',
  },
  logLevel: {
    env: 'LOG_LEVEL',
    schema: z
      .enum(
        ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
        'must be trace, debug, info, warn, error, fatal or silent',
      )
      .default('info'),
    defaultText: 'info',
    help: "The agent's own log.",
  },
} satisfies Settings;

export type AgentConfig = SettingValues<typeof agentSettings>;

/** The contents of a file that a variable names. Throws `CONFIG_INVALID` when it cannot be read. */
export function readNamedFile(env: string, path: string | undefined): Buffer | undefined {
  if (path === undefined) return undefined;
  try {
    return readFileSync(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new MillraceError('CONFIG_INVALID', `${env}="${path}": the file cannot be read (${code})`, {
      cause,
    });
  }
}
