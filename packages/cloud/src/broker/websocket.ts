import { createServer, type IncomingMessage, type Server, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import { createWebSocketStream, WebSocketServer } from 'ws';
import { listen } from '../listening.ts';
import { isOriginAllowed } from './access.ts';
import type { EmbeddedBroker } from './embedded.ts';

export interface MqttWebSocketOptions {
  broker: EmbeddedBroker;
  /** Web origins allowed beside this machine's own. */
  allowedOrigins: readonly string[];
  log: Logger;
}

const maxFrameBytes = 2 * 1024 * 1024;
// What a reverse proxy adds. Behind one, the address of the connection says nothing about who is there.
const proxyHeaders = ['forwarded', 'via', 'x-forwarded-for', 'x-forwarded-host', 'x-real-ip'];

/** MQTT over WebSocket (MQTT 3.1.1, chapter 6), for its own port and for `/mqtt` of the HTTP server. */
export class MqttWebSocket implements AsyncDisposable {
  readonly #options: MqttWebSocketOptions;
  readonly #sockets: WebSocketServer;
  #server: Server | undefined;

  constructor(options: MqttWebSocketOptions) {
    this.#options = options;
    this.#sockets = new WebSocketServer({
      noServer: true,
      maxPayload: maxFrameBytes,
      perMessageDeflate: false,
      handleProtocols: (offered) => chosenProtocol(offered) ?? false,
    });
  }

  /**
   * Listens on a port of its own, where every path will do.
   *
   * @throws MillraceError `PORT_TAKEN`
   */
  async listen(host: string, port: number): Promise<number> {
    const server = createServer((_request, response) => {
      response.writeHead(426, { 'content-type': 'text/plain', upgrade: 'websocket' });
      response.end('This port speaks MQTT over WebSocket.\n');
    });
    server.on('upgrade', (request, socket, head) => this.upgrade(request, socket, head));
    this.#server = server;
    return listen(server, { host, port, variable: 'MQTT_WS_PORT' });
  }

  /** Takes an HTTP request that asks to become a WebSocket. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const { broker, allowedOrigins, log } = this.#options;
    socket.on('error', (error) => log.debug({ error: errorText(error) }, 'a WebSocket peer went away'));
    const { origin } = request.headers;
    if (!isOriginAllowed(origin, allowedOrigins)) {
      log.warn({ origin }, 'a WebSocket from a foreign page was refused');
      refuse(
        socket,
        new MillraceError(
          'FORBIDDEN',
          `pages of ${origin} may not connect: MQTT_WS_ORIGINS does not list them`,
        ),
      );
      return;
    }
    const offered = new Set(
      (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim()),
    );
    if (!chosenProtocol(offered)) {
      refuse(socket, new MillraceError('PARAMETER_INVALID', 'Sec-WebSocket-Protocol: must offer mqtt'));
      return;
    }
    const address = request.socket.remoteAddress ?? '';
    const direct = !proxyHeaders.some((name) => request.headers[name] !== undefined);
    request.socket.setKeepAlive(true, 60_000);
    this.#sockets.handleUpgrade(request, socket, head, (webSocket) => {
      broker.accept(createWebSocketStream(webSocket), { address, direct });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#sockets.close();
    const server = this.#server;
    if (!server?.listening) return;
    const stopped = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await stopped;
  }
}

function chosenProtocol(offered: ReadonlySet<string>): string | undefined {
  return ['mqtt', 'mqttv3.1'].find((name) => offered.has(name));
}

function refuse(socket: Duplex, error: MillraceError): void {
  const body = JSON.stringify(error.toProblem());
  socket.end(
    [
      `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status]}`,
      'Content-Type: application/problem+json',
      `Content-Length: ${Buffer.byteLength(body)}`,
      'Connection: close',
      '',
      body,
    ].join('\r\n'),
  );
}
