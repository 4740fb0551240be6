import { limits } from '@millrace/wire';
import { withDeadline } from '../../delivery/pause.ts';
import { inRuns } from '../feed-batch.ts';
import type { CloudAcks } from './cloud-acks.ts';
import { type MqttDelivery, publish } from './delivery.ts';

const maxResendMs = 600_000;
// A cloud that listens has stored a message within some hundredths of a second after the broker took it.
const firstProbeMs = 1000;
// What is not acknowledged by then is sent again: by the next session, or by the lane that this one has joined.
const drainMs = 5000;

/**
 * Publishes whole batches, gzipped, for a Millrace cloud, and takes lines as arrived only when the cloud says on
 * the acknowledgement topic that it has stored them.
 *
 *   probing ── first acknowledgement ──► sending ── silence ──► probing, after all that is unconfirmed was taken back
 *
 * A broker that was restarted takes messages before the cloud has subscribed again, and drops them. So a connection
 * begins by *probing*: one batch at a time, sent again when no answer comes, at first soon and then each time after
 * twice the wait. On a connection that has been answered, silence for `ackTimeoutMs` means that the message or its
 * acknowledgement was lost behind the broker; so it does when later messages are acknowledged and one before them
 * is not.
 */
export async function publishBatches(delivery: MqttDelivery, acks: CloudAcks): Promise<void> {
  const { settings, feed, connection, window, log, read, over, progressed } = delivery;
  const { ackTimeoutMs } = settings;
  let probing = !acks.answered;
  let resendMs = probing ? Math.min(firstProbeMs, ackTimeoutMs) : ackTimeoutMs;
  using _acks = acks.listen(window, () => {
    probing = false;
    resendMs = ackTimeoutMs;
    progressed();
  });
  while (!read.aborted) {
    using silence = watchFor(
      () => (window.stalledMs > resendMs && connection.unconfirmed === 0) || window.overtakenMs > resendMs,
      Math.min(resendMs, ackTimeoutMs) / 4,
    );
    using reading = withDeadline([read, silence.signal], Number.POSITIVE_INFINITY);
    await readBatches(delivery, reading.signal, () => probing);
    if (read.aborted) break;
    const said = { afterMs: resendMs };
    if (resendMs < ackTimeoutMs) log.debug(said, 'the cloud does not answer yet, sending again');
    else log.warn(said, 'the cloud does not acknowledge, sending again what is unconfirmed');
    probing = true;
    resendMs = Math.min(resendMs * 2, maxResendMs);
    window.clear();
    feed.rewind();
  }
  using drain = withDeadline(over, drainMs);
  while (!window.empty && !drain.signal.aborted) await window.changed(drain.signal);
}

async function readBatches(
  delivery: MqttDelivery,
  signal: AbortSignal,
  isProbing: () => boolean,
): Promise<void> {
  const { settings, feed, window } = delivery;
  const { layout } = settings;
  if (layout.kind !== 'device') return;
  while (await window.room(signal)) {
    if (isProbing() && window.underWay > 0) {
      await window.changed(signal);
      continue;
    }
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
