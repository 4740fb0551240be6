import { createServer } from 'node:net';

/*
 * Ports that the kernel hands out (`listen(0)`) come back: two calls can be given the same one, and an outgoing
 * connection can take it before the program under test does. These lie below that range, and each test process
 * walks its own stretch of it, so none is given twice.
 */
const first = 12_000;
const count = 20_000;
const perProcess = 100;

let next = (process.pid * perProcess) % count;

/** A TCP port on loopback that was free a moment ago and that this process has not been given before. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < count; tries += 1) {
    const port = first + next;
    next = (next + 1) % count;
    if (await isFree(port)) return port;
  }
  throw new Error(`no port between ${first} and ${first + count} is free`);
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const listening = await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => resolve(true));
  });
  if (listening) await new Promise<void>((resolve) => server.close(() => resolve()));
  return listening;
}
