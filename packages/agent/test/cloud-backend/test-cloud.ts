import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { constants, createGunzip } from 'node:zlib';
import { BatchDecoder, type BatchPart, decodePart, type LogMessage } from '@millrace/wire';

/** How the cloud of a test answers a request. */
export type Behaviour =
  /** Head at once, acknowledgements while the request is open. */
  | 'stream'
  /** Status 201 when the body has ended, and never an acknowledgement: as balena's. */
  | 'created'
  /** Reads, and never answers. */
  | 'hang'
  /** Head at once, but no acknowledgement. */
  | 'mute'
  /** Status 200 without acknowledgements when the body has ended: a captive portal. */
  | 'portal'
  /** This status at once. */
  | number;

export interface TestCloud extends AsyncDisposable {
  readonly url: string;
  behaviour: Behaviour;
  /** Decides for single requests, once their body has been read; `undefined` goes on with `behaviour`. */
  judge: ((lines: LogMessage[]) => number | undefined) | undefined;
  /** Headers of refusals. */
  headers: Record<string, string>;
  /** Set to hold acknowledgements back while lines are being read. */
  acking: boolean;
  /** Lines stored, each once, in the order of their arrival. */
  readonly lines: LogMessage[];
  /** Lines that came again after they had been stored. */
  readonly repeated: number;
  /** One entry per request. */
  readonly requests: { headers: IncomingMessage['headers']; endedWell: boolean; lines: number }[];
  /** Breaks all connections. */
  breakAll(): void;
}

/** A small cloud as the backend sees it, on real HTTP or HTTPS, with faults to order. */
export async function startTestCloud(tls?: { cert: string; key: string }): Promise<TestCloud> {
  const marks = new Map<string, number>();
  let repeated = 0;
  const commit = (part: BatchPart): { journal: string; through: number } | undefined => {
    if (!part.header || part.firstSeq === null) throw new Error('a line without a batch');
    const { journal } = part.header;
    for (const line of decodePart(part)) {
      const mark = marks.get(journal) ?? 0;
      if ((line.seq as number) <= mark) repeated++;
      else {
        cloud.lines.push(line);
        marks.set(journal, line.seq as number);
      }
    }
    return { journal, through: marks.get(journal) as number };
  };

  const handle = async (incoming: IncomingMessage, response: ServerResponse) => {
    const { behaviour } = cloud;
    const seen = { headers: incoming.headers, endedWell: false, lines: 0 };
    cloud.requests.push(seen);
    incoming.on('error', () => {});
    if (typeof behaviour === 'number') {
      response.writeHead(behaviour, cloud.headers).end('no');
      incoming.resume();
      return;
    }
    const streaming = behaviour === 'stream' && !cloud.judge;
    if (streaming || behaviour === 'mute') response.writeHead(200).flushHeaders();
    const decoder = new BatchDecoder();
    const lines: LogMessage[] = [];
    const parts: BatchPart[] = [];
    const take = (chunk: Buffer) => {
      for (const part of decoder.push(chunk)) {
        seen.lines += part.count;
        lines.push(...decodePart(part));
        if (cloud.judge) parts.push({ ...part, bytes: part.bytes.slice() });
        else {
          const ack = commit(part);
          if (streaming && cloud.acking && ack) response.write(`${JSON.stringify({ ack })}\n`);
        }
      }
    };
    const body =
      incoming.headers['content-encoding'] === 'gzip'
        ? incoming.pipe(createGunzip({ finishFlush: constants.Z_SYNC_FLUSH }))
        : incoming;
    try {
      for await (const chunk of body) take(chunk as Buffer);
    } catch {
      return; // Torn: the sender sends again.
    }
    seen.endedWell = incoming.complete;
    const verdict = cloud.judge?.(lines);
    if (verdict !== undefined) {
      response.writeHead(verdict, cloud.headers).end();
      return;
    }
    let last: ReturnType<typeof commit>;
    for (const part of parts) last = commit(part);
    if (behaviour === 'created') response.writeHead(201).end();
    else if (behaviour === 'portal') response.writeHead(200).end('<html>Please log in</html>');
    else if (behaviour === 'stream') response.end(last && `${JSON.stringify({ ack: last })}\n`);
  };
  const listener = (incoming: IncomingMessage, response: ServerResponse) => {
    handle(incoming, response).catch((error: unknown) => response.destroy(error as Error));
  };
  const server = tls ? createSecureServer(tls, listener) : createServer(listener);
  server.requestTimeout = 0;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const cloud: TestCloud = {
    url: tls ? `https://localhost:${port}` : `http://127.0.0.1:${port}`,
    behaviour: 'stream',
    judge: undefined,
    headers: {},
    acking: true,
    lines: [],
    get repeated() {
      return repeated;
    },
    requests: [],
    breakAll: () => server.closeAllConnections(),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
  return cloud;
}

/**
 * A reverse proxy that spoils streaming: it holds the answer back until the request has ended and, with
 * `bufferRequest`, passes the request on only then.
 */
export async function startBufferingProxy(
  target: string,
  options: { bufferRequest: boolean },
): Promise<{ url: string } & AsyncDisposable> {
  const server = createServer(async (incoming, response) => {
    const forward = () =>
      request(new URL(incoming.url ?? '/', target), {
        method: incoming.method,
        headers: incoming.headers,
        agent: false,
      });
    try {
      const chunks: Buffer[] = [];
      const early = options.bufferRequest ? undefined : forward();
      const answered = early && answer(early);
      for await (const chunk of incoming) {
        if (early) early.write(chunk);
        else chunks.push(chunk as Buffer);
      }
      const outgoing = early ?? forward();
      const whole = answered ?? answer(outgoing);
      for (const chunk of chunks) outgoing.write(chunk);
      outgoing.end();
      const { status, body } = await whole;
      response.writeHead(status, { 'content-length': body.length }).end(body);
    } catch {
      response.destroy();
    }
  });
  server.requestTimeout = 0;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return {
    url: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

async function answer(outgoing: ReturnType<typeof request>): Promise<{ status: number; body: Buffer }> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    outgoing.once('response', resolve);
    outgoing.once('error', reject);
  });
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { status: response.statusCode ?? 0, body: Buffer.concat(chunks) };
}
