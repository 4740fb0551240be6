import { MillraceError } from './errors.ts';
import { isLevel, type Level } from './levels.ts';
import { limits } from './limits.ts';
import type { LogMessage } from './message.ts';

/**
 * MQTT topics.
 *
 * Service layout (any base without `{uuid}`), for people and tools:
 *   {base}/{appId}/{serviceName}/{level}        one LogMessage
 *   {base}/{appId}/{serviceName}/{level}/batch  {count, logs}
 *   {base}/system/{level}[/batch], {base}/manager/{level}[/batch]
 *
 * Device layout (base `device/logs`, or any base that holds `{uuid}`), for a cloud:
 *   device/{uuid}/logs       lines      device/{uuid}/logs/ack  acknowledgements from the cloud
 *   device/{uuid}/status     retained, with a last will
 *   device/{uuid}/target     retained, from the cloud: what the device is to run (apps/target.ts)
 */
export const defaultServiceBase = 'container-manager/logs';
export const deviceLogsFilter = 'device/+/logs';
export const deviceStatusFilter = 'device/+/status';

export type TopicLayout = { kind: 'service'; base: string } | { kind: 'device'; logs: string; ack: string };

/** A topic level never holds a separator, a wildcard or a control character, and is never empty. */
export function topicLevel(value: string | number): string {
  const text = String(value)
    .toWellFormed()
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters MQTT forbids or advises against
    .replace(/[/+#\u0000-\u001f\u007f-\u009f\ufffd]/g, '_');
  const short = text.length > limits.maxTopicLevelChars ? text.slice(0, limits.maxTopicLevelChars) : text;
  return short.toWellFormed().replaceAll('\ufffd', '_') || '_';
}

/**
 * Decides the layout that `MQTT_TOPIC` asks for.
 *
 * @throws MillraceError `TOPIC_INVALID` when the base has wildcards, empty levels, or leaves no room for the
 * levels that we append (brokers allow seven slashes).
 */
export function topicLayout(base: string, uuid: string): TopicLayout {
  const trimmed = base.replace(/\/+$/, '');
  const device = trimmed === 'device/logs' ? 'device/{uuid}/logs' : trimmed;
  const isDevice = device.includes('{uuid}');
  const resolved = device.replaceAll('{uuid}', topicLevel(uuid));
  const levels = resolved.split('/');
  const appended = isDevice ? 1 : 4;
  if (levels.some((level) => level === '') || /[+#\p{Cc}\p{Cs}]/u.test(resolved)) {
    throw new MillraceError('TOPIC_INVALID', `"${base}" is not a topic to publish under`);
  }
  if (levels.length - 1 + appended > limits.maxTopicSlashes) {
    throw new MillraceError(
      'TOPIC_INVALID',
      `"${base}" has ${levels.length} levels, and at most ${limits.maxTopicSlashes + 1 - appended} leave room for ours`,
    );
  }
  return isDevice
    ? { kind: 'device', logs: resolved, ack: `${resolved}/ack` }
    : { kind: 'service', base: resolved };
}

/** The service-layout topic of a line. Without an app the service's id stands in, as the field examples show. */
export function serviceTopic(
  base: string,
  line: Pick<LogMessage, 'level' | 'source' | 'isSystem' | 'appId' | 'serviceId' | 'serviceName'>,
): string {
  if (line.source.type === 'manager') return `${base}/manager/${line.level}`;
  if (line.source.type === 'system' || line.isSystem) return `${base}/system/${line.level}`;
  const app = topicLevel(line.appId ?? line.serviceId ?? 0);
  return `${base}/${app}/${topicLevel(line.serviceName ?? line.source.name)}/${line.level}`;
}

export interface ParsedServiceTopic {
  source: 'container' | 'system' | 'manager';
  appId?: string;
  serviceName?: string;
  level: Level;
  batch: boolean;
}

/** The reverse of {@link serviceTopic}; `undefined` when the topic is not one of ours under `base`. */
export function parseServiceTopic(base: string, topic: string): ParsedServiceTopic | undefined {
  if (!topic.startsWith(`${base}/`)) return undefined;
  const parts = topic.slice(base.length + 1).split('/');
  const batch = parts.at(-1) === 'batch';
  if (batch) parts.pop();
  const level = parts.pop();
  if (!isLevel(level)) return undefined;
  const [first, second] = parts;
  if (parts.length === 1 && (first === 'system' || first === 'manager')) {
    return { source: first, level, batch };
  }
  if (parts.length === 2 && first && second) {
    return { source: 'container', appId: first, serviceName: second, level, batch };
  }
  return undefined;
}

export type DeviceChannel = 'logs' | 'logs/ack' | 'status' | 'target';

export function deviceTopic(uuid: string, channel: DeviceChannel): string {
  return `device/${topicLevel(uuid)}/${channel}`;
}

/** Takes `device/{uuid}/…` apart; `undefined` for any other topic. */
export function parseDeviceTopic(topic: string): { uuid: string; channel: string } | undefined {
  const match = /^device\/([^/+#]+)\/(.+)$/.exec(topic);
  return match ? { uuid: match[1] as string, channel: match[2] as string } : undefined;
}
