import { gzipSync } from 'node:zlib';
import { MillraceError } from '@millrace/wire';
import { aborted, withDeadline } from '../../delivery/pause.ts';
import { DeliveryScope } from '../../delivery/scope.ts';
import { SendWindow } from '../../delivery/send-window.ts';
import { SessionFailure, type SessionReport } from '../../delivery/session-loop.ts';
import { halve } from '../feed-batch.ts';
import type { Feed, FeedBatch, FreshLane } from '../types.ts';
import { answerFactor, type CloudContext, drainMs } from './context.ts';
import { CloudRequest } from './request.ts';

// A batch that the feed says is there may still wait for its disk.
const gatherMs = 50;
// A feed that has nothing is asked this often whether it has fallen behind.
const lookMs = 10_000;
// How long a request of the backlog should keep the way from fresh lines.
const turnMs = 500;
const minTurnBytes = 64 * 1024;

/**
 * Short requests one after another: each carries what is there, up to a bound, and its answer confirms it, by
 * acknowledgements or by status 201 for the whole. Ends when streaming is worth another try.
 *
 * A request refused with 400 or 413 is sent again in halves. A single line that is refused twice, while a request
 * without lines is not, is given up and counted: it must not hold up those behind it.
 */
export async function shortSession(
  context: CloudContext,
  stop: AbortSignal,
  report: SessionReport,
): Promise<void> {
  const { feed, memory } = context.settings;
  feed.rewind();
  const window = shortWindow(feed);
  const never = new AbortController().signal;
  await using scope = new DeliveryScope({ stop, closed: never, window, memory, drainMs });
  const retryStreamMs = context.streamAgainAtMs - performance.now();
  using reading = withDeadline(scope.read, retryStreamMs);
  const post = new ShortPost({ context, feed, window, report, over: scope.over });
  while (!reading.signal.aborted) {
    {
      using lane = feed.fresh?.();
      if (lane) await takeTurns({ context, report, post, lane, reading: reading.signal, over: scope.over });
    }
    const batches = await gather(feed, { maxBytes: post.maxBytes, waitMs: lookMs, signal: reading.signal });
    if (batches.length > 0) await post.deliver(batches);
    if (scope.over.aborted) break;
  }
  if (performance.now() >= context.streamAgainAtMs) context.mode = 'stream';
}

interface Turns {
  context: CloudContext;
  report: SessionReport;
  /** Of the backlog. */
  post: ShortPost;
  lane: FreshLane;
  reading: AbortSignal;
  over: AbortSignal;
}

/** Requests of fresh lines and of the backlog by turns, until the lane is joined. */
async function takeTurns({ context, report, post, lane, reading, over }: Turns): Promise<void> {
  const window = shortWindow(lane);
  const freshPost = new ShortPost({ context, feed: lane, window, report, over });
  let maxBytes = minTurnBytes;
  while (!lane.joined.aborted && !reading.aborted) {
    const fresh = await gather(lane, { maxBytes: freshPost.maxBytes, waitMs: gatherMs, signal: reading });
    if (fresh.length > 0) await freshPost.deliver(fresh);
    const backlog = await gather(post.feed, {
      ...{ maxBytes: Math.min(maxBytes, post.maxBytes), waitMs: gatherMs, signal: reading },
    });
    if (backlog.length === 0) continue;
    const startedMs = performance.now();
    await post.deliver(backlog);
    const bytes = backlog.reduce((sum, batch) => sum + batch.linesBytes, 0);
    const bytesPerMs = bytes / Math.max(1, performance.now() - startedMs);
    maxBytes = Math.max(minTurnBytes, bytesPerMs * turnMs);
  }
}

/** Requests are bounded by their size, so the window has no bounds of its own. */
function shortWindow(feed: Feed): SendWindow {
  return new SendWindow({
    maxParcels: Number.POSITIVE_INFINITY,
    maxLines: Number.POSITIVE_INFINITY,
    maxBytes: Number.POSITIVE_INFINITY,
    onAdvance: (journal, through) => feed.ack(journal, through),
  });
}

/** The next batch, after a wait of at most `waitMs`, and those behind it that are there already. */
async function gather(
  feed: Feed,
  { maxBytes, waitMs, signal }: { maxBytes: number; waitMs: number; signal: AbortSignal },
): Promise<FeedBatch[]> {
  const batches: FeedBatch[] = [];
  let bytes = 0;
  let lines = 0;
  for (;;) {
    using wait = withDeadline(signal, batches.length === 0 ? waitMs : gatherMs);
    const batch = await feed.next(wait.signal);
    if (!batch) return batches;
    batches.push(batch);
    bytes += batch.linesBytes;
    lines += batch.header.count;
    if (bytes >= maxBytes || feed.lag().lines <= lines) return batches;
  }
}

interface ShortPostOptions {
  context: CloudContext;
  feed: Feed;
  window: SendWindow;
  report: SessionReport;
  over: AbortSignal;
}

class ShortPost {
  /** Lowered when the cloud says that a request was too large. */
  maxBytes: number;
  readonly feed: Feed;
  readonly #context: CloudContext;
  readonly #window: SendWindow;
  readonly #report: SessionReport;
  readonly #over: AbortSignal;

  constructor({ context, feed, window, report, over }: ShortPostOptions) {
    this.feed = feed;
    this.#context = context;
    this.#window = window;
    this.#report = report;
    this.#over = over;
    this.maxBytes = context.settings.maxRequestBytes;
  }

  /**
   * Sends until everything is confirmed.
   *
   * @param isRepeated a single line that was refused before, while a request without lines was not
   * @throws SessionFailure
   */
  async deliver(batches: FeedBatch[], isRepeated = false): Promise<void> {
    const { settings, counters } = this.#context;
    const bytes = batches.reduce((sum, batch) => sum + batch.linesBytes, 0);
    for (const { header, lastSeq, lines } of batches) {
      const parcel = this.#window.open(header.journal, header.first);
      this.#window.extend(parcel, lastSeq);
      this.#window.send(parcel, { lines: header.count, bytes: lines.length });
      counters.lines += header.count;
    }
    counters.bytes += bytes;
    using request = await this.#send(Buffer.concat(batches.map((batch) => this.#encode(batch))));
    if (this.#over.aborted && !request.closed.aborted) return;
    if (request.status === 400 || request.status === 413) {
      if (request.status === 413) this.maxBytes = Math.max(1, Math.floor(bytes / 2));
      this.#window.clear();
      await this.#deliverInParts(batches, request, isRepeated);
      return;
    }
    if (request.failure) throw request.failure;
    if (request.storedAll) this.#window.allArrived();
    if (!this.#window.empty) {
      throw new SessionFailure(
        new MillraceError(
          'CLOUD_UNREACHABLE',
          `${settings.shownUrl} answered ${request.status} without confirming all lines`,
        ),
      );
    }
    this.#report.connected();
    this.#report.progressed();
  }

  async #deliverInParts(batches: FeedBatch[], refused: CloudRequest, isRepeated: boolean): Promise<void> {
    const [only] = batches;
    if (!only || this.#over.aborted) return;
    if (batches.length > 1) {
      const half = Math.ceil(batches.length / 2);
      await this.deliver(batches.slice(0, half));
      await this.deliver(batches.slice(half));
    } else if (only.header.count > 1) {
      for (const part of halve(only)) await this.deliver([part]);
    } else await this.#giveUp(only, refused, isRepeated);
  }

  /** A single line was refused. Is it the line, or does the cloud refuse everything? */
  async #giveUp(batch: FeedBatch, refused: CloudRequest, isRepeated: boolean): Promise<void> {
    const { header, lines } = batch;
    const { settings, counters } = this.#context;
    const blank = Buffer.from('\n');
    using control = await this.#send(settings.compression === 'gzip' ? gzipSync(blank) : blank);
    if (!control.answered) throw (control.failure ?? refused.failure) as SessionFailure;
    // The cloud may have refused everything until just now: then it was not the line.
    if (!isRepeated) return this.deliver([batch], true);
    counters.refused++;
    settings.log.warn(
      { journal: header.journal, seq: header.first, bytes: lines.length, status: refused.status },
      'the cloud refused a line, which is given up',
    );
    this.feed.giveUp?.(header.journal, header.first, header.first);
    this.feed.ack(header.journal, header.first);
  }

  /** One request with its answer. */
  async #send(body: Buffer): Promise<CloudRequest> {
    const { settings } = this.#context;
    for (let attempt = 1; ; attempt++) {
      const request = new CloudRequest(
        this.#context,
        { onAck: ({ journal, through }) => this.#window.ackThrough(journal, through) },
        body.length,
      );
      request.write(body);
      request.end();
      using wait = withDeadline([request.closed, this.#over], settings.ackTimeoutMs * answerFactor);
      await aborted(wait.signal);
      if (!request.closed.aborted && !this.#over.aborted) request.fail(new Error('no answer in time'));
      // The server may close an idle connection in the moment in which we take it for the next request.
      const again = request.failure && request.status === undefined && request.reused && attempt === 1;
      if (!again) return request;
      request[Symbol.dispose]();
    }
  }

  #encode(batch: FeedBatch): Buffer {
    if (this.#context.settings.compression === 'gzip') return batch.gzip();
    return batch.encoded();
  }
}
