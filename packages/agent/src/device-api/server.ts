import { createHash, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingHttpHeaders } from 'node:http';
import { errorText, MillraceError } from '@millrace/wire';
import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import type { Logger } from 'pino';
import type { LocalLogBackend } from '../logging/local-backend.ts';
import type { LogQuery } from '../logging/types.ts';
import { metricsType, renderMetrics } from '../metrics/prometheus.ts';
import type { AgentState } from '../state.ts';
import { httpDate } from './http-date.ts';
import { parseLogsRequest } from './query.ts';

export interface DeviceApiOptions {
  local: LocalLogBackend;
  uuid: string;
  state: () => AgentState;
  host: string;
  /** Asked for on all but ping and health, if there is one. */
  apiKey?: string | undefined;
  /** Further routes, each in a scope of its own. */
  routes?: readonly ((app: FastifyInstance) => Promise<void>)[];
  /** The same API on each; 0 for any free port. */
  ports: readonly { variable: string; port: number }[];
  log: Logger;
}

export interface DeviceApi extends AsyncDisposable {
  /** The ports listened on, in the order asked for. */
  ports: number[];
  close(): Promise<void>;
}

const heartbeatMs = 20_000;

/** No route has a schema. Left to itself fastify would load a compiler for them, which takes 3 MB. */
const noSchemas = () => () => {
  throw new MillraceError('INTERNAL', 'a route of the device API has a schema');
};

/**
 * Serves the API on the device.
 *
 * @throws MillraceError `PORT_TAKEN` that names the variable
 */
export async function serveDeviceApi(options: DeviceApiOptions): Promise<DeviceApi> {
  const stopping = new AbortController();
  const servers: FastifyInstance[] = [];
  const close = async () => {
    stopping.abort();
    await Promise.all(servers.map((server) => server.close()));
  };
  const ports: number[] = [];
  try {
    for (const { variable, port } of options.ports) {
      const server = createApp(options, stopping.signal);
      servers.push(server);
      ports.push(await listen(server, options.host, variable, port));
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { ports, close, [Symbol.asyncDispose]: close };
}

async function listen(
  server: FastifyInstance,
  host: string,
  variable: string,
  port: number,
): Promise<number> {
  try {
    await server.listen({ host, port });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'EADDRINUSE')
      throw new MillraceError('PORT_TAKEN', `${variable} ${port} is taken`, { cause });
    throw new MillraceError('CONFIG_INVALID', `${variable} ${port} on ${host} cannot be used (${code})`, {
      cause,
    });
  }
  return (server.server.address() as { port: number }).port;
}

function createApp(options: DeviceApiOptions, stopping: AbortSignal): FastifyInstance {
  const { local, uuid, state, log } = options;
  const app = Fastify({
    forceCloseConnections: true,
    schemaController: { compilersFactory: { buildValidator: noSchemas, buildSerializer: noSchemas } },
    routerOptions: { querystringParser: parseQuery },
    // The app API's clients say /api/v1/…, the device API's /v1/…; both mean the same.
    rewriteUrl: ({ url = '/' }) => url.replace(/^\/api(?=\/v1\/)/, ''),
  });
  const onLoopback = isLoopback(options.host);

  app.addHook('onRequest', async (request, reply) => {
    // Node would write the same, and take 1 MB for it.
    reply.raw.setHeader('date', httpDate(new Date()));
    // Without this a web page could reach a loopback API by pointing its own name at 127.0.0.1.
    if (onLoopback && !isLoopback(hostName(request.headers.host))) {
      throw new MillraceError('FORBIDDEN', 'this API answers to localhost only');
    }
    // A browser lets any page post to a loopback address, and says so: such a page shall not run containers here.
    if (!isReading(request.method) && !isOwnPage(request.headers)) {
      throw new MillraceError('FORBIDDEN', 'a page of another origin may not change anything here');
    }
    if (options.apiKey !== undefined && !isOpen(request.routeOptions.url)) {
      if (!hasKey(request.headers.authorization, options.apiKey)) {
        throw new MillraceError('UNAUTHORIZED', 'this API wants its key (DEVICE_API_KEY)');
      }
    }
  });
  app.setErrorHandler((error, _request, reply) => {
    const known = error instanceof MillraceError ? error : asMillraceError(error, log);
    return reply.code(known.status).type('application/problem+json').send(known.toProblem());
  });
  app.setNotFoundHandler((request, reply) => {
    const problem = new MillraceError(
      'NOT_FOUND',
      `${request.method} ${request.url.split('?')[0]}`,
    ).toProblem();
    return reply.code(404).type('application/problem+json').send(problem);
  });

  app.get('/ping', async () => 'OK');
  app.get('/v1/healthy', async () => 'OK');
  app.get('/v1/device', async () => ({ uuid, ...state() }));
  app.get('/metrics', async (_request, reply) => reply.type(metricsType).send(await renderMetrics(state())));
  app.get('/v1/logs', async (request, reply) => {
    const { query, follow } = parseLogsRequest(request.query as Record<string, unknown>);
    if (follow) {
      await streamLogs(local, query, reply, stopping);
      return reply;
    }
    const logs = await local.getLogs(query);
    return { count: logs.length, logs };
  });
  for (const routes of options.routes ?? []) app.register(routes);
  return app;
}

/** NDJSON that stays open: what is there already, then each line as it comes. A blank line is a heartbeat. */
async function streamLogs(
  local: LocalLogBackend,
  query: LogQuery,
  reply: FastifyReply,
  stopping: AbortSignal,
): Promise<void> {
  reply.hijack();
  const out = reply.raw;
  const gone = new AbortController();
  const stop = () => gone.abort();
  out.on('close', stop);
  stopping.addEventListener('abort', stop);
  const heartbeat = setInterval(() => out.write('\n'), heartbeatMs);
  try {
    out.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' });
    out.flushHeaders();
    // Following starts before the past is read, so that no line falls in between.
    const live = local.follow(query, gone.signal);
    const first = live.next();
    const past = await local.getLogs(query);
    const seen = new Set(past.map((line) => line.id));
    const send = async (line: object) => {
      if (!out.write(`${JSON.stringify(line)}\n`)) await once(out, 'drain', { signal: gone.signal });
    };
    for (const line of past) await send(line);
    for (let next = await first; !next.done; next = await live.next()) {
      if (!seen.delete(next.value.id)) await send(next.value);
    }
  } catch (error) {
    // The reader went away, or we are stopping: both end the stream, and nobody is left to tell.
    if (!gone.signal.aborted) throw error;
  } finally {
    clearInterval(heartbeat);
    stopping.removeEventListener('abort', stop);
    gone.abort();
    out.end();
  }
}

function parseQuery(text: string): Record<string, string | string[]> {
  const out: Record<string, string | string[]> = Object.create(null);
  for (const [name, value] of new URLSearchParams(text)) {
    const before = out[name];
    out[name] = before === undefined ? value : [before, value].flat();
  }
  return out;
}

function asMillraceError(error: unknown, log: Logger): MillraceError {
  const status = (error as { statusCode?: number }).statusCode ?? 500;
  if (status === 413) return new MillraceError('BODY_TOO_LARGE', errorText(error), { cause: error });
  if (status < 500) return new MillraceError('BODY_INVALID', errorText(error), { cause: error });
  log.error({ error: errorText(error) }, 'device API: a request failed');
  return new MillraceError('INTERNAL', 'the request failed', { cause: error });
}

function isReading(method: string): boolean {
  return method === 'GET' || method === 'HEAD' || method === 'OPTIONS';
}

/** Programs send no origin; a page of this very address sends its own. */
function isOwnPage({ origin, host }: IncomingHttpHeaders): boolean {
  if (origin === undefined) return true;
  return URL.canParse(origin) && new URL(origin).host === host;
}

function isOpen(route: string | undefined): boolean {
  return route === '/ping' || route === '/v1/healthy';
}

/** Compared in constant time, whatever their lengths. */
function hasKey(header: string | undefined, key: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(header ?? ''), digest(`Bearer ${key}`));
}

function hostName(header: string | undefined): string {
  return (header ?? '').replace(/:\d+$/, '');
}

/** Whether only programs of this machine reach an address or name. */
export function isLoopback(host: string): boolean {
  const name = host.replace(/^\[|\]$/g, '').toLowerCase();
  return name === 'localhost' || name === '::1' || /^127(\.\d{1,3}){3}$/.test(name);
}
