import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import type { TailHub } from '../tail/hub.ts';
import { callersScope } from './bearer.ts';
import { type LiveFormat, LiveWriter } from './live-writer.ts';
import { conditionsOf, tailQuery } from './parameters.ts';

export interface TailRouteOptions {
  hub: TailHub;
  /** Ends all tails when the server stops. */
  signal: AbortSignal;
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
  const { hub, signal, heartbeatMs = 15_000, maxWaitingBytes = 1024 * 1024 } = options;
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
      const events = new LiveWriter(response, { format: serverSentEvents, heartbeatMs, maxWaitingBytes });
      const watching = hub.watch(filter, (line) => events.write(line));
      const stop = () => response.end();
      const done = () => {
        signal.removeEventListener('abort', stop);
        watching[Symbol.dispose]();
        events[Symbol.dispose]();
      };
      signal.addEventListener('abort', stop);
      response.on('close', done);
      if (response.destroyed) done();
      else if (signal.aborted) stop();
      else response.write(': tail\n\n');
    },
  );
};

const serverSentEvents: LiveFormat = {
  line(line) {
    // An id is one line of text whatever a device put into it; JSON has no newlines of its own.
    const id = line.id.replace(/[\r\n\0]/g, '');
    return `event: log\nid: ${id}\ndata: ${JSON.stringify(line)}\n\n`;
  },
  skipped: (count) => `event: skipped\ndata: ${JSON.stringify({ count })}\n\n`,
  heartbeat: ': ping\n\n',
};
