import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

/** What a link does to what goes through it. */
export type Weather =
  | { kind: 'open' }
  /** Breaks every connection and refuses new ones. */
  | { kind: 'cut' }
  /** Passes nothing on; what was on its way arrives late. */
  | { kind: 'frozen' }
  | { kind: 'slow'; bytesPerS: number }
  /** Resets each connection when it has passed so many bytes, in the middle of whatever they are. */
  | { kind: 'tear'; afterBytes: number }
  /**
   * Answers each HTTP request itself, or never (`hang`). With `forwards` the far end gets the request all the same,
   * and its answer is withheld: it has stored what the sender believes was refused.
   */
  | { kind: 'answer'; status: number | 'hang'; forwards: boolean };

/** How long a request is forwarded before its answer is made up. */
const answerAfterMs = 300;

interface Connection {
  near: Socket;
  far: Socket;
  passedBytes: number;
}

/** The network between two programs: a TCP relay on 127.0.0.1 of which the weather can be changed. */
export class Link implements AsyncDisposable {
  readonly #server: Server;
  readonly #farPort: number;
  readonly #sockets = new Set<Socket>();
  #weather: Weather = { kind: 'open' };
  #changed = Promise.withResolvers<void>();

  private constructor(farPort: number) {
    this.#farPort = farPort;
    this.#server = createServer({ allowHalfOpen: true }, (near) => this.#accept(near));
  }

  static async to(farPort: number): Promise<Link> {
    const link = new Link(farPort);
    await new Promise<void>((resolve) => link.#server.listen(0, '127.0.0.1', resolve));
    return link;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  /** Changes the weather. What is connected lives on, unless the new weather breaks it. */
  set(weather: Weather): void {
    this.#weather = weather;
    if (weather.kind === 'cut' || weather.kind === 'answer') this.reset();
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  /** Breaks what is connected now. */
  reset(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.set({ kind: 'cut' });
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #accept(near: Socket): void {
    this.#track(near);
    const weather = this.#weather;
    if (weather.kind === 'cut') near.resetAndDestroy();
    else if (weather.kind === 'answer') this.#answer(near, weather);
    else this.#relay({ near, far: this.#far(), passedBytes: 0 });
  }

  #far(): Socket {
    const far = connect({ port: this.#farPort, host: '127.0.0.1', allowHalfOpen: true });
    this.#track(far);
    return far;
  }

  #track(socket: Socket): void {
    this.#sockets.add(socket);
    // A broken connection is what this is about; its other half is broken where `close` is seen.
    socket.on('error', () => undefined);
    socket.on('close', () => this.#sockets.delete(socket));
  }

  #relay(connection: Connection): void {
    const { near, far } = connection;
    near.on('close', () => far.destroy());
    far.on('close', () => near.destroy());
    void this.#pump(connection, near, far);
    void this.#pump(connection, far, near);
  }

  async #pump(connection: Connection, from: Socket, to: Socket): Promise<void> {
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        while (this.#weather.kind === 'frozen') await this.#changed.promise;
        const weather = this.#weather;
        if (weather.kind === 'tear' && connection.passedBytes + chunk.length > weather.afterBytes) {
          const whole = Math.max(0, weather.afterBytes - connection.passedBytes);
          to.write(chunk.subarray(0, whole), () => to.resetAndDestroy());
          return;
        }
        connection.passedBytes += chunk.length;
        if (weather.kind === 'slow') await pause((chunk.length / weather.bytesPerS) * 1000);
        if (!to.write(chunk)) await drained(to);
        if (to.destroyed) return;
      }
      while (this.#weather.kind === 'frozen') await this.#changed.promise;
      to.end();
    } catch {
      // The iteration throws when the connection breaks.
      to.destroy();
    }
  }

  #answer(near: Socket, { status, forwards }: { status: number | 'hang'; forwards: boolean }): void {
    const far = forwards ? this.#far() : undefined;
    near.on('close', () => far?.destroy());
    far?.resume();
    let head = '';
    let isAnswered = false;
    near.on('data', (chunk: Buffer) => {
      // Nothing waits here in memory: a far end that does not keep up just misses the rest.
      if (far && far.writableLength < 1_000_000) far.write(chunk);
      if (isAnswered || status === 'hang') return;
      head = (head + chunk.toString('latin1')).slice(-65_536);
      if (!head.includes('\r\n\r\n')) return;
      isAnswered = true;
      const answer = `HTTP/1.1 ${status} Chaos\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`;
      setTimeout(() => near.end(answer), forwards ? answerAfterMs : 0);
    });
    near.on('end', () => {
      far?.end();
      if (status !== 'hang') near.end();
    });
  }
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      socket.off('drain', done);
      socket.off('close', done);
      resolve();
    };
    socket.on('drain', done);
    socket.on('close', done);
  });
}
