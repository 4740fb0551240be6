import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { pipeline, Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { type BalenaLog, errorText, MillraceError, type StoredLine } from '@millrace/wire';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import type { Logger } from 'pino';
import * as z from 'zod';
import type { Identity } from '../identity/identity.ts';
import { hashSecret } from '../identity/secrets.ts';
import type { Sessions } from '../identity/sessions.ts';
import type { Ingest } from '../ingest/index.ts';
import { followPeers, type TailPeers } from '../peers/tail.ts';
import { mayRead, type Scope } from '../query/index.ts';
import type { Records } from '../records/records.ts';
import type { LogStore } from '../store/index.ts';
import type { TailHub } from '../tail/hub.ts';
import { bearerToken, callersScope, checkMayRead, forReaders } from './bearer.ts';
import { type LiveFormat, LiveWriter } from './live-writer.ts';
import { balenaLogsQuery } from './parameters.ts';
import { balenaLogSchema, problemSchema } from './schemas.ts';
import { whileConnected } from './while-connected.ts';

export interface BalenaLogsOptions {
  store: LogStore;
  ingest: Ingest;
  records: Records;
  identity: Identity;
  sessions: Sessions;
  hub: TailHub;
  log: Logger;
  /** Ends what is followed when the server stops. */
  signal: AbortSignal;
  /** Where several processes share the store: the others. */
  peers?: TailPeers;
  /** How often a stream asks whether its token still opens the device. */
  recheckMs?: number;
  heartbeatMs?: number;
  maxWaitingBytes?: number;
}

/** Lines that may arrive while the past is shown; more are passed over, and the reader is told. */
const maxHeldLines = 10_000;
/** What is committed by then is shown as past. With a store that does not answer, the past is what can be had. */
const maxSettlingMs = 5000;

/**
 * `GET /device/v2/{uuid}/logs`, as balena's API has it (open-balena-api, `device-logs/lib/read.ts`): a JSON array of the
 * newest `count` lines, oldest first; or with `stream=1` those and then what arrives, as NDJSON with an empty line as
 * heartbeat. There is no limit to `count=all`.
 */
export const balenaLogsRoute: FastifyPluginAsyncZod<BalenaLogsOptions> = async (app, options) => {
  const { store, records, identity, sessions, log } = options;
  app.get(
    '/device/v2/:uuid/logs',
    {
      exposeHeadRoute: false,
      config: forReaders,
      schema: {
        summary: "Read a device's lines as balena's API shows them",
        description:
          'A JSON array, oldest first. With `stream=1` NDJSON that goes on with what arrives, and an empty line as heartbeat.',
        tags: ['device'],
        params: z.strictObject({ uuid: z.string().max(64, 'must have at most 64 characters') }),
        querystring: balenaLogsQuery,
        response: {
          200: {
            description: 'The lines.',
            content: {
              'application/json': { schema: z.array(balenaLogSchema) },
              'application/x-ndjson': { schema: balenaLogSchema },
            },
          },
          '4xx': problemSchema,
        },
      },
    },
    (request, reply) =>
      whileConnected(reply, async (signal) => {
        const { stream, start, count = stream === '1' ? 0 : 1000 } = request.query;
        checkMayRead(request, request.params.uuid);
        const scope = callersScope(request);
        const past: Past = { store, scope, device: request.params.uuid, since: start, count, signal };
        if (!(await isKnown(past, records)))
          throw new MillraceError('NOT_FOUND', 'no device has such a uuid');
        if (stream === '1') {
          const isAllowed = async () => {
            const caller = await identity.caller(bearerToken(request.raw));
            return caller !== undefined && mayRead(caller.scope, past.device);
          };
          const held = (end: () => void) => sessions.ofToken(hashSecret(bearerToken(request.raw) ?? ''), end);
          const { authorization = '' } = request.headers;
          await follow(past, reply.raw, { ...options, authorization, isAllowed, held });
          reply.hijack();
          return [];
        }
        if (count !== 'all') return (await newest(past, count)).map(balenaLog);
        const { pages } = await store
          .reader(scope)
          .export({ device: past.device, since: start, order: 'asc' });
        reply.hijack();
        reply.raw.writeHead(200, {
          'content-type': 'application/json; charset=utf-8',
          'cache-control': 'no-store',
        });
        pipeline(Readable.from(asArray(pages), { objectMode: false }), reply.raw, (error) => {
          if (error && error.code !== 'ERR_STREAM_PREMATURE_CLOSE') {
            log.warn({ error: errorText(error) }, "a device's lines could not be read to the end");
          }
        });
        return [];
      }),
  );
};

/** What is asked of the lines that are there. */
interface Past {
  store: LogStore;
  scope: Scope;
  device: string;
  since: number | undefined;
  count: number | 'all';
  signal: AbortSignal;
}

async function isKnown({ store, scope, device, signal }: Past, records: Records): Promise<boolean> {
  if (await records.devices.get(device)) return true;
  const { logs } = await store.reader(scope, undefined, signal).search({ device, limit: 1, order: 'desc' });
  return logs.length > 0;
}

/** The newest lines, oldest first. */
async function newest({ store, scope, device, since, signal }: Past, count: number): Promise<StoredLine[]> {
  if (count === 0) return [];
  const { logs } = await store
    .reader(scope, undefined, signal)
    .search({ device, since, limit: count, order: 'desc' });
  return logs.reverse();
}

async function* pastPages(past: Past): AsyncGenerator<StoredLine[]> {
  if (past.count !== 'all') yield await newest(past, past.count);
  else {
    const { store, scope, device, since, signal } = past;
    const { pages } = await store.reader(scope, undefined, signal).export({ device, since, order: 'asc' });
    yield* pages;
  }
}

/**
 * Lines are held from the first moment on, then the past is shown, then what was held and is not part of it: so none is
 * missed or shown twice where the two meet. Returns once the past is shown.
 */
async function follow(
  past: Past,
  response: ServerResponse,
  options: BalenaLogsOptions & {
    authorization: string;
    isAllowed: () => Promise<boolean>;
    /** Ends it when the token is none any more. */
    held: (end: () => void) => Disposable;
  },
): Promise<void> {
  const { hub, ingest, isAllowed, held: heldByToken, log, signal, recheckMs = 10_000, ...writing } = options;
  const { peers, authorization } = options;
  const { heartbeatMs = 15_000, maxWaitingBytes = 1024 * 1024 } = writing;
  const held = new Map<string, StoredLine>();
  let heldBack = 0;
  let show = (line: StoredLine): void => {
    if (held.size < maxHeldLines) held.set(line.id, line);
    else heldBack++;
  };
  const { device, scope, since = 0 } = past;
  const onLine = (line: StoredLine) => {
    if (line.timestamp >= since) show(line);
  };
  let tellSkipped = (count: number): void => {
    heldBack += count;
  };
  let tellGap = (): void => undefined;
  const watching = hub.watch({ device, scope }, onLine);
  const gone = new AbortController();
  try {
    if (peers) {
      await followPeers({
        ...peers,
        address: `/api/v1/logs/tail?device=${encodeURIComponent(device)}`,
        authorization,
        onLine,
        onSkipped: (count) => tellSkipped(count),
        onGap: () => tellGap(),
        signal: gone.signal,
        log,
      });
    }
    await Promise.race([
      ingest.settled().catch(() => undefined),
      pause(maxSettlingMs, undefined, { ref: false }),
    ]);
    for await (const page of pastPages(past)) {
      if (!response.headersSent) writeHead(response);
      for (const line of page) {
        held.delete(line.id);
        if (!response.write(balenaStream.line(line))) await once(response, 'drain', { signal: past.signal });
      }
    }
    if (!response.headersSent) writeHead(response);
  } catch (error) {
    watching[Symbol.dispose]();
    gone.abort();
    if (!response.headersSent) throw error;
    // Too late for another status: the reader sees the connection break.
    response.destroy();
    return;
  }
  const writer = new LiveWriter(response, {
    format: balenaStream,
    heartbeatMs,
    maxWaitingBytes,
    onSkipped: () => hub.skippedLines++,
  });
  for (const line of held.values()) writer.write(line);
  if (heldBack > 0) response.write(balenaStream.skipped(heldBack));
  show = (line) => writer.write(line);
  tellSkipped = (count) => writer.skip(count);
  tellGap = () => writer.gap();
  const stop = () => response.end();
  const session = heldByToken(stop);
  const recheck = async () => {
    if (!(await isAllowed())) stop();
  };
  const rechecking = setInterval(() => {
    // The records may be away for a moment; what was allowed is, until they say otherwise.
    recheck().catch((error) => log.warn({ error: errorText(error) }, 'a stream could not be checked'));
  }, recheckMs);
  const done = () => {
    clearInterval(rechecking);
    signal.removeEventListener('abort', stop);
    session[Symbol.dispose]();
    watching[Symbol.dispose]();
    gone.abort();
    writer[Symbol.dispose]();
  };
  response.on('error', () => undefined);
  response.on('close', done);
  signal.addEventListener('abort', stop);
  if (response.destroyed) done();
  else if (signal.aborted) stop();
}

function writeHead(response: ServerResponse): void {
  response.writeHead(200, {
    'content-type': 'application/x-ndjson',
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    'x-accel-buffering': 'no',
  });
  response.flushHeaders();
}

const balenaStream: LiveFormat = {
  line: (line) => `${JSON.stringify(balenaLog(line))}\n`,
  // As balena tells it.
  skipped: (count) => warning(`Warning: Suppressed ${count} message(s) due to slow reading`),
  get gap() {
    return warning('Warning: messages may be missing here: a process of the cloud came or went');
  },
  heartbeat: '\n',
};

function warning(message: string): string {
  const now = Date.now();
  return `${JSON.stringify({ message, createdAt: now, timestamp: now, isSystem: true, isStdErr: true })}\n`;
}

async function* asArray(pages: AsyncIterable<StoredLine[]>): AsyncGenerator<Buffer> {
  let before = '[';
  for await (const page of pages) {
    const text = page.map((line) => JSON.stringify(balenaLog(line))).join(',');
    yield Buffer.from(before + text);
    before = ',';
  }
  yield Buffer.from(before === '[' ? '[]' : ']');
}

function balenaLog({ message, receivedAt, timestamp, isSystem, isStdErr, serviceId }: StoredLine): BalenaLog {
  return {
    message,
    createdAt: receivedAt,
    timestamp,
    isSystem,
    isStdErr,
    ...(serviceId !== undefined && { serviceId }),
  };
}
