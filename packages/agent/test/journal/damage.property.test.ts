import type { Overlap } from '@millrace/wire';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { Journal } from '../../src/journal/journal.ts';
import type { Feed } from '../../src/logging/types.ts';
import { CrashDisk } from './crash-disk.ts';
import { untold } from './told.ts';

/** Sources of numbered lines, a disk that rots, and a far end that keeps what was handed out and said. */
class World {
  readonly disk = new CrashDisk();
  /** By message the places under which the far end got it, as journal and seq. */
  readonly got = new Map<string, Map<string, number>>();
  readonly named = new Map<string, readonly Overlap[]>();
  readonly wrong: string[] = [];
  readonly printed = new Map<string, number>();
  /** Lines that loss records speak of. */
  counted = 0;
  journal!: Journal;
  cursor!: Feed;
  #taken = new Map<string, number>();

  start(): void {
    this.journal = new Journal({
      disk: this.disk,
      maxFileBytes: 900,
      syncIntervalMs: 1,
      outageGraceMs: 0,
      diskRetryMs: 1,
      recentLines: 20,
    });
    this.cursor = this.journal.cursor('far');
    this.#taken = new Map([...this.journal.positions('')].map(([key, value]) => [key, value as number]));
    for (const name of this.printed.keys()) this.#capture(name);
  }

  print(name: string, count: number): void {
    this.printed.set(name, (this.printed.get(name) ?? 0) + count);
    this.#capture(name);
  }

  #capture(name: string): void {
    const total = this.printed.get(name) ?? 0;
    for (let n = (this.#taken.get(name) ?? 0) + 1; n <= total; n++) {
      this.journal.append({ message: `${name} ${n}`, timestamp: n }, { key: name, value: n });
      this.#taken.set(name, n);
    }
  }

  /** Until nothing is left, records of losses included, which are written when all before them is confirmed. */
  async sendAll(): Promise<void> {
    while (this.cursor.lag().lines > 0) {
      await this.send(true, 1, 5000);
      await this.journal.flush();
    }
  }

  async send(acknowledge: boolean, batches = Number.POSITIVE_INFINITY, idleMs = 3): Promise<void> {
    const idle = AbortSignal.timeout(idleMs);
    for (let i = 0; i < batches; i++) {
      const batch = await this.cursor.next(idle);
      if (!batch) return;
      const { journal, overlaps = [] } = batch.header;
      const before = this.named.get(journal);
      if (before && JSON.stringify(before) !== JSON.stringify(overlaps))
        this.wrong.push(`${journal} changed`);
      this.named.set(journal, overlaps);
      for (const line of batch.messages()) this.#take(line.message, journal, line.seq ?? 0, line.fields);
      if (acknowledge) this.cursor.ack(journal, batch.lastSeq);
    }
  }

  #take(message: string, journal: string, seq: number, fields: Record<string, unknown> = {}): void {
    if (fields.lost !== undefined) {
      this.counted += Number(fields.lost);
      return;
    }
    const places = this.got.get(message) ?? new Map<string, number>();
    this.got.set(message, places);
    const known = places.get(journal);
    if (known !== undefined && known !== seq)
      this.wrong.push(`${message} is ${known} and ${seq} of ${journal}`);
    places.set(journal, seq);
  }

  /** Spoils bytes of a file: of the newest also its end. */
  rot(way: 'flip' | 'zero' | 'cut', file: number, where: number, howMuch: number): void {
    const names = this.disk.list().sort();
    const name = way === 'cut' ? names.at(-1) : names[Math.floor(file * names.length)];
    const found = name === undefined ? undefined : this.disk.files.get(name);
    if (!found || found.data.length < 100) return;
    // The first header is spared: a file of which no header can be read, nobody knows to have had any lines.
    const legibleBytes = 12 + found.data.readUInt16LE(10);
    const at = legibleBytes + Math.floor(where * (found.data.length - legibleBytes));
    const data = Buffer.from(found.data);
    if (way === 'flip') data[at] = (data[at] ?? 0) ^ (1 << Math.floor(howMuch * 8));
    else data.fill(0, at, Math.min(data.length, at + 1 + Math.floor(howMuch * 300)));
    found.data = way === 'cut' ? data.subarray(0, at) : data;
    found.synced = found.data.length;
  }
}

const few = fc.integer({ min: 1, max: 12 });
const fraction = fc.double({ min: 0, max: 0.999, noNaN: true });
const step = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('print' as const),
      name: fc.constantFrom('a', 'b', 'c'),
      count: few,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('send' as const), acknowledge: fc.boolean() }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('rot' as const),
      way: fc.constantFrom('flip' as const, 'zero' as const, 'cut' as const),
      file: fraction,
      where: fraction,
      howMuch: fraction,
      orderly: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('outage' as const),
      count: few,
      sends: fc.nat(3),
      dies: fc.boolean(),
    }),
  },
);

/** What lay at the end of a journal that another one has followed. */
const endOfAnEarlierJournal = [
  { do: 'outage' as const, count: 1, sends: 0, dies: false },
  ...[0.034, 0].map((howMuch) => ({
    ...{ do: 'rot' as const, way: howMuch > 0 ? ('zero' as const) : ('flip' as const) },
    ...{ file: 0, where: 0, howMuch, orderly: false },
  })),
];

test('whatever rots on the disk, a line that is sent under two journal ids was named, and none is lost uncounted', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 14 }), async (steps) => {
      const world = new World();
      world.start();
      // Of a journal that has never been on disk nothing is left to go on with.
      world.print('a', 1);
      await world.journal.flush();
      const die = async () => {
        world.disk.off = true;
        await world.journal.abandon();
        world.disk.powerCycle(1, false);
      };
      for (const action of steps) {
        if (action.do === 'print') {
          world.print(action.name, action.count);
          await world.journal.flush();
        } else if (action.do === 'send') await world.send(action.acknowledge);
        else if (action.do === 'rot') {
          if (action.orderly) await world.journal.close();
          else await die();
          world.rot(action.way, action.file, action.where, action.howMuch);
          world.start();
          await world.journal.flush();
        } else {
          world.disk.failWith = 'ENOSPC';
          world.print('b', action.count);
          await world.journal.flush();
          await world.send(true, action.sends);
          world.print('c', action.count);
          await world.journal.flush();
          if (action.dies) {
            await die();
            world.disk.failWith = undefined;
            world.start();
          } else {
            world.disk.failWith = undefined;
            await until(() => !world.journal.stats().memoryOnly);
          }
          await world.journal.flush();
        }
      }
      await world.journal.flush();
      world.cursor.rewind();
      await world.sendAll();
      await world.journal.close();
      expect(world.wrong).toEqual([]);
      expect(untold(world.got, world.named)).toEqual([]);
      const printed = [...world.printed].flatMap(([name, total]) =>
        Array.from({ length: total }, (_, i) => `${name} ${i + 1}`),
      );
      const missing = printed.filter((line) => !world.got.has(line));
      expect(missing.length, `missing: ${missing}`).toBeLessThanOrEqual(world.counted);
    }),
    { numRuns: 250, interruptAfterTimeLimit: 40_000, examples: [[endOfAnEarlierJournal]] },
  );
});
