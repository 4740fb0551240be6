import fc from 'fast-check';
import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { type InboundStream, Ingest } from '../../src/ingest/index.ts';
import { silent } from '../store/open-stores.ts';
import { batch, upTo } from './batches.ts';
import { type Fault, FaultyStore } from './faulty-store.ts';

/*
 * Whatever devices send, in whatever order, over however many connections, and however the store and the process
 * fail: what was acknowledged is stored, nothing is stored twice, and once everything was sent again it is all there.
 */

const devices = ['dev-a', 'dev-b'];
const journals = ['journal01', 'journal02'];
const lines = 40;

type Step =
  | { do: 'send'; stream: number; journal: number; from: number; count: number; chunk: number }
  | { do: 'message'; device: number; journal: number; from: number; count: number }
  | { do: 'fault'; fault: Fault }
  | { do: 'failing reads'; count: number }
  | { do: 'settle' }
  | { do: 'reconnect'; stream: number }
  | { do: 'crash' };

const from = fc.integer({ min: 1, max: lines });
const count = fc.integer({ min: 1, max: 12 });
const journal = fc.nat({ max: journals.length - 1 });
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        do: fc.constant('send' as const),
        stream: fc.nat({ max: 3 }),
        journal,
        from,
        count,
        chunk: fc.integer({ min: 5, max: 3000 }),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant('message' as const),
        device: fc.nat({ max: 1 }),
        journal,
        from,
        count,
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        do: fc.constant('fault' as const),
        fault: fc.constantFrom<Fault>('before', 'after', 'half', 'refuse'),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant('failing reads' as const),
        count: fc.integer({ min: 1, max: 3 }),
      }),
    },
    { weight: 2, arbitrary: fc.constant({ do: 'settle' as const }) },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant('reconnect' as const), stream: fc.nat({ max: 3 }) }),
    },
    { weight: 1, arbitrary: fc.constant({ do: 'crash' as const }) },
  ),
  { minLength: 1, maxLength: 40 },
);

class World {
  readonly store = new FaultyStore();
  #ingest!: Ingest;
  #kill!: () => void;
  #streams: (InboundStream | undefined)[] = [];
  /** What each stream was sent, by journal: an acknowledgement must be covered by it. */
  #sent: Map<string, Set<number>>[] = [];
  readonly wrong: string[] = [];
  #waiting: Promise<unknown>[] = [];

  constructor() {
    this.start();
  }

  start(): void {
    const { store, kill } = this.store.connect();
    this.#kill = kill;
    this.#ingest = new Ingest({
      store,
      log: silent,
      limits: {
        lingerMs: 0,
        retryMinMs: 0,
        retryMaxMs: 1,
        maxFlightBytes: 3000,
        maxLedgers: 2,
        closeTimeoutMs: 0,
      },
    });
    this.#streams = [];
    this.#sent = [];
  }

  stream(index: number): InboundStream {
    const open = this.#streams[index];
    if (open) return open;
    const device = devices[index % 2] as string;
    const sent = new Map<string, Set<number>>();
    const stream = this.#ingest.openStream(device, {
      via: 'http',
      onAck: ({ journal: name, through }) => {
        // Everything that this stream sent up to there must be in the store by now.
        const stored = new Set(this.store.seqs(device, name));
        for (const seq of sent.get(name) ?? []) {
          if (seq <= through && !stored.has(seq))
            this.wrong.push(`acknowledged ${device} ${name} ${seq} too early`);
        }
      },
    });
    this.#streams[index] = stream;
    this.#sent[index] = sent;
    return stream;
  }

  send(index: number, name: string, first: number, last: number, chunk: number): void {
    const stream = this.stream(index);
    const bytes = batch(name, first, last);
    // Known as sent when its last byte is written; an earlier acknowledgement of an earlier batch is no business of it.
    for (let at = 0; at < bytes.length; at += chunk) this.#wait(stream.write(bytes.subarray(at, at + chunk)));
    const sent = this.#sent[index]?.get(name) ?? new Set();
    this.#sent[index]?.set(name, sent);
    this.#wait(
      stream.write(new Uint8Array()).then(() => {
        for (let seq = first; seq <= last; seq++) sent.add(seq);
      }),
    );
  }

  message(device: string, name: string, first: number, last: number): void {
    this.#wait(
      this.#ingest.acceptPayload(device, batch(name, first, last)).then(({ acks }) => {
        const stored = new Set(this.store.seqs(device, name));
        for (let seq = first; seq <= last; seq++) {
          if (!stored.has(seq)) this.wrong.push(`accepted ${device} ${name} ${seq} before it was stored`);
        }
        for (const ack of acks) if (!stored.has(ack.through)) this.wrong.push(`acknowledged ${ack.through}`);
      }),
    );
  }

  #wait(promise: Promise<unknown>): void {
    // After a crash nothing settles well, and nobody is there to care.
    this.#waiting.push(promise.catch(() => undefined));
  }

  reconnect(index: number): void {
    this.#streams[index]?.abort();
    this.#streams[index] = undefined;
  }

  async settle(): Promise<void> {
    await Promise.all(this.#waiting.splice(0));
    await until(() => this.#ingest.stats().waitingBytes === 0, { what: 'everything to be committed' });
  }

  async crash(): Promise<void> {
    this.#kill();
    await this.#ingest.close();
    this.#waiting = [];
    this.start();
  }

  async end(): Promise<void> {
    await this.#ingest.close();
  }
}

test('lines are stored exactly once, whatever happens', async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (todo) => {
      const world = new World();
      for (const step of todo) {
        const last = 'from' in step ? Math.min(step.from + step.count - 1, lines) : 0;
        if (step.do === 'send') {
          world.send(step.stream, journals[step.journal] as string, step.from, last, step.chunk);
        } else if (step.do === 'message') {
          world.message(devices[step.device] as string, journals[step.journal] as string, step.from, last);
        } else if (step.do === 'fault') world.store.faults.push(step.fault);
        else if (step.do === 'failing reads') world.store.failingReads += step.count;
        else if (step.do === 'settle') await world.settle();
        else if (step.do === 'reconnect') world.reconnect(step.stream);
        else await world.crash();
      }
      // In the end every sender sends everything again.
      await world.settle();
      for (const [index] of devices.entries()) {
        world.reconnect(index);
        for (const name of journals) world.send(index, name, 1, lines, 700);
      }
      await world.settle();
      expect(world.wrong).toEqual([]);
      for (const device of devices) {
        for (const name of journals) expect(world.store.seqs(device, name)).toEqual(upTo(lines));
      }
      // Each line is the one that was sent under its seq, unless the store was told to refuse it in every form.
      for (const { seq, line } of world.store.rows) {
        expect(line.includes(`line ${seq}`) || line.includes('the log store refused')).toBe(true);
      }
      await world.end();
    }),
    { numRuns: 150 },
  );
});
