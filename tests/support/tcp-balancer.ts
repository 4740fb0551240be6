import { connect, createServer, type Socket } from 'node:net';

/** A load balancer for TCP on 127.0.0.1. */
export interface Balancer extends AsyncDisposable {
  readonly port: number;
  /** Breaks every connection, so that each is spread anew; from now on over all ports but those given. */
  shuffle(without?: readonly number[]): void;
}

/** Gives each connection to the next of some ports in turn; where nobody listens, to the one after it. */
export async function startBalancer(ports: readonly number[]): Promise<Balancer> {
  const sockets = new Set<Socket>();
  let turn = 0;
  let left: readonly number[] = ports;
  const track = (socket: Socket, other: Socket) => {
    sockets.add(socket);
    socket.on('error', () => other.destroy());
    socket.on('close', () => {
      sockets.delete(socket);
      other.destroy();
    });
  };
  const reach = (near: Socket, tries: number) => {
    const far = connect({
      host: '127.0.0.1',
      port: left[turn++ % left.length] as number,
      allowHalfOpen: true,
    });
    const refused = () => {
      if (tries > 1 && !near.destroyed) reach(near, tries - 1);
      else near.resetAndDestroy();
    };
    far.once('error', refused);
    far.once('connect', () => {
      far.off('error', refused);
      track(near, far);
      track(far, near);
      near.pipe(far);
      far.pipe(near);
    });
  };
  const server = createServer({ allowHalfOpen: true }, (near) => {
    near.on('error', () => near.destroy());
    reach(near, ports.length);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const breakAll = () => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  return {
    port: (server.address() as { port: number }).port,
    shuffle(without = []) {
      left = ports.filter((port) => !without.includes(port));
      breakAll();
    },
    async [Symbol.asyncDispose]() {
      breakAll();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
