import type { Logger } from 'pino';
import type { Parcel, SendWindow } from '../../delivery/send-window.ts';
import type { Feed } from '../types.ts';
import type { MqttConnection } from './connection.ts';
import type { MqttSettings } from './options.ts';

/** What a backend counts over all its connections. */
export interface MqttCounters {
  published: number;
  acked: number;
  lines: number;
  bytes: number;
  refused: number;
}

/** What the delivery of one feed over one connection works with. */
export interface MqttDelivery {
  settings: MqttSettings;
  feed: Feed;
  connection: MqttConnection;
  window: SendWindow;
  counters: MqttCounters;
  log: Logger;
  /** Aborted when no more lines are to be read. */
  read: AbortSignal;
  /** Aborted when the backend is asked to stop: what was gathered goes out at once. */
  stop: AbortSignal;
  /** Aborted when nothing more can be sent: the connection is gone, or the time to stop is up. */
  over: AbortSignal;
  /** The far end confirmed something. */
  progressed: () => void;
}

/** Sends one message and counts it. `arrived` is called when the broker has it or has refused it for good. */
export function publish(
  delivery: MqttDelivery,
  message: { parcel: Parcel; topic: string; payload: string | Buffer; lines: number },
  arrived: () => void,
): void {
  const { settings, connection, window, counters, log } = delivery;
  const { parcel, topic, payload, lines } = message;
  const bytes = Buffer.byteLength(payload);
  window.send(parcel, { lines, bytes });
  counters.published++;
  counters.lines += lines;
  counters.bytes += bytes;
  if (settings.debug) log.debug({ topic, lines, bytes }, 'published');
  connection.publish(topic, payload, { qos: settings.qos, retain: settings.retain }, (outcome, reason) => {
    window.taken(parcel);
    if (outcome === 'accepted') counters.acked++;
    else {
      counters.refused += lines;
      // A message of one service may hold lines that do not follow on from one another; those are only counted.
      const isRun = lines === parcel.last - parcel.first + 1;
      for (const [first, last] of parcel.runs ?? (isRun ? [[parcel.first, parcel.last] as const] : [])) {
        delivery.feed.giveUp?.(parcel.journal, first, last);
      }
      log.warn(
        { topic, lines, first: parcel.first, last: parcel.last },
        `the broker refused lines: ${reason}`,
      );
    }
    arrived();
  });
}
