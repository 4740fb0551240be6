import { errorText } from '@millrace/wire';
import { serveFreshLanes } from '../../delivery/fresh-lanes.ts';
import { Pace } from '../../delivery/pace.ts';
import { DeliveryScope } from '../../delivery/scope.ts';
import { SendWindow } from '../../delivery/send-window.ts';
import type { SessionReport } from '../../delivery/session-loop.ts';
import { CloudAcks } from './cloud-acks.ts';
import { MqttConnection } from './connection.ts';
import type { MqttCounters, MqttDelivery } from './delivery.ts';
import type { DeviceStatus } from './device-status.ts';
import type { MqttSettings } from './options.ts';
import { publishBatches } from './publish-batches.ts';
import { publishLines } from './publish-lines.ts';

// What may be under way at once, beside the number of messages: payloads stay in memory until confirmed.
const maxBytesInFlight = 4 * 1024 * 1024;
const maxLinesInFlight = 100_000;
const maxFreshBytesInFlight = 1024 * 1024;
/** How long `disconnect()` waits for confirmations. */
const drainMs = 2000;

/** What a backend keeps over all its connections. */
export interface MqttContext {
  settings: MqttSettings;
  counters: MqttCounters;
  status: DeviceStatus | undefined;
}

/**
 * One connection from its beginning to its end:
 *
 *   connect ─► status online ─► deliver ─► (stop) drain ─► status offline ─► goodbye
 *                                  └─────► (broken) ─► throw; what is unconfirmed is read again next time
 */
export async function mqttSession(
  { settings, counters, status }: MqttContext,
  stop: AbortSignal,
  report: SessionReport,
): Promise<void> {
  const { feed, memory, layout, log } = settings;
  await using connection = await MqttConnection.open(settings, status?.will, stop);
  log.info(`✅ MQTT log backend connected: ${settings.shownUrl}`);
  report.connected();
  status?.online(connection);
  listenForTarget(connection, settings);
  // A feed may stand behind lines that an earlier connection has taken with it.
  feed.rewind();
  const window = new SendWindow({
    maxParcels: connection.maxInFlight,
    maxLines: maxLinesInFlight,
    maxBytes: maxBytesInFlight,
    onAdvance: (journal, through) => feed.ack(journal, through),
    // One connection for both lanes: what a backlog has on it lies in front of every fresh line.
    pace: feed.fresh && new Pace(),
  });
  await using scope = new DeliveryScope({ stop, closed: connection.closed, window, memory, drainMs });
  const { read, over } = scope;
  let hasProgressed = false;
  const progressed = () => {
    hasProgressed = true;
    report.progressed();
  };
  const delivery: MqttDelivery = {
    ...{ settings, feed, connection, window, counters, log, read, stop, over, progressed },
  };
  const acks =
    layout.kind === 'device' && settings.ack === 'cloud'
      ? await CloudAcks.subscribe(connection, { topic: layout.ack, over, log })
      : undefined;
  const deliver = async (lane: MqttDelivery) => {
    if (acks) await publishBatches(lane, acks);
    else await publishLines(lane);
  };
  const freshLanes = serveFreshLanes({
    ...{ feed, read },
    ready: () => acks?.namesRanges !== false,
    deliver: async (lane, reading) => {
      using beside = window.openBeside({
        maxLines: maxLinesInFlight,
        maxBytes: maxFreshBytesInFlight,
        onAdvance: (journal, through) => lane.ack(journal, through),
      });
      await deliver({ ...delivery, feed: lane, window: beside.window, read: reading });
    },
  });
  await Promise.all([deliver(delivery), freshLanes]);
  if (connection.closed.aborted) {
    status?.broken(hasProgressed);
    throw connection.failure;
  }
  await status?.offline(connection, over);
}

/** Lines do not wait for it, and go on where the broker does not allow it. */
function listenForTarget(connection: MqttConnection, { target, log }: MqttSettings): void {
  if (!target) return;
  connection.subscribe(target.topic, target.take).catch((error: unknown) => {
    if (!connection.closed.aborted) log.warn({ error: errorText(error) }, 'targets are not heard over MQTT');
  });
}
