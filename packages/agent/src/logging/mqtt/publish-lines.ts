import {
  type LogMessage,
  limits,
  serviceTopic,
  type TopicLayout,
  truncateUtf8,
  withFields,
} from '@millrace/wire';
import { withDeadline } from '../../delivery/pause.ts';
import type { Parcel } from '../../delivery/send-window.ts';
import { type MqttDelivery, publish } from './delivery.ts';

/** Lines of one topic that travel together. */
interface Group {
  parcel: Parcel;
  logs: string[];
  bytes: number;
}

// `{"count":10000,"logs":[…]}`
const envelopeBytes = 40;
// What may be held back to fill batches; with it full, all groups leave.
const maxGatheredBytes = 1024 * 1024;

/**
 * Publishes lines as JSON for people and tools, one by one or as `{count, logs}`, in either layout. A line has
 * arrived when the broker has confirmed its message. Returns when all have, or never will.
 */
export async function publishLines(delivery: MqttDelivery): Promise<void> {
  const { settings, feed, window, read, stop, over } = delivery;
  const gathering = settings.batch && new Gathering(delivery, settings.batch);
  while (!read.aborted) {
    if (!(await window.room(read))) break;
    const waitMs = gathering?.dueInMs ?? Number.POSITIVE_INFINITY;
    if (gathering && (waitMs <= 0 || (stop.aborted && !gathering.empty))) {
      await gathering.flush();
      continue;
    }
    using wake = withDeadline(gathering?.empty === false ? [read, stop] : read, waitMs);
    const batch = await feed.next(wake.signal);
    if (!batch) continue;
    for (const message of batch.messages()) {
      const line = shown(message, settings.layout);
      if (gathering) await gathering.add(line, batch.header.journal);
      else await publishOne(delivery, line, batch.header.journal);
      if (over.aborted) return;
    }
  }
  await gathering?.flush();
  while (!window.empty && !over.aborted) await window.changed(over);
}

/**
 * People and tools that read by service get the values of a line as `fields` as well. What goes to a device's topic is
 * for clouds, ours among them, which derive them by themselves.
 */
function shown(line: LogMessage, layout: TopicLayout): LogMessage {
  return layout.kind === 'device' ? line : withFields(line);
}

/** Where a single line goes. */
export function lineTopic(layout: TopicLayout, line: LogMessage): string {
  return layout.kind === 'device' ? layout.logs : serviceTopic(layout.base, line);
}

async function publishOne(delivery: MqttDelivery, line: LogMessage, journal: string): Promise<void> {
  const { window, over, progressed } = delivery;
  if (!(await window.room(over))) return;
  const parcel = window.open(journal, line.seq as number);
  publish(
    delivery,
    { parcel, topic: lineTopic(delivery.settings.layout, line), payload: lineJson(line), lines: 1 },
    () => {
      window.arrived(parcel);
      progressed();
    },
  );
}

/** Neighbours of the same topic, gathered until there are enough, or the first has waited long enough. */
class Gathering {
  readonly #delivery: MqttDelivery;
  readonly #intervalMs: number;
  readonly #maxLines: number;
  #groups = new Map<string, Group>();
  #bytes = 0;
  #sinceMs = 0;

  constructor(delivery: MqttDelivery, { intervalMs, maxLines }: { intervalMs: number; maxLines: number }) {
    this.#delivery = delivery;
    this.#intervalMs = intervalMs;
    this.#maxLines = maxLines;
  }

  get empty(): boolean {
    return this.#groups.size === 0;
  }

  /** Time until all must leave; infinite when nothing is gathered. */
  get dueInMs(): number {
    if (this.empty) return Number.POSITIVE_INFINITY;
    return this.#sinceMs + this.#intervalMs - performance.now();
  }

  async add(line: LogMessage, journal: string): Promise<void> {
    const { window } = this.#delivery;
    const seq = line.seq as number;
    const { layout } = this.#delivery.settings;
    const single = lineTopic(layout, line);
    const topic = layout.kind === 'device' ? single : `${single}/batch`;
    const json = lineJson(line);
    const bytes = Buffer.byteLength(json) + 1;
    let group = this.#groups.get(topic);
    if (group && (group.bytes + bytes > limits.maxPublishBytes || group.parcel.journal !== journal)) {
      await this.#publish(topic, group);
      group = undefined;
    }
    if (this.empty) this.#sinceMs = performance.now();
    if (group) window.extend(group.parcel, seq);
    else {
      group = { parcel: window.open(journal, seq), logs: [], bytes: envelopeBytes };
      this.#groups.set(topic, group);
    }
    group.logs.push(json);
    group.bytes += bytes;
    this.#bytes += bytes;
    if (group.logs.length >= this.#maxLines) await this.#publish(topic, group);
    else if (this.#bytes > maxGatheredBytes) await this.flush();
  }

  async flush(): Promise<void> {
    for (const [topic, group] of this.#groups) await this.#publish(topic, group);
  }

  async #publish(topic: string, group: Group): Promise<void> {
    const { window, over, progressed } = this.#delivery;
    this.#groups.delete(topic);
    this.#bytes -= group.bytes - envelopeBytes;
    if (!(await window.room(over))) return;
    const { parcel, logs } = group;
    const payload = `{"count":${logs.length},"logs":[${logs.join(',')}]}`;
    publish(this.#delivery, { parcel, topic, payload, lines: logs.length }, () => {
      window.arrived(parcel);
      progressed();
    });
  }
}

/** One LogMessage as JSON, cut where it would not fit into a message. */
function lineJson(line: LogMessage): string {
  const json = JSON.stringify(line);
  const maxBytes = limits.maxPublishBytes - envelopeBytes - 1;
  if (json.length * 3 <= maxBytes || Buffer.byteLength(json) <= maxBytes) return json;
  // Names of this length are an attack or an accident; the full line stays in the journal and on the device.
  return JSON.stringify({
    ...line,
    fields: undefined,
    message: truncateUtf8(line.message, maxBytes / 12),
    source: { ...line.source, name: truncateUtf8(line.source.name, 512) },
    ...(line.serviceName !== undefined && { serviceName: truncateUtf8(line.serviceName, 512) }),
    ...(line.containerId !== undefined && { containerId: truncateUtf8(line.containerId, 512) }),
    ...(typeof line.appId === 'string' && { appId: truncateUtf8(line.appId, 512) }),
  });
}
