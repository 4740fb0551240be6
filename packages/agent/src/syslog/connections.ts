import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { SyslogFraming } from './framing.ts';

export interface ConnectionOptions {
  host: string;
  port: number;
  /** Takes a message; a promise holds its connection back until it is settled. */
  take(message: Buffer): void | Promise<void>;
  /** A connection was refused because there are too many. */
  onRefused(): void;
  onFailed(error: Error): void;
}

/** Each holds one message and what the kernel and Node hold for it: about 200 KB. */
const maxConnections = 64;
/** Finds senders that went away without a word. */
const keepAliveMs = 60_000;

/** Receives syslog messages over TCP. A sender that is faster than the backends is held back. */
export class SyslogConnections implements AsyncDisposable {
  readonly #options: ConnectionOptions;
  readonly #server: Server;
  readonly #sockets = new Map<Socket, Promise<void>>();

  private constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#server = createServer({ keepAlive: true, keepAliveInitialDelay: keepAliveMs });
    this.#server.maxConnections = maxConnections;
    this.#server.on('drop', options.onRefused);
    this.#server.on('connection', (socket) => {
      this.#sockets.set(
        socket,
        this.#read(socket).finally(() => this.#sockets.delete(socket)),
      );
    });
  }

  /** @throws Error of the system, when the port cannot be had */
  static async listen(options: ConnectionOptions): Promise<SyslogConnections> {
    const connections = new SyslogConnections(options);
    const server = connections.#server;
    server.listen({ host: options.host, port: options.port, exclusive: true });
    await once(server, 'listening');
    server.on('error', options.onFailed);
    return connections;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets.keys()) socket.destroy();
    await Promise.all(this.#sockets.values());
    await closed;
  }

  async #read(socket: Socket): Promise<void> {
    const framing = new SyslogFraming();
    try {
      for await (const chunk of socket as AsyncIterable<Buffer>) {
        for (const message of framing.push(chunk)) await this.#options.take(message);
      }
    } catch {
      // The sender broke off, or we are stopping: what it had begun is kept below.
    }
    const rest = framing.rest();
    if (rest) await this.#options.take(rest);
    socket.destroy();
  }
}
