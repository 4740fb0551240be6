import type { ServerResponse } from 'node:http';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import type { Logger } from 'pino';
import { forwardedHeader } from '../peers/forward-stream.ts';
import { followPeers, type TailPeers } from '../peers/tail.ts';
import type { StoredLine } from '../store/index.ts';
import type { TailHub } from '../tail/hub.ts';
import { callersScope } from './bearer.ts';
import { conditionsOf, tailQuery } from './parameters.ts';

export interface TailRouteOptions {
  hub: TailHub;
  /** Ends all tails when the server stops. */
  signal: AbortSignal;
  /** Where several processes share the store: the others. */
  peers?: TailPeers;
  log: Logger;
  heartbeatMs?: number;
  /** What may wait for one watcher before lines are passed over. */
  maxWaitingBytes?: number;
}

/**
 * `GET /logs/tail`: lines as they are admitted, as server-sent events.
 *
 *   : tail                                       at once: what is admitted from now on will be seen
 *   event: log      id: <line id>   data: <line as JSON, its device included>
 *   event: skipped  data: {"count":n}            the watcher was too slow for n lines; search finds them
 *   : ping                                       a comment, when nothing else was sent for a while
 */
export const tailRoute: FastifyPluginAsyncZod<TailRouteOptions> = async (app, options) => {
  const { hub, signal, peers, log, heartbeatMs = 15_000, maxWaitingBytes = 1024 * 1024 } = options;
  app.get(
    '/logs/tail',
    {
      exposeHeadRoute: false,
      schema: {
        summary: 'Follow lines as they arrive',
        description:
          'Server-sent events: `log` with a line, `skipped` with `{"count":n}` when the reader was too slow for n lines.',
        tags: ['logs'],
        querystring: tailQuery,
        produces: ['text/event-stream'],
      },
    },
    async (request, reply) => {
      // Before anything is written: a query that cannot be read is refused like any other.
      const filter = { ...conditionsOf(request.query), scope: callersScope(request) };
      reply.hijack();
      const response = reply.raw;
      response.on('error', () => undefined);
      response.writeHead(200, {
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
        'x-accel-buffering': 'no',
      });
      request.raw.socket.setNoDelay(true);
      request.raw.socket.setKeepAlive(true, 30_000);
      const events = new EventWriter(response, { heartbeatMs, maxWaitingBytes });
      const watching = hub.watch(filter, (line) => events.log(line));
      const gone = new AbortController();
      const stop = () => response.end();
      const done = () => {
        gone.abort();
        signal.removeEventListener('abort', stop);
        watching[Symbol.dispose]();
        events[Symbol.dispose]();
      };
      signal.addEventListener('abort', stop);
      response.on('close', done);
      if (response.destroyed) done();
      else if (signal.aborted) stop();
      else {
        const { authorization, [forwardedHeader]: forwarded } = request.headers;
        if (peers && forwarded === undefined && authorization !== undefined) {
          await followPeers({
            peers: peers.peers,
            address: request.url,
            authorization,
            onLine: (line) => events.log(line),
            onSkipped: (count) => events.skip(count),
            signal: gone.signal,
            log,
          });
        }
        if (!response.destroyed) response.write(': tail\n\n');
      }
    },
  );
};

/** Writes events to one watcher, and counts instead of queueing when it does not keep up. */
class EventWriter implements Disposable {
  readonly #response: ServerResponse;
  readonly #maxWaitingBytes: number;
  readonly #heartbeat: NodeJS.Timeout;
  #skipped = 0;

  constructor(response: ServerResponse, options: { heartbeatMs: number; maxWaitingBytes: number }) {
    this.#response = response;
    this.#maxWaitingBytes = options.maxWaitingBytes;
    response.on('drain', () => this.#caughtUp());
    this.#heartbeat = setInterval(() => {
      if (response.writableLength === 0) response.write(': ping\n\n');
    }, options.heartbeatMs);
  }

  log(line: StoredLine): void {
    // Once behind, stay out until all has been read: or every other line would come with a gap of its own.
    if (this.#skipped > 0 || this.#response.writableLength > this.#maxWaitingBytes) {
      this.#skipped++;
      return;
    }
    this.#heartbeat.refresh();
    // An id is one line of text whatever a device put into it; JSON has no newlines of its own.
    const id = line.id.replace(/[\r\n\0]/g, '');
    this.#response.write(`event: log\nid: ${id}\ndata: ${JSON.stringify(line)}\n\n`);
  }

  /** Lines that never came this far. */
  skip(count: number): void {
    this.#skipped += count;
    if (this.#response.writableLength === 0) this.#caughtUp();
  }

  #caughtUp(): void {
    if (this.#skipped === 0) return;
    const count = this.#skipped;
    this.#skipped = 0;
    this.#response.write(`event: skipped\ndata: ${JSON.stringify({ count })}\n\n`);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#heartbeat);
  }
}
