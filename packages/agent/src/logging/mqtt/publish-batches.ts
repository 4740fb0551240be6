import { limits } from '@millrace/wire';
import { withDeadline } from '../../delivery/pause.ts';
import { inRuns } from '../feed-batch.ts';
import type { CloudAcks } from './cloud-acks.ts';
import { type MqttDelivery, publish } from './delivery.ts';

const maxResendMs = 600_000;
// What is not acknowledged by then is sent again: by the next session, or by the lane that this one has joined.
const drainMs = 5000;

/**
 * Publishes whole batches, gzipped, for a Millrace cloud, and takes lines as arrived only when the cloud says on
 * the acknowledgement topic that it has stored them. When it is silent for too long, what is unconfirmed is sent
 * again, each time after twice the wait: the message, or its acknowledgement, may have been lost behind the broker.
 * So it is when later messages are acknowledged and one before them is not.
 */
export async function publishBatches(delivery: MqttDelivery, acks: CloudAcks): Promise<void> {
  const { settings, feed, connection, window, log, read, over, progressed } = delivery;
  let resendMs = settings.ackTimeoutMs;
  using _acks = acks.listen(window, () => {
    resendMs = settings.ackTimeoutMs;
    progressed();
  });
  while (!read.aborted) {
    using silence = watchFor(
      () => (window.stalledMs > resendMs && connection.unconfirmed === 0) || window.overtakenMs > resendMs,
      settings.ackTimeoutMs / 4,
    );
    using reading = withDeadline([read, silence.signal], Number.POSITIVE_INFINITY);
    await readBatches(delivery, reading.signal);
    if (read.aborted) break;
    log.warn({ afterMs: resendMs }, 'the cloud does not acknowledge, sending again what is unconfirmed');
    resendMs = Math.min(resendMs * 2, maxResendMs);
    window.clear();
    feed.rewind();
  }
  using drain = withDeadline(over, drainMs);
  while (!window.empty && !drain.signal.aborted) await window.changed(drain.signal);
}

async function readBatches(delivery: MqttDelivery, signal: AbortSignal): Promise<void> {
  const { settings, feed, window } = delivery;
  const { layout } = settings;
  if (layout.kind !== 'device') return;
  while (await window.room(signal)) {
    const batch = await feed.next(signal);
    if (!batch) continue;
    for (const piece of inRuns(batch, limits.maxAckRanges)) {
      if (!(await window.room(signal))) return;
      const { journal, first, count } = piece.header;
      const parcel = window.open(journal, first);
      window.extend(parcel, piece.lastSeq);
      if (piece.runs.length > 1)
        parcel.runs = piece.runs.map((run) => [run.first, run.first + run.count - 1]);
      publish(delivery, { parcel, topic: layout.logs, payload: piece.gzip(), lines: count }, () => {
        // The broker's word is not enough.
      });
    }
  }
}

/** A signal that is aborted once `condition` holds, asked every `everyMs`. */
function watchFor(condition: () => boolean, everyMs: number): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const timer = setInterval(() => {
    if (condition()) controller.abort();
  }, everyMs);
  return { signal: controller.signal, [Symbol.dispose]: () => clearInterval(timer) };
}
