import { errorText, MillraceError } from '@millrace/wire';
import { serveFreshLanes } from '../../delivery/fresh-lanes.ts';
import { pause, withDeadline } from '../../delivery/pause.ts';
import { DeliveryScope } from '../../delivery/scope.ts';
import { SendWindow } from '../../delivery/send-window.ts';
import { SessionFailure, type SessionReport } from '../../delivery/session-loop.ts';
import type { Feed } from '../types.ts';
import { StreamBody } from './body.ts';
import { answerFactor, type CloudContext, drainMs, fallBack } from './context.ts';
import { CloudRequest } from './request.ts';

// How long the answer may take to end after the last acknowledgement.
const goodbyeMs = 500;
// Before another try with a lane whose request failed.
const freshRetryMs = 1000;

/**
 * One long request for the feed, and beside it, while there is a backlog, one for its fresh lane: on connections of
 * their own neither waits behind what the other has in its buffers, and acknowledgements are per request.
 */
export async function streamSession(
  context: CloudContext,
  stop: AbortSignal,
  report: SessionReport,
): Promise<void> {
  const { feed, log } = context.settings;
  let connected = false;
  const reading = new AbortController();
  const over = new AbortController();
  const freshLanes = serveFreshLanes({
    feed,
    read: reading.signal,
    ready: () => connected && !stop.aborted,
    deliver: async (lane, laneReading) => {
      try {
        // The feed waits for the lane's end, and not for that of its request.
        const onDrained = () => lane[Symbol.dispose]();
        await stream(context, {
          ...{ feed: lane, stop, report },
          lane: { reading: laneReading, over: over.signal, onDrained },
        });
      } catch (error) {
        // What the lane had under way the feed sends, and whether this session goes on is not for the lane to say.
        log.debug({ error: errorText(error) }, 'the stream of fresh lines ended early');
        await pause(freshRetryMs, laneReading);
      }
    },
  });
  const onConnected = () => {
    connected = true;
    report.connected();
  };
  try {
    await stream(context, { feed, stop, report: { ...report, connected: onConnected } });
  } catch (error) {
    over.abort();
    throw error;
  } finally {
    reading.abort();
    const timer = setTimeout(() => over.abort(), drainMs);
    await freshLanes;
    clearTimeout(timer);
  }
}

interface StreamOptions {
  feed: Feed;
  stop: AbortSignal;
  report: SessionReport;
  /** Set for a fresh lane: when to read no more, when to wait no more, and whom to tell that all is confirmed. */
  lane?: { reading: AbortSignal; over: AbortSignal; onDrained: () => void };
}

/**
 * One long request:
 *
 *   open ─► send batches, take acknowledgements ─► (stop, or old) end the body ─► await the rest ─► done
 *            │                                  └► (broken, refused) throw
 *            └► silence ─► end the body ─► await the answer ─► short requests from now on
 *
 * Silence is what a proxy makes that holds back the answer, or the body, until the request ends, and a cloud that
 * answers only then. Ending the request well, and not breaking it, lets such a cloud confirm what it has got.
 */
async function stream(context: CloudContext, { feed, stop, report, lane }: StreamOptions): Promise<void> {
  const { settings, counters } = context;
  const { ackTimeoutMs } = settings;
  const memory = lane ? undefined : settings.memory;
  feed.rewind();
  const window = new SendWindow({
    maxParcels: Number.POSITIVE_INFINITY,
    maxLines: settings.maxUnackedLines,
    maxBytes: settings.maxUnackedBytes,
    onAdvance: (journal, through) => feed.ack(journal, through),
  });
  let bodyOpen = true;
  using request = new CloudRequest(context, {
    onSuccess: () => !lane && report.connected(),
    onAck: ({ journal, through }) => {
      if (!window.ackThrough(journal, through)) return;
      report.progressed();
      // What comes after the end of the body shows nothing: a proxy lets it through only then.
      if (!bodyOpen) return;
      context.provenStream = true;
      context.silentStreams = 0;
    },
  });
  using closed = withDeadline(lane ? [request.closed, lane.over] : request.closed, Number.POSITIVE_INFINITY);
  await using scope = new DeliveryScope({ stop, closed: closed.signal, window, memory, drainMs });
  using body = new StreamBody({ compression: settings.compression, write: (chunk) => request.write(chunk) });
  using age = withDeadline(
    lane ? [scope.read, lane.reading] : scope.read,
    settings.reopenMs * (0.9 + Math.random() / 5),
  );
  let silent = false;
  using _watch = every(ackTimeoutMs / 4, () => {
    if (window.stalledMs <= ackTimeoutMs || silent) return;
    silent = true;
    scope.stopReading();
  });

  const reading = age.signal;
  while (await window.room(reading)) {
    using idle = withDeadline(reading, settings.heartbeatMs);
    const batch = await feed.next(idle.signal);
    if (!batch) {
      if (!reading.aborted) await body.blank(scope.over);
      continue;
    }
    const { journal, first, count } = batch.header;
    const parcel = window.open(journal, first);
    window.extend(parcel, batch.lastSeq);
    const size = { lines: count, bytes: batch.linesBytes };
    window.send(parcel, size);
    counters.lines += size.lines;
    counters.bytes += size.bytes;
    await body.batch(batch, scope.over);
    await request.drained(scope.over);
  }

  bodyOpen = false;
  await body.end(scope.over);
  request.end();
  using rest = withDeadline(scope.over, ackTimeoutMs * (context.provenStream ? 1 : answerFactor));
  while (!window.empty && !rest.signal.aborted) await window.changed(rest.signal);
  if (window.empty) lane?.onDrained();
  // All is confirmed; what is left is that both sides have seen the end. A proxy may keep it from us.
  if (window.empty) await pause(goodbyeMs, rest.signal);
  if (request.storedAll) window.allArrived();
  // What to make of a cloud like that is for the feed's own request to find out.
  if (!lane) noteAnswer(context, request.status, silent);
  if (request.failure) throw request.failure;
  if (window.empty || stop.aborted) return;
  throw new SessionFailure(
    new MillraceError(
      'CLOUD_UNREACHABLE',
      `${settings.shownUrl} acknowledges nothing for ${ackTimeoutMs} ms`,
    ),
  );
}

function noteAnswer(context: CloudContext, status: number | undefined, silent: boolean): void {
  if (wantsShorter(status)) fallBack(context, `a long request was answered with ${status}`);
  else if (silent) noteSilence(context);
}

/** A cloud that has streamed before gets a second chance: it may just have been busy. */
function noteSilence(context: CloudContext): void {
  context.silentStreams++;
  if (context.provenStream && context.silentStreams < 2) return;
  fallBack(
    context,
    `no acknowledgement within ${context.settings.ackTimeoutMs} ms while the request was open`,
  );
}

/** Bad request, length required, payload too large, not implemented: some cannot take a body of unknown length. */
function wantsShorter(status: number | undefined): boolean {
  return status !== undefined && [400, 411, 413, 501].includes(status);
}

function every(ms: number, action: () => void): Disposable {
  const timer = setInterval(action, ms);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
