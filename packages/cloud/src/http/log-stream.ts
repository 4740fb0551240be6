import type { IncomingMessage, ServerResponse } from 'node:http';
import { type ErrorCode, errorText, MillraceError } from '@millrace/wire';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import * as z from 'zod';
import { codecOf } from '../compression/codecs.ts';
import { type Identity, uuidPattern } from '../identity/identity.ts';
import type { Presence } from '../identity/presence.ts';
import { hashSecret } from '../identity/secrets.ts';
import type { Sessions } from '../identity/sessions.ts';
import type { Ingest } from '../ingest/index.ts';
import { forwardedHeader, forwardStream } from '../peers/forward-stream.ts';
import type { Route } from '../peers/ownership.ts';
import type { QuotaBook } from '../retention/quota-book.ts';
import type { TargetFeed } from '../targets/target-feed.ts';
import { AckWriter } from './ack-writer.ts';
import { bearerToken } from './bearer.ts';
import { bytesOf, inflate } from './inflate.ts';
import { linger, refuseBody, toMillraceError } from './problems.ts';
import { problemSchema } from './schemas.ts';

export interface LogStreamsOptions {
  identity: Identity;
  ingest: Ingest;
  presence: Presence;
  sessions: Sessions;
  quotas?: QuotaBook;
  /** Tells of targets. */
  feed?: TargetFeed;
  log: Logger;
  /** Called with the code of each refusal. */
  onRefused?: (code: ErrorCode) => void;
  heartbeatMs?: number;
  quotaRetryS?: number;
  /** Most streams open at once for one device. One more ends the oldest: half-open ones may linger for long. */
  maxPerDevice?: number;
  /** Where several processes share the store: which of them a device's lines go to. */
  route?: (device: string) => Route;
}

/**
 * The log-stream endpoint (balena's, and ours beyond it).
 *
 *   POST /device/v2/{uuid}/log-stream
 *   Authorization: Bearer <device key>
 *   Content-Encoding: gzip or zstd, or none   NDJSON as in wire's batch.ts; a truncated end keeps what was whole
 *   Millrace-Acks: stream                     optional; `stream, short` for short ones
 *
 * With acks the answer is 200 at once and then, while the request goes on, one line per commit
 * (`{"ack":{"journal":"…","through":123}}`, see ack-writer.ts), empty lines as heartbeat, `{"target":"<version>"}` with
 * the version of the device's target at the start and when it changes (see wire's apps/target.ts), and `{"error":{…}}` (a
 * problem document) when it ends early. Without, there is no answer before the body ends (to a balena device any is an
 * error), then 201 when everything is committed. A device over its quota gets 429. Retry-After is for those that want
 * acks alone: balena devices read its seconds as milliseconds.
 */
export class LogStreams implements AsyncDisposable {
  readonly #options: LogStreamsOptions;
  readonly #log: Logger;
  readonly #open = new Map<string, Set<OpenStream>>();
  readonly #handedOn = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  #closed = false;

  constructor(options: LogStreamsOptions) {
    this.#options = options;
    this.#log = options.log;
  }

  /** Adds the route. Its body is left unread by the framework. */
  route = async (app: FastifyInstance): Promise<void> => {
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('*', (_request, _payload, done) => done(null));
    app.post<{ Params: { uuid: string } }>(
      '/device/v2/:uuid/log-stream',
      {
        schema: {
          summary: 'Send log lines',
          description:
            'NDJSON, usually compressed with gzip or zstd, in one long request. With `Millrace-Acks: stream` the answer streams acknowledgements while the request is open; without, it comes when everything is stored.',
          tags: ['device'],
          response: {
            200: {
              description: 'With acknowledgements: one JSON object per line.',
              content: {
                'application/x-ndjson': {
                  schema: z.union([
                    z.object({ ack: z.object({ journal: z.string(), through: z.number() }) }),
                    z.object({ target: z.string() }),
                    z.object({ error: problemSchema }),
                  ]),
                },
              },
            },
            201: z.null().describe('All is stored.'),
            '4xx': problemSchema,
          },
        },
      },
      async (request, reply) => {
        reply.hijack();
        await this.#handle(request.raw, reply.raw, request.params.uuid);
      },
    );
  };

  async #handle(request: IncomingMessage, response: ServerResponse, uuid: string): Promise<void> {
    // Without a listener a broken connection would be an uncaught error; the reading loop sees it for itself.
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    try {
      await this.#check(request, uuid);
    } catch (error) {
      const problem = toMillraceError(error, this.#log);
      this.#options.onRefused?.(problem.code);
      refuse(request, response, problem, this.#options);
      return;
    }
    request.socket.setKeepAlive(true, 30_000);
    request.socket.setNoDelay(true);
    const route = this.#options.route?.(uuid) ?? { to: 'here' };
    if (route.to !== 'here') {
      await this.#handOn(request, response, route);
      return;
    }
    const stream = new OpenStream({ ...this.#options, request, response, uuid });
    this.#enter(stream);
    using _session = this.#options.sessions.ofDevice(uuid, hashSecret(bearerToken(request) ?? ''), () =>
      stream.stop(),
    );
    try {
      await stream.run();
    } catch (error) {
      this.#log.error({ device: uuid, error: errorText(error) }, 'a log-stream failed');
      request.socket.destroy();
    } finally {
      this.#leave(stream);
    }
  }

  async #handOn(request: IncomingMessage, response: ServerResponse, route: Route): Promise<void> {
    if (route.to !== 'peer' || request.headers[forwardedHeader] !== undefined) {
      const error = new MillraceError(
        'DEVICE_ELSEWHERE',
        'no process answers for this device at this moment',
      );
      refuseBody(request, response, error);
      return;
    }
    const signal = AbortSignal.any([this.#stopping.signal, route.gone]);
    const handedOn = forwardStream({ request, response, peer: route.peer, signal }).catch((error) =>
      refuseBody(request, response, toMillraceError(error, this.#log)),
    );
    this.#handedOn.add(handedOn);
    await handedOn;
    this.#handedOn.delete(handedOn);
  }

  async #check(request: IncomingMessage, uuid: string): Promise<void> {
    const { identity } = this.#options;
    if (!uuidPattern.test(uuid)) throw new MillraceError('NOT_FOUND', 'no device has such a uuid');
    if (!(await identity.isDevice(uuid, bearerToken(request)))) {
      throw new MillraceError('UNAUTHORIZED', `not the key of device ${uuid}`);
    }
    const encoding = encodingOf(request);
    if (encoding !== 'identity' && !codecOf(encoding)) {
      throw new MillraceError('BODY_INVALID', 'Content-Encoding: must be gzip or zstd, or left out');
    }
    if (this.#closed) throw new MillraceError('OVERLOADED', 'the server is stopping');
    const overQuota = this.#options.quotas?.refusal(uuid);
    if (overQuota) {
      // Before it sends anything: a device that keeps its lines keeps its bytes, too.
      this.#options.quotas?.refused(uuid, 0);
      throw overQuota;
    }
  }

  #enter(stream: OpenStream): void {
    let streams = this.#open.get(stream.uuid);
    if (!streams) {
      streams = new Set();
      this.#open.set(stream.uuid, streams);
    }
    streams.add(stream);
    const { maxPerDevice = 8 } = this.#options;
    const [oldest] = streams;
    if (streams.size > maxPerDevice) oldest?.stop();
  }

  #leave(stream: OpenStream): void {
    const streams = this.#open.get(stream.uuid);
    streams?.delete(stream);
    if (streams?.size === 0) this.#open.delete(stream.uuid);
  }

  /** Reads no further, and returns when what was read is committed and acknowledged. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    const streams = [...this.#open.values()].flatMap((set) => [...set]);
    for (const stream of streams) stream.stop();
    await Promise.all(streams.map((stream) => stream.finished));
    this.#stopping.abort();
    await Promise.all(this.#handedOn);
  }
}

interface OpenStreamOptions extends LogStreamsOptions {
  request: IncomingMessage;
  response: ServerResponse;
  uuid: string;
}

/** One request, from its first byte to the answer. */
class OpenStream {
  readonly uuid: string;
  readonly finished: Promise<void>;
  readonly #options: OpenStreamOptions;
  readonly #stopped = new AbortController();
  readonly #done = Promise.withResolvers<void>();

  constructor(options: OpenStreamOptions) {
    this.#options = options;
    this.uuid = options.uuid;
    this.finished = this.#done.promise;
  }

  stop(): void {
    this.#stopped.abort();
  }

  async run(): Promise<void> {
    const { request, presence } = this.#options;
    using _online = presence.streaming(this.uuid);
    try {
      const acks = acksOf(request);
      if (acks.has('stream')) await this.#withAcks(acks.has('short'));
      else await this.#withoutAcks();
    } finally {
      this.#done.resolve();
    }
  }

  async #withAcks(short: boolean): Promise<void> {
    const { request, response, feed, heartbeatMs = 20_000 } = this.#options;
    response.writeHead(200, {
      'content-type': 'application/x-ndjson',
      'cache-control': 'no-store',
      // Asks nginx to pass on what comes instead of gathering it.
      'x-accel-buffering': 'no',
    });
    response.flushHeaders();
    {
      using acks = new AckWriter({ response, heartbeatMs, short });
      using _targets = feed?.watch(this.uuid, (version) => acks.target(version));
      const error = await this.#receive((ack) => acks.write(ack));
      if (error) acks.problem(error.toProblem());
    }
    // An answer that ends before its request leaves a connection that nothing else can use.
    if (request.readableEnded) response.end();
    else response.end(() => linger(request, () => request.socket.destroy()));
  }

  async #withoutAcks(): Promise<void> {
    const { request, response } = this.#options;
    const error = await this.#receive(() => undefined);
    if (response.destroyed) return;
    if (error) refuse(request, response, error, this.#options);
    else if (request.readableEnded) response.writeHead(201, { 'content-length': 0 }).end();
    else request.socket.destroy();
  }

  /** Hands the lines on until they end. Returns, everything whole being committed, why they ended early. */
  async #receive(
    onAck: (ack: { journal: string; through: number }) => void,
  ): Promise<MillraceError | undefined> {
    const { request, response, ingest, log, onRefused } = this.#options;
    const inbound = ingest.openStream(this.uuid, { via: 'http', onAck });
    let failure: MillraceError | undefined;
    try {
      const { signal } = this.#stopped;
      const codec = codecOf(encodingOf(request));
      const lines = codec ? inflate(request, codec, signal) : bytesOf(request, signal);
      for await (const chunk of lines) await inbound.write(chunk);
    } catch (error) {
      // A peer that went away is no failure: devices do, and what was whole is kept.
      if (!request.destroyed || error instanceof MillraceError) failure = toMillraceError(error, log);
      if (failure) onRefused?.(failure.code);
      if (failure && !response.destroyed) {
        log.warn({ device: this.uuid, error: errorText(failure) }, 'a log-stream ended early');
      }
    }
    try {
      await inbound.end();
    } catch (error) {
      if (!(error instanceof MillraceError && error.code === 'DEVICE_ELSEWHERE')) throw error;
      failure ??= error;
    }
    return failure;
  }
}

/** How soon a device that is over its quota may ask again: the quota may have been raised. */
const defaultQuotaRetryS = 300;

function refuse(
  request: IncomingMessage,
  response: ServerResponse,
  error: MillraceError,
  { quotaRetryS = defaultQuotaRetryS }: LogStreamsOptions,
): void {
  const isOurs = acksOf(request).has('stream');
  const later = error.code === 'QUOTA_EXCEEDED' && isOurs;
  refuseBody(request, response, error, later ? { 'retry-after': String(quotaRetryS) } : {});
}

/** The words of the header: how acknowledgements are wanted. */
function acksOf(request: IncomingMessage): Set<string> {
  const words = String(request.headers['millrace-acks'] ?? '').split(',');
  return new Set(words.map((word) => word.trim().toLowerCase()));
}

function encodingOf(request: IncomingMessage): string {
  return (request.headers['content-encoding'] ?? 'identity').trim().toLowerCase() || 'identity';
}
