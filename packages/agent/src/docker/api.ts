import type { IncomingMessage } from 'node:http';
import type { Docker } from './engine.ts';
import { GatheringAgent, partsOf } from './gathering-agent.ts';
import { type LogConfig, rotationBytes } from './rotation.ts';
import type { ContainerIdentity } from './services.ts';
import { type Nanos, sinceParameter } from './timestamp.ts';

/** What the engine's list of containers holds, as far as we use it. */
export interface ListedContainer {
  Id: string;
  Names: string[];
  Labels: Record<string, string> | null;
  State: string;
}

export interface ContainerState {
  isRunning: boolean;
  /** Changes with every start. */
  startedAt: string;
  /** When the last process ended, in RFC 3339; the year 1 when none has. */
  finishedAt: string;
  /** See `rotationBytes`. */
  rotationBytes: number | undefined;
}

export interface LogRequest {
  since: Nanos;
  follow: boolean;
  /** Only this many entries from the end of the log. */
  tail?: number;
}

export type EngineMethod = 'GET' | 'POST' | 'DELETE';

export interface EngineRequest {
  method: EngineMethod;
  path: string;
  query?: Record<string, unknown>;
  body?: object;
  /** Goes along with a pull, as `X-Registry-Auth`. */
  registryLogin?: object | undefined;
  /** How long the engine may take to begin its answer. Default: as the API was made with. */
  answerTimeoutMs?: number;
  /** The answer comes in many small chunks, and is to be read with `partsOf`. */
  isChunky?: boolean;
}

export interface EngineApiOptions {
  docker: Docker;
  /** How long the engine may take to begin an answer. */
  answerTimeoutMs: number;
}

/** dockerode's way to send any request (docker-modem); its types leave it open. */
interface Modem {
  readonly protocol?: unknown;
  /** Of whoever made the client, if it was given one. */
  readonly agent?: unknown;
  dial(
    options: {
      path: string;
      method: EngineMethod;
      isStream: true;
      options: { _query: Record<string, unknown>; _body: object };
      authconfig?: object;
      statusCodes: Record<number, true | string>;
      abortSignal: AbortSignal;
    },
    callback: (error: (Error & { statusCode?: number }) | null, response: IncomingMessage | null) => void,
  ): void;
}

/** The engine answered, but with an error. */
export class EngineRefusal extends Error {
  readonly statusCode: number;

  constructor(message: string, statusCode: number, options?: { cause?: unknown }) {
    super(message, options);
    this.statusCode = statusCode;
  }
}

const maxBodyBytes = 64 * 1024 * 1024;

/**
 * Requests to the engine; those that reading logs takes have names. Each can be aborted, and fails when no answer begins in time, so that
 * an engine that accepts connections and says nothing holds up nobody.
 */
export class EngineApi {
  private readonly modem: Modem;
  /** The same, but for how it reads from its connections. */
  private readonly gathering: Modem;
  private readonly answerTimeoutMs: number;

  constructor({ docker, answerTimeoutMs }: EngineApiOptions) {
    const modem = docker.modem as Modem;
    this.modem = modem;
    this.gathering =
      modem.protocol === 'http' && modem.agent === undefined
        ? Object.create(modem, { agent: { value: new GatheringAgent() } })
        : modem;
    this.answerTimeoutMs = answerTimeoutMs;
  }

  /** Asks whether the engine lives, and returns the time of its clock in ms, to the second. */
  async ping(signal: AbortSignal): Promise<number> {
    const response = await this.get('/_ping', {}, signal);
    const dateMs = Date.parse(response.headers.date ?? '');
    await bodyOf(response);
    return Number.isNaN(dateMs) ? Date.now() : dateMs;
  }

  /** The folder in which the engine keeps its data, on its own machine; `undefined` when it does not tell. */
  async rootFolder(signal: AbortSignal): Promise<string | undefined> {
    const info: unknown = JSON.parse(await bodyOf(await this.get('/info', {}, signal)));
    const { DockerRootDir: root } = info as { DockerRootDir?: unknown };
    return typeof root === 'string' && root.startsWith('/') ? root : undefined;
  }

  async containers(signal: AbortSignal): Promise<ListedContainer[]> {
    const list: unknown = JSON.parse(await bodyOf(await this.get('/containers/json', { all: true }, signal)));
    return list as ListedContainer[];
  }

  /** `undefined` when there is no such container. */
  async stateOf(id: string, signal: AbortSignal): Promise<ContainerState | undefined> {
    try {
      const response = await this.get(`/containers/${id}/json`, {}, signal);
      const { State: state, HostConfig: host } = JSON.parse(await bodyOf(response)) as {
        State: { Running: boolean; Restarting: boolean; StartedAt: string; FinishedAt: string };
        HostConfig?: { LogConfig?: LogConfig };
      };
      // While it waits for its next restart a container counts as running, but writes nothing.
      return {
        isRunning: state.Running && !state.Restarting,
        startedAt: state.StartedAt,
        finishedAt: state.FinishedAt,
        rotationBytes: host?.LogConfig && rotationBytes(host.LogConfig),
      };
    } catch (error) {
      if (error instanceof EngineRefusal && error.statusCode === 404) return undefined;
      throw error;
    }
  }

  /**
   * Both streams with timestamps, in parts that are valid until the next is asked for. Reading slowly slows the engine
   * down.
   */
  async logs(
    id: string,
    { since, follow, tail }: LogRequest,
    signal: AbortSignal,
  ): Promise<AsyncIterable<Buffer>> {
    const query = {
      stdout: true,
      stderr: true,
      timestamps: true,
      follow,
      since: sinceParameter(since),
      ...(tail !== undefined && { tail }),
    };
    const path = `/containers/${id}/logs`;
    return partsOf(await this.send({ method: 'GET', path, query, isChunky: true }, signal));
  }

  /** What happens to containers, one JSON object per line, from `sinceSeconds` on. */
  events(sinceSeconds: number, actions: readonly string[], signal: AbortSignal): Promise<IncomingMessage> {
    const filters = { type: ['container'], event: actions };
    return this.get('/events', { since: sinceSeconds, filters: JSON.stringify(filters) }, signal);
  }

  private get(path: string, query: Record<string, unknown>, signal: AbortSignal): Promise<IncomingMessage> {
    return this.send({ method: 'GET', path, query }, signal);
  }

  /** The answer to a request as it begins; its body is the caller's to read. Throws {@link EngineRefusal}. */
  async send(request: EngineRequest, signal: AbortSignal): Promise<IncomingMessage> {
    signal.throwIfAborted();
    const { method, path, answerTimeoutMs = this.answerTimeoutMs } = request;
    const controller = new AbortController();
    const abort = () => controller.abort(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    const release = () => signal.removeEventListener('abort', abort);
    const timer = setTimeout(() => {
      controller.abort(new Error(`the engine did not answer ${method} ${path} within ${answerTimeoutMs} ms`));
    }, answerTimeoutMs);
    try {
      const response = await this.dial(request, controller.signal);
      response.once('close', release);
      // Ends a connection whose far end vanished without a word (TCP only).
      response.socket.setKeepAlive(true, 30_000);
      return response;
    } catch (error) {
      release();
      throw controller.signal.aborted ? controller.signal.reason : error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** The body of {@link send}'s answer, as JSON; `undefined` if it is empty. */
  async ask(request: EngineRequest, signal: AbortSignal): Promise<unknown> {
    const text = await bodyOf(await this.send(request, signal));
    return text === '' ? undefined : (JSON.parse(text) as unknown);
  }

  private dial(
    { method, path, query = {}, body = {}, registryLogin, isChunky }: EngineRequest,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const modem = isChunky ? this.gathering : this.modem;
      modem.dial(
        {
          path: `${path}?`,
          method,
          isStream: true,
          options: { _query: query, _body: body },
          ...(registryLogin && { authconfig: registryLogin }),
          statusCodes: { 200: true, 201: true, 204: true, 304: true },
          abortSignal: signal,
        },
        (error, response) => {
          if (response && !error) resolve(response);
          else if (error?.statusCode === undefined)
            reject(error ?? new Error(`no answer to ${method} ${path}`));
          else reject(new EngineRefusal(error.message.trim(), error.statusCode, { cause: error }));
        },
      );
    });
  }
}

async function bodyOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBodyBytes) throw new Error(`the engine's answer is longer than ${maxBodyBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** What the engine's list says of who a container is. */
export function identityOf({ Id, Names, Labels }: ListedContainer): ContainerIdentity {
  // Links appear as further names, `/other/alias`.
  const name = Names.find((candidate) => candidate.lastIndexOf('/') === 0) ?? Names[0] ?? '';
  return { id: Id, name: name.replace(/^\//, ''), labels: Labels ?? {} };
}
