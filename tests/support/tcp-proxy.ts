import { connect, createServer, type Socket } from 'node:net';

export interface TcpProxyOptions {
  /** Where connections go. */
  port: number;
  host?: string;
}

/** A TCP relay on 127.0.0.1 that stands for the network between two programs and its faults. */
export interface TcpProxy extends AsyncDisposable {
  readonly port: number;
  /** Connections accepted so far. */
  readonly accepted: number;
  /** Bytes passed on from clients to the far end. */
  readonly bytesUp: number;
  /** The same from the far end to clients. */
  readonly bytesDown: number;
  /** Breaks every connection and refuses new ones until `open()`. */
  cut(): void;
  /** Passes nothing on any more, in either direction, and tells nobody: a half-open connection. */
  freeze(): void;
  /** Ends `cut` and `freeze`. Connections that were frozen are broken, as a network that comes back does. */
  open(): void;
  /**
   * From now on at most so many bytes a second go from clients to the far end, all connections together and by turns,
   * as over a slow uplink with fair queueing; what does not get through waits with the sender.
   */
  slow(upBytesPerSecond: number): void;
  /** Called with each chunk from a client before it is passed on. */
  onUp: ((chunk: Buffer) => void) | undefined;
}

export async function startTcpProxy(options: TcpProxyOptions): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  let uplink: Uplink | undefined;
  let state: 'open' | 'cut' | 'frozen' = 'open';
  let accepted = 0;
  let bytesUp = 0;
  let bytesDown = 0;
  const breakAll = () => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  const server = createServer((near) => {
    accepted++;
    if (state === 'cut') {
      near.resetAndDestroy();
      return;
    }
    const far = connect(options.port, options.host ?? '127.0.0.1');
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        if (state !== 'frozen') to.destroy();
      });
      from.on('end', () => {
        if (state !== 'frozen') to.end();
      });
      from.on('data', (chunk: Buffer) => {
        if (state === 'frozen') return;
        if (from === near) {
          bytesUp += chunk.length;
          proxy.onUp?.(chunk);
        } else bytesDown += chunk.length;
        if (state === 'open' && uplink && from === near) {
          from.pause();
          uplink.send(to, chunk, () => from.resume());
        } else if (state === 'open' && !to.write(chunk)) {
          from.pause();
          to.once('drain', () => from.resume());
        }
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const proxy: TcpProxy = {
    port,
    get accepted() {
      return accepted;
    },
    get bytesUp() {
      return bytesUp;
    },
    get bytesDown() {
      return bytesDown;
    },
    cut() {
      state = 'cut';
      breakAll();
    },
    freeze() {
      state = 'frozen';
    },
    open() {
      if (state === 'frozen') breakAll();
      state = 'open';
    },
    slow(upBytesPerSecond) {
      // What waits already goes on at the new rate: a chunk less would break its connection.
      uplink ??= new Uplink();
      uplink.pace(upBytesPerSecond);
    },
    onUp: undefined,
    async [Symbol.asyncDispose]() {
      uplink?.end();
      breakAll();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
  return proxy;
}

const tickMs = 10;
const packetBytes = 1400;

/** A wire of a fixed rate. Each connection has one chunk waiting at most, and one packet of each leaves in turn. */
class Uplink {
  readonly #waiting: { to: Socket; chunk: Buffer; done: () => void }[] = [];
  readonly #timer = setInterval(() => this.#tick(), tickMs);
  #bytesPerTick = 0;
  #allowance = 0;

  pace(bytesPerSecond: number): void {
    this.#bytesPerTick = (bytesPerSecond * tickMs) / 1000;
  }

  send(to: Socket, chunk: Buffer, done: () => void): void {
    this.#waiting.push({ to, chunk, done });
  }

  end(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const bytes = this.#bytesPerTick;
    this.#allowance = Math.min(this.#allowance + bytes, 10 * bytes);
    while (this.#allowance > 0) {
      const next = this.#waiting.shift();
      if (!next) return;
      const packet = next.chunk.subarray(0, packetBytes);
      this.#allowance -= packet.length;
      if (!next.to.destroyed) next.to.write(packet);
      if (packet.length === next.chunk.length || next.to.destroyed) next.done();
      else this.#waiting.push({ ...next, chunk: next.chunk.subarray(packetBytes) });
    }
  }
}
