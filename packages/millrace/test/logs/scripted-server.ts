import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { StoredLine } from '@millrace/wire';

/**
 * A log server whose faults can be arranged: lines that the tail shows before the search finds them, skipped lines,
 * broken connections, restarts. The real cloud is met in the end-to-end tests.
 */
export class ScriptedServer implements AsyncDisposable {
  readonly token = 'right-token';
  /** What the search finds. */
  readonly stored: StoredLine[] = [];
  searches = 0;
  url = '';
  #port = 0;
  #server = createServer();
  readonly #watchers = new Set<ServerResponse>();
  /** Called while a search runs: what happens at that very moment. */
  duringSearch: () => void = () => {};
  pageLimit = 10_000;

  async start(): Promise<this> {
    this.#server = createServer((request, response) => {
      const url = new URL(request.url ?? '', 'http://x');
      if (request.headers.authorization !== `Bearer ${this.token}`) {
        response.writeHead(401, { 'content-type': 'application/problem+json' });
        response.end(JSON.stringify({ code: 'UNAUTHORIZED', detail: 'unknown token' }));
      } else if (url.pathname === '/api/v1/logs/tail') {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.write(': open\n\n');
        this.#watchers.add(response);
        response.on('close', () => this.#watchers.delete(response));
      } else if (url.pathname === '/api/v1/devices') {
        const uuids = new Set(this.stored.map((line) => line.device));
        response.end(JSON.stringify({ devices: [...uuids].map((uuid) => ({ uuid })) }));
      } else response.end(JSON.stringify(this.#search(url.searchParams)));
    });
    await new Promise<void>((resolve) => this.#server.listen(this.#port, '127.0.0.1', resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
    this.url = `http://127.0.0.1:${this.#port}`;
    return this;
  }

  #search(query: URLSearchParams): { logs: StoredLine[]; cursor?: string } {
    this.searches++;
    const since = Number(query.get('since') ?? 0);
    const order = query.get('order') === 'asc' ? 1 : -1;
    const found = this.stored
      .filter((line) => line.timestamp >= since)
      .sort((a, b) => order * (a.timestamp - b.timestamp || (a.seq ?? 0) - (b.seq ?? 0)));
    this.duringSearch();
    const from = Number(query.get('cursor') ?? 0);
    const to = from + Math.min(Number(query.get('limit')), this.pageLimit);
    return { logs: found.slice(from, to), ...(to < found.length && { cursor: String(to) }) };
  }

  get watchers(): number {
    return this.#watchers.size;
  }

  /** Shows a line to the watchers. */
  push(line: StoredLine): void {
    for (const watcher of this.#watchers)
      watcher.write(`event: log\nid: x\ndata: ${JSON.stringify(line)}\n\n`);
  }

  /** Tells the watchers that lines were left out. */
  skip(count: number): void {
    for (const watcher of this.#watchers)
      watcher.write(`event: skipped\ndata: ${JSON.stringify({ count })}\n\n`);
  }

  /** Tells the watchers that lines may be missing. */
  gap(): void {
    for (const watcher of this.#watchers) watcher.write('event: gap\ndata: {}\n\n');
  }

  /** Breaks every connection and refuses new ones until the next start. */
  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server.listening) await this.stop();
  }
}

/** Line `seq` of a device, written `agoMs` before now. */
export function line(seq: number, { agoMs = 0, device = 'device-1' } = {}): StoredLine {
  return {
    id: `abcdefgh-${seq}`,
    seq,
    device,
    message: `line ${seq}`,
    timestamp: Date.now() - agoMs,
    receivedAt: Date.now(),
    level: 'info',
    source: { type: 'container', name: 'web' },
    serviceName: 'web',
    isStdErr: false,
    isSystem: false,
  };
}
