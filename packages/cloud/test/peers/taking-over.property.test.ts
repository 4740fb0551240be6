import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Claim, Ingest } from '../../src/ingest/index.ts';
import { elsewhere } from '../../src/ingest/ledger-book.ts';
import { slotOf } from '../../src/peers/share.ts';
import { batch, upTo } from '../ingest/batches.ts';
import { type ConnectedProcess, type Fault, FaultyStore } from '../ingest/faulty-store.ts';
import { silent } from '../store/open-stores.ts';

/*
 * Several processes on one store. Devices change hands at any moment: the process that had them may have died, may
 * sleep with lines that it is about to store, or may not have heard of it yet. What was acknowledged by whomever is
 * stored, and nothing is stored twice.
 */

const devices = ['dev-a', 'dev-b'];
const journal = 'journal01';
const lines = 40;
const processCount = 3;

type Step =
  /** Without a process: to the one that has the device. */
  | {
      do: 'send';
      process: number | null;
      device: number;
      from: number;
      count: number;
      by: 'stream' | 'message';
    }
  | { do: 'take over'; process: number; device: number; tells: boolean }
  | { do: 'sleep' | 'wake' | 'crash'; process: number }
  | { do: 'fault'; fault: Fault }
  /** Inserts that run go on for long. */
  | { do: 'stall' | 'flow' }
  /** Things take their course for a while. */
  | { do: 'pass' }
  | { do: 'settle' };

const process = fc.nat({ max: processCount - 1 });
const device = fc.nat({ max: devices.length - 1 });
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        do: fc.constant('send' as const),
        process: fc.option(process, { freq: 1 }),
        device,
        from: fc.integer({ min: 1, max: lines }),
        count: fc.integer({ min: 1, max: 12 }),
        by: fc.constantFrom('stream' as const, 'message' as const),
      }),
    },
    {
      weight: 5,
      arbitrary: fc.record({ do: fc.constant('take over' as const), process, device, tells: fc.boolean() }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constantFrom('sleep' as const, 'wake' as const, 'crash' as const),
        process,
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant('fault' as const),
        fault: fc.constantFrom<Fault>('before', 'after', 'half'),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constantFrom('stall' as const, 'flow' as const) }),
    },
    { weight: 6, arbitrary: fc.constant({ do: 'pass' as const }) },
    { weight: 1, arbitrary: fc.constant({ do: 'settle' as const }) },
  ),
  { minLength: 1, maxLength: 40 },
);

const send = { do: 'send', process: null, device: 0, from: 1, count: 10, by: 'stream' } as const;

/** The one that had the device is being stored from when another takes it over, and gets the same lines. */
const duringAnInsert: Step[] = [
  { do: 'stall' },
  send,
  { do: 'pass' },
  { do: 'take over', process: 1, device: 0, tells: false },
  { do: 'pass' },
  { ...send, process: 1 },
  { do: 'pass' },
  { do: 'flow' },
];

/** A process, with the claims that it believes to have. */
class Process {
  readonly ingest: Ingest;
  readonly connected: ConnectedProcess;
  readonly claims = new Map<number, Promise<Claim>>();
  wake: () => void = () => undefined;

  constructor(store: FaultyStore) {
    this.connected = store.connect();
    this.ingest = new Ingest({
      store: this.connected.store,
      log: silent,
      claims: {
        of: async (name) => {
          const claim = await this.claims.get(slotOf(name));
          if (claim?.state !== 'held') throw elsewhere(name);
          return claim;
        },
      },
      limits: {
        lingerMs: 0,
        retryMinMs: 0,
        retryMaxMs: 1,
        maxFlightBytes: 3000,
        maxLedgers: 2,
        closeTimeoutMs: 0,
      },
    });
  }

  sleep(): void {
    this.wake();
    this.connected.awake = new Promise((resolve) => {
      this.wake = resolve;
    });
  }
}

class World {
  readonly store = new FaultyStore();
  readonly wrong: string[] = [];
  readonly #processes = Array.from({ length: processCount }, () => new Process(this.store));
  readonly #owner = new Map<number, Process>();
  #epoch = 0;
  #flow: () => void = () => undefined;
  #waiting: Promise<unknown>[] = [];

  process(index: number): Process {
    return this.#processes[index] as Process;
  }

  ownerOf(name: string): number {
    const owner = this.#owner.get(slotOf(name));
    return owner ? this.#processes.indexOf(owner) : 0;
  }

  takeOver(index: number, name: string, tells: boolean): void {
    const slot = slotOf(name);
    const epoch = ++this.#epoch;
    const before = this.#owner.get(slot);
    const next = this.process(index);
    this.#owner.set(slot, next);
    const own = before?.claims.get(slot);
    if (tells) {
      before?.claims.delete(slot);
      void own?.then((claim) => claim.lose());
    }
    // Of its own claims a process knows which is the later, whatever it was not told of in between.
    void next.claims.get(slot)?.then((claim) => claim.lose());
    next.claims.set(
      slot,
      this.store.fence(slot, epoch).then(() => new Claim(slot, epoch)),
    );
  }

  send(index: number, name: string, first: number, last: number, by: 'stream' | 'message'): void {
    const { ingest } = this.process(index);
    const bytes = batch(journal, first, last);
    const check = (through: number, said: string) => {
      const stored = new Set(this.store.seqs(name, journal));
      for (let seq = first; seq <= Math.min(last, through); seq++) {
        if (!stored.has(seq)) this.wrong.push(`${said} ${name} ${seq} and it is not stored`);
      }
    };
    if (by === 'message') {
      this.#wait(ingest.acceptPayload(name, bytes).then(() => check(last, 'accepted')));
      return;
    }
    const stream = ingest.openStream(name, {
      via: 'http',
      onAck: ({ through }) => check(through, 'acknowledged'),
    });
    this.#wait(stream.write(bytes).finally(() => stream.end()));
  }

  #wait(promise: Promise<unknown>): void {
    // Whom it belongs to may have changed meanwhile: then it is refused, and the device sends it again.
    this.#waiting.push(promise.catch(() => undefined));
  }

  async crash(index: number): Promise<void> {
    const { connected, ingest, wake } = this.process(index);
    connected.kill();
    wake();
    await ingest.close();
    for (const [slot, owner] of this.#owner) if (owner === this.process(index)) this.#owner.delete(slot);
    this.#processes[index] = new Process(this.store);
  }

  stall(): void {
    this.#flow();
    this.store.gate = new Promise((resolve) => {
      this.#flow = resolve;
    });
  }

  flow(): void {
    this.#flow();
  }

  /** Whatever was admitted anywhere is stored, or somebody is at it. */
  get isUnderWay(): boolean {
    return this.#processes.every(
      ({ ingest, connected }) => ingest.stats().waitingBytes === 0 || connected.appending > 0,
    );
  }

  async settle(): Promise<void> {
    this.#flow();
    for (const { wake } of this.#processes) wake();
    await Promise.all(this.#waiting.splice(0));
  }

  async end(): Promise<void> {
    for (const { ingest } of this.#processes) await ingest.close();
  }
}

async function someTicks(world: World): Promise<void> {
  const ticks = async () => {
    for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve));
  };
  await ticks();
  // Flights leave with timers.
  while (!world.isUnderWay) await ticks();
  await ticks();
}

test('lines are stored exactly once, whoever takes whose devices over, and when', async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (todo) => {
      const world = new World();
      for (const name of devices) world.takeOver(0, name, true);
      for (const step of todo) {
        if (step.do === 'send') {
          const last = Math.min(step.from + step.count - 1, lines);
          const name = devices[step.device] as string;
          world.send(step.process ?? world.ownerOf(name), name, step.from, last, step.by);
        } else if (step.do === 'take over') {
          world.takeOver(step.process, devices[step.device] as string, step.tells);
        } else if (step.do === 'sleep') world.process(step.process).sleep();
        else if (step.do === 'wake') world.process(step.process).wake();
        else if (step.do === 'crash') await world.crash(step.process);
        else if (step.do === 'stall') world.stall();
        else if (step.do === 'flow') world.flow();
        else if (step.do === 'pass') await someTicks(world);
        else if (step.do === 'fault') world.store.faults.push(step.fault);
        else await world.settle();
      }
      await world.settle();
      world.store.faults = [];
      for (const name of devices) {
        world.takeOver(1, name, false);
        world.send(1, name, 1, lines, 'stream');
      }
      await world.settle();
      expect(world.wrong).toEqual([]);
      for (const name of devices) expect(world.store.seqs(name, journal)).toEqual(upTo(lines));
      await world.end();
    }),
    { numRuns: 200, examples: [[duringAnInsert]] },
  );
});
