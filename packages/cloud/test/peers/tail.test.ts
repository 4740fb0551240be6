import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { followPeers } from '../../src/peers/tail.ts';
import type { PeerRecord } from '../../src/records/peer-table.ts';
import { silent } from '../store/open-stores.ts';

/** A process whose tail says what it is told to. */
class Peer implements AsyncDisposable {
  readonly followers: ServerResponse[] = [];
  readonly #server: Server;

  constructor() {
    this.#server = createServer((_request, response) => {
      response.write(': tail\n\n');
      this.followers.push(response);
    });
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return this;
  }

  get record(): PeerRecord {
    const { port } = this.#server.address() as AddressInfo;
    return { id: String(port), url: `http://127.0.0.1:${port}`, beat: 1, secret: '', division: '' };
  }

  say(message: string): void {
    this.followers.at(-1)?.write(`event: log\nid: 1\ndata: ${JSON.stringify({ message })}\n\n`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

test('a process that comes is followed at once, and whoever comes or goes is a gap', async () => {
  await using first = await new Peer().start();
  await using second = await new Peer().start();
  let peers = [first.record];
  let notice: () => void = () => undefined;
  const happened: string[] = [];
  const gone = new AbortController();
  await followPeers({
    peers: () => peers,
    onPeers: (listener) => {
      notice = listener;
      return { [Symbol.dispose]: () => undefined };
    },
    ...{ address: '/', authorization: '', signal: gone.signal, log: silent },
    onLine: ({ message }) => happened.push(message),
    onSkipped: () => undefined,
    onGap: () => happened.push('gap'),
  });
  first.say('one');
  await until(() => happened.length === 1);
  peers = [first.record, second.record];
  notice();
  await until(() => happened.length === 2);
  second.say('two');
  await until(() => happened.length === 3);
  peers = [first.record];
  second.followers.at(-1)?.destroy();
  await until(() => happened.length === 4);
  expect(happened).toEqual(['one', 'gap', 'two', 'gap']);
  gone.abort();
});

test('a process that falls silent is followed anew', async () => {
  await using peer = await new Peer().start();
  const gone = new AbortController();
  let gaps = 0;
  await followPeers({
    peers: () => [peer.record],
    onPeers: () => ({ [Symbol.dispose]: () => undefined }),
    ...{ address: '/', authorization: '', signal: gone.signal, log: silent, silentMs: 100 },
    onLine: () => undefined,
    onSkipped: () => undefined,
    onGap: () => gaps++,
  });
  await until(() => peer.followers.length === 2 && gaps >= 2, { what: () => `to be followed anew; ${gaps}` });
  gone.abort();
});
