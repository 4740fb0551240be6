import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import swagger from '@fastify/swagger';
import { MillraceError } from '@millrace/wire';
import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import { jsonSchemaTransform, type ZodTypeProvider } from 'fastify-type-provider-zod';
import type { Logger } from 'pino';
import type { Backups } from '../backup/backups.ts';
import type { ClockSkews } from '../clock/skew.ts';
import type { Identity } from '../identity/identity.ts';
import type { Presence } from '../identity/presence.ts';
import type { Sessions } from '../identity/sessions.ts';
import type { Ingest } from '../ingest/index.ts';
import { listen } from '../listening.ts';
import type { CloudMetrics, MetricsSources } from '../metrics/cloud-metrics.ts';
import type { Route } from '../peers/ownership.ts';
import type { TailPeers } from '../peers/tail.ts';
import type { Records } from '../records/records.ts';
import type { PolicyBook } from '../retention/policy-book.ts';
import type { QuotaBook } from '../retention/quota-book.ts';
import type { Sweeper } from '../retention/sweeper.ts';
import type { LogStore } from '../store/index.ts';
import { TailHub } from '../tail/hub.ts';
import type { RolloutDriver } from '../targets/rollout-driver.ts';
import type { TargetBook } from '../targets/target-book.ts';
import type { TargetFeed } from '../targets/target-feed.ts';
import { auditRoute } from './audit.ts';
import { backupRoutes } from './backups.ts';
import { balenaLogsRoute } from './balena-logs.ts';
import { authorize, forReaders } from './bearer.ts';
import { deviceStateRoutes, stateReportRoutes } from './device-state.ts';
import { deviceTargetRoute } from './device-target.ts';
import { deviceRoutes } from './devices.ts';
import { exportRoute } from './export/route.ts';
import { fleetRoutes } from './fleets.ts';
import { healthRoute } from './health.ts';
import { LogStreams } from './log-stream.ts';
import { logRoutes } from './logs.ts';
import { metricsRoute } from './metrics.ts';
import { documentProblems } from './openapi-problems.ts';
import { PeerPayloads, type PeerPayloadsOptions } from './peer-payloads.ts';
import { policyRoutes } from './policies.ts';
import { sendProblem, toMillraceError, useProblems } from './problems.ts';
import { registerRoute } from './register.ts';
import { searchRoutes } from './searches.ts';
import { tailRoute } from './tail.ts';
import { targetRoutes } from './targets.ts';
import { tokenRoutes } from './tokens.ts';
import { usageRoutes } from './usage.ts';
import { validate } from './validation.ts';

export interface HttpServerOptions {
  records: Records;
  identity: Identity;
  presence: Presence;
  sessions: Sessions;
  skews: ClockSkews;
  store: LogStore;
  ingest: Ingest;
  policies: PolicyBook;
  sweeper: Sweeper;
  quotas: QuotaBook;
  targets: TargetBook;
  feed: TargetFeed;
  rollouts: RolloutDriver;
  /** Parts that `/healthz` asks. */
  checks: Record<string, () => Promise<void>>;
  /** Takes MQTT over WebSocket at `/mqtt`; without it there is none. */
  mqttUpgrade?: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  /** Where several processes share the store. */
  peers?: HttpPeers;
  backups: Backups;
  metrics: CloudMetrics;
  /** What is shown at `/metrics`, beside what this server knows itself. */
  metricsSources: Omit<MetricsSources, 'tails' | 'checks'>;
  log: Logger;
  /** Shown in the OpenAPI document. */
  version: string;
  tuning?: HttpTuning;
}

export interface HttpPeers extends PeerPayloadsOptions, TailPeers {
  route(device: string): Route;
}

/** For tests, mostly. */
export interface HttpTuning {
  ackHeartbeatMs?: number;
  quotaRetryS?: number;
  tailRecheckMs?: number;
  tailHeartbeatMs?: number;
  tailMaxWaitingBytes?: number;
  rolloutTickMs?: number;
}

/** JSON that is empty is no body: with a DELETE, say, many programs name the type of what they do not send. */
function takeEmptyBodies(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body.length > 0) void parse(request, String(body), done);
    else if (request.routeOptions.schema?.body) done(new MillraceError('BODY_INVALID', 'the body is empty'));
    else done(null, undefined);
  });
}

const headersTimeoutMs = 30_000;
const maxConnections = 20_000;

/** The HTTP server: what devices send to, and the API. */
export class HttpServer implements AsyncDisposable {
  readonly #app: FastifyInstance;
  readonly #streams: LogStreams;
  readonly #payloads = new PeerPayloads();
  readonly #stopping = new AbortController();
  #closed: Promise<void> | undefined;

  private constructor(app: FastifyInstance, streams: LogStreams) {
    this.#app = app;
    this.#streams = streams;
  }

  static async open(options: HttpServerOptions): Promise<HttpServer> {
    const { log, metrics, tuning = {} } = options;
    const app = Fastify({
      logger: false,
      // A log-stream lasts for hours, so a request as a whole has no limit; its headers do.
      requestTimeout: 0,
      http: { headersTimeout: headersTimeoutMs, keepAliveTimeout: 72_000 },
      forceCloseConnections: true,
      frameworkErrors: (error, _request, reply) => {
        sendProblem(reply as unknown as FastifyReply, toMillraceError(error, log));
      },
    });
    app.server.maxConnections = maxConnections;
    takeEmptyBodies(app);
    app.setValidatorCompiler(validate);
    // The schemas of answers are for the document; checking ten thousand lines against them is not worth its time.
    app.setSerializerCompiler(() => (value) => JSON.stringify(value));
    app.addHook('onSend', async (_request, reply) => {
      reply.header('x-content-type-options', 'nosniff').header('cache-control', 'no-store');
    });
    app.addHook('onResponse', async (request, reply) => {
      // The path alone: a query may hold what people search for, and headers hold tokens.
      const path = request.url.split('?', 1)[0];
      log.debug({ method: request.method, path, status: reply.statusCode }, 'request');
    });
    useProblems(app, { log, onRefused: (code) => metrics.noteRefusal(code) });
    const streams = new LogStreams({
      ...options,
      route: options.peers?.route,
      onRefused: (code) => metrics.noteRefusal(code),
      heartbeatMs: tuning.ackHeartbeatMs,
      quotaRetryS: tuning.quotaRetryS,
    });
    const server = new HttpServer(app, streams);
    await server.#addRoutes(options);
    await app.ready();
    return server;
  }

  async #addRoutes(options: HttpServerOptions): Promise<void> {
    const { identity, ingest, log, checks, metrics, metricsSources, mqttUpgrade } = options;
    const { version, tuning = {} } = options;
    const app = this.#app.withTypeProvider<ZodTypeProvider>();
    await app.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: { title: 'Millrace', description: 'Logs of a fleet: send, search, follow.', version },
        components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } } },
        security: [{ bearer: [] }],
      },
      transform: jsonSchemaTransform,
    });
    await app.register(this.#streams.route);
    if (options.peers) await app.register(this.#payloads.route, options.peers);
    await app.register(registerRoute, { identity });
    await app.register(stateReportRoutes, options);
    await app.register(deviceTargetRoute, options);
    await app.register(healthRoute, { checks, log });
    const hub = new TailHub({ ingest, log });
    const live = {
      ...options,
      hub,
      signal: this.#stopping.signal,
      recheckMs: tuning.tailRecheckMs,
      heartbeatMs: tuning.tailHeartbeatMs,
      maxWaitingBytes: tuning.tailMaxWaitingBytes,
    };
    await app.register(async (device) => {
      device.decorateRequest('caller');
      device.addHook('onRequest', authorize(identity));
      await device.register(balenaLogsRoute, live);
    });
    await app.register(metricsRoute, {
      identity,
      metrics,
      sources: {
        ...metricsSources,
        checks,
        tails: () => ({ watchers: hub.size, skippedLines: hub.skippedLines }),
      },
    });
    await app.register(
      async (api) => {
        api.decorateRequest('caller');
        api.addHook('onRequest', authorize(identity));
        await api.register(logRoutes, options);
        await api.register(exportRoute, options);
        await api.register(deviceRoutes, options);
        await api.register(deviceStateRoutes, options);
        await api.register(targetRoutes, options);
        await api.register(fleetRoutes, options);
        await api.register(tokenRoutes, options);
        await api.register(searchRoutes, options);
        await api.register(auditRoute, options);
        await api.register(backupRoutes, options);
        await api.register(policyRoutes, options);
        await api.register(usageRoutes, options);
        await api.register(tailRoute, live);
        api.get('/openapi.json', { config: forReaders, schema: { hide: true } }, async () =>
          documentProblems(this.#app.swagger()),
        );
      },
      { prefix: '/api/v1' },
    );
    this.#app.server.on('upgrade', (request, socket, head) => {
      if (mqttUpgrade && request.url?.split('?', 1)[0] === '/mqtt') mqttUpgrade(request, socket, head);
      else {
        socket.on('error', () => undefined);
        socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
      }
    });
  }

  /**
   * Starts to listen, and returns the port.
   *
   * @throws MillraceError `PORT_TAKEN`
   */
  listen(host: string, port: number): Promise<number> {
    return listen(this.#app.server, { host, port, variable: 'CLOUD_PORT' });
  }

  /**
   * Takes no more: ends the tails, and the log-streams behind what they have read, which is committed and
   * acknowledged when this returns, as is what other processes handed on. The server still answers until it is disposed of.
   */
  async drain(): Promise<void> {
    this.#stopping.abort(new MillraceError('OVERLOADED', 'the server is stopping'));
    await Promise.all([this.#streams[Symbol.asyncDispose](), this.#payloads.drain()]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    this.#closed ??= this.#close();
    await this.#closed;
  }

  async #close(): Promise<void> {
    // Fastify ends a server only if it was Fastify that made it listen.
    const { server } = this.#app;
    const stopped = new Promise<void>((resolve) =>
      server.listening ? server.close(() => resolve()) : resolve(),
    );
    server.closeAllConnections();
    await stopped;
    await this.#app.close();
  }
}
