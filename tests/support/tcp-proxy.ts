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
  /** Breaks every connection and refuses new ones until `open()`. */
  cut(): void;
  /** Passes nothing on any more, in either direction, and tells nobody: a half-open connection. */
  freeze(): void;
  /** Ends `cut` and `freeze`. Connections that were frozen are broken, as a network that comes back does. */
  open(): void;
  /** Called with each chunk from a client before it is passed on. */
  onUp: ((chunk: Buffer) => void) | undefined;
}

export async function startTcpProxy(options: TcpProxyOptions): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  let state: 'open' | 'cut' | 'frozen' = 'open';
  let accepted = 0;
  let bytesUp = 0;
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
        }
        if (state === 'open' && !to.write(chunk)) {
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
    onUp: undefined,
    async [Symbol.asyncDispose]() {
      breakAll();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
  return proxy;
}
