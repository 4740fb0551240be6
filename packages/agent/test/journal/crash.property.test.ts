import fc from 'fast-check';
import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { Journal } from '../../src/journal/journal.ts';
import type { Feed } from '../../src/logging/types.ts';
import { CrashDisk } from './crash-disk.ts';

/**
 * A source of numbered lines per container that resumes from its saved position, and a far end that keeps what
 * was handed out, by journal and seq.
 */
class World {
  readonly disk = new CrashDisk();
  /** What the far end has: "journal/seq" → message. */
  readonly farEnd = new Map<string, string>();
  readonly conflicts: string[] = [];
  /** Lines that each container has printed so far, in its own log. */
  readonly printed = new Map<string, number>();
  journal!: Journal;
  cursor!: Feed;
  #taken = new Map<string, number>();

  start(): void {
    this.journal = new Journal({
      disk: this.disk,
      maxFileBytes: 600,
      syncIntervalMs: 1,
      outageGraceMs: 0,
      diskRetryMs: 1,
    });
    this.cursor = this.journal.cursor('far');
    this.#taken = new Map([...this.journal.positions('')].map(([key, value]) => [key, value as number]));
    for (const name of this.printed.keys()) this.capture(name);
  }

  print(name: string, count: number): void {
    this.printed.set(name, (this.printed.get(name) ?? 0) + count);
    this.capture(name);
  }

  /** Reads what the container printed since the last position, as a source does. */
  capture(name: string): void {
    const total = this.printed.get(name) ?? 0;
    for (let n = (this.#taken.get(name) ?? 0) + 1; n <= total; n++) {
      this.journal.append({ message: `${name} ${n}`, timestamp: n }, { key: name, value: n });
      this.#taken.set(name, n);
    }
  }

  async send(acknowledge: boolean): Promise<void> {
    const idle = AbortSignal.timeout(2);
    for (let batch = await this.cursor.next(idle); batch; batch = await this.cursor.next(idle)) {
      for (const line of batch.messages()) {
        const key = `${batch.header.journal}/${line.seq}`;
        const known = this.farEnd.get(key);
        if (known !== undefined && known !== line.message)
          this.conflicts.push(`${key}: ${known} → ${line.message}`);
        this.farEnd.set(key, line.message);
      }
      if (acknowledge) this.cursor.ack(batch.header.journal, batch.header.first + batch.header.count - 1);
    }
  }
}

const step = fc.oneof(
  fc.record({
    do: fc.constant('print' as const),
    name: fc.constantFrom('a', 'b', 'c'),
    count: fc.integer({ min: 1, max: 30 }),
  }),
  fc.record({ do: fc.constant('flush' as const) }),
  fc.record({ do: fc.constant('send' as const), acknowledge: fc.boolean() }),
  fc.record({ do: fc.constant('rewind' as const) }),
  fc.record({ do: fc.constant('kill' as const) }),
  fc.record({ do: fc.constant('restart' as const) }),
  fc.record({
    do: fc.constant('disk full' as const),
    count: fc.integer({ min: 1, max: 20 }),
    sending: fc.boolean(),
  }),
  fc.record({
    do: fc.constant('power cut' as const),
    after: fc.integer({ min: 0, max: 6 }),
    count: fc.integer({ min: 1, max: 20 }),
    keep: fc.oneof(fc.constant(1), fc.double({ min: 0, max: 1, noNaN: true })),
    spoil: fc.boolean(),
  }),
);

test('no loss and no duplicates: every printed line reaches the far end once, whatever was cut off when', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), async (steps) => {
      const world = new World();
      world.start();
      for (const action of steps) {
        if (action.do === 'print') world.print(action.name, action.count);
        else if (action.do === 'flush') await world.journal.flush();
        else if (action.do === 'send') await world.send(action.acknowledge);
        else if (action.do === 'rewind') world.cursor.rewind();
        else if (action.do === 'disk full') {
          world.disk.failWith = 'ENOSPC';
          world.print('b', action.count);
          await world.journal.flush();
          if (action.sending) await world.send(true);
          world.print('c', action.count);
          world.disk.failWith = undefined;
          await until(() => !world.journal.stats().memoryOnly);
        } else if (action.do === 'restart') {
          await world.journal.close();
          world.start();
        } else if (action.do === 'kill') {
          // The process dies; what it wrote stays with the operating system.
          world.disk.off = true;
          await world.journal.abandon();
          world.disk.powerCycle(1, false);
          world.start();
        } else {
          world.disk.operationsLeft = action.after;
          world.print('a', action.count);
          // It sends while it writes, and without power nothing any more.
          const sending = world.send(true);
          await Promise.race([world.journal.flush(), until(() => world.disk.off)]);
          world.disk.off = true;
          await world.journal.abandon();
          await sending;
          world.disk.powerCycle(action.keep, action.spoil);
          world.start();
        }
      }
      await world.journal.flush();
      world.cursor.rewind();
      await world.send(true);
      await world.journal.close();

      expect(world.conflicts).toEqual([]);
      const stored = [...world.farEnd.values()].sort();
      const printed = [...world.printed].flatMap(([name, total]) =>
        Array.from({ length: total }, (_, i) => `${name} ${i + 1}`),
      );
      expect(stored).toEqual(printed.sort());
    }),
    { numRuns: 150, interruptAfterTimeLimit: 40_000 },
  );
});
