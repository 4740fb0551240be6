import { errorText } from '@millrace/wire';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import type { Logger } from 'pino';
import * as z from 'zod';
import type { Identity } from '../identity/identity.ts';
import { hashSecret } from '../identity/secrets.ts';
import type { Sessions } from '../identity/sessions.ts';
import { forwardedHeader } from '../peers/forward-stream.ts';
import { followPeers, type TailPeers } from '../peers/tail.ts';
import { resolveGroups, type Scope } from '../query/index.ts';
import type { Records } from '../records/records.ts';
import type { LineFilter } from '../tail/filter.ts';
import type { TailHub } from '../tail/hub.ts';
import { bearerToken, callersScope, forReaders } from './bearer.ts';
import { type LiveFormat, LiveWriter } from './live-writer.ts';
import { conditionsOf, tailQuery } from './parameters.ts';
import { problemSchema } from './schemas.ts';

export interface TailRouteOptions {
  hub: TailHub;
  identity: Identity;
  sessions: Sessions;
  records: Records;
  log: Logger;
  /** How often it is asked anew whether a watcher may still see what it sees. */
  recheckMs?: number;
  /** Ends all tails when the server stops. */
  signal: AbortSignal;
  /** Where several processes share the store: the others. */
  peers?: TailPeers;
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
 *   event: gap      data: {}                     lines that another process took in may be missing; search finds them
 *   : ping                                       a comment, when nothing else was sent for a while
 */
export const tailRoute: FastifyPluginAsyncZod<TailRouteOptions> = async (app, options) => {
  const { hub, identity, sessions, records, log, signal, peers } = options;
  const { recheckMs = 10_000, heartbeatMs = 15_000, maxWaitingBytes = 1024 * 1024 } = options;
  app.get(
    '/logs/tail',
    {
      config: forReaders,
      exposeHeadRoute: false,
      schema: {
        summary: 'Follow lines as they arrive',
        description:
          'Server-sent events: `log` with a line, `skipped` with `{"count":n}` when the reader was too slow for n lines, `gap` when lines may be missing since another process of the cloud came or went.',
        tags: ['logs'],
        querystring: tailQuery,
        response: {
          200: {
            description: 'Server-sent events.',
            content: { 'text/event-stream': { schema: z.string() } },
          },
          '4xx': problemSchema,
        },
      },
    },
    async (request, reply) => {
      // Before anything is written: a query that cannot be read is refused like any other.
      const asked = conditionsOf(request.query);
      const filterFor = async (scope: Scope): Promise<LineFilter> => ({
        ...asked,
        ...(asked.query && { query: await resolveGroups(asked.query, records.devices) }),
        scope,
      });
      const filter = await filterFor(callersScope(request));
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
      const events = new LiveWriter(response, {
        format: serverSentEvents,
        heartbeatMs,
        maxWaitingBytes,
        onSkipped: () => hub.skippedLines++,
      });
      let watching = hub.watch(filter, (line) => events.write(line));
      const gone = new AbortController();
      const stop = () => response.end();
      const session = sessions.ofToken(hashSecret(bearerToken(request.raw) ?? ''), stop);
      const recheck = async () => {
        const caller = await identity.caller(bearerToken(request.raw));
        if (!caller) {
          response.end();
          return;
        }
        const now = await filterFor(caller.scope);
        if (isDone) return;
        watching[Symbol.dispose]();
        watching = hub.watch(now, (line) => events.write(line));
      };
      const rechecking = setInterval(() => {
        // The records may be away for a moment; what was allowed is, until they say otherwise.
        recheck().catch((error) => log.warn({ error: errorText(error) }, 'a tail could not be checked'));
      }, recheckMs);
      let isDone = false;
      const done = () => {
        gone.abort();
        isDone = true;
        clearInterval(rechecking);
        signal.removeEventListener('abort', stop);
        session[Symbol.dispose]();
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
            ...peers,
            address: request.url,
            authorization,
            onLine: (line) => events.write(line),
            onSkipped: (count) => events.skip(count),
            onGap: () => events.gap(),
            signal: gone.signal,
            log,
          });
        }
        if (!response.destroyed) response.write(': tail\n\n');
      }
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
  gap: 'event: gap\ndata: {}\n\n',
  heartbeat: ': ping\n\n',
};
