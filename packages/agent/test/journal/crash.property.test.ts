import type { Overlap } from '@millrace/wire';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { Journal, type JournalOptions } from '../../src/journal/journal.ts';
import type { Feed } from '../../src/logging/types.ts';
import { CrashDisk } from './crash-disk.ts';
import { untold } from './told.ts';

/**
 * A source of numbered lines per container that resumes from its saved position, and a far end that keeps what
 * was handed out, by journal and seq.
 */
class World {
  readonly disk = new CrashDisk();
  /** What the far end has: "journal/seq" → message. */
  readonly farEnd = new Map<string, string>();
  /** By message where it lies at the far end, and by journal what its headers name. */
  readonly places = new Map<string, Map<string, number>>();
  readonly named = new Map<string, readonly Overlap[]>();
  readonly conflicts: string[] = [];
  /** Lines that each container has printed so far, in its own log. */
  readonly printed = new Map<string, number>();
  /** Lines that loss records at the far end speak of, by their "journal/seq". */
  readonly losses = new Map<string, number>();
  /** Lines may have arrived that the journal does not know, or no longer knows, to be confirmed. */
  unconfirmed = false;
  journal!: Journal;
  cursor!: Feed;
  readonly #options: JournalOptions;
  #taken = new Map<string, number>();
  #droppedWhole = false;
  /**
   * All that was left of a journal id went before a restart. Then nothing on the disk tells any more how many lines it
   * had: they are lost uncounted, unless a reader had passed them.
   */
  forgotId = false;
  readonly #ids = new Set<string>();

  constructor(options: JournalOptions = {}) {
    this.#options = options;
  }

  /** Warnings and errors went, with whole segments: a loss record may have been among them. */
  get droppedWhole(): boolean {
    const [, , warnings, errors] = this.journal.stats().shed;
    this.#droppedWhole ||= warnings + errors > 0;
    return this.#droppedWhole;
  }

  start(): void {
    if (this.journal) void this.droppedWhole;
    this.journal = new Journal({
      ...this.#options,
      disk: this.disk,
      maxFileBytes: 600,
      syncIntervalMs: 1,
      outageGraceMs: 0,
      diskRetryMs: 1,
    });
    const ids = new Set(this.journal.stored().segments.map(({ journal }) => journal));
    for (const id of this.#ids) this.forgotId ||= !ids.has(id);
    for (const id of ids) this.#ids.add(id);
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
      const level = n % 2 === 0 ? 'debug' : n % 9 === 0 ? 'error' : n % 5 === 0 ? 'warn' : 'info';
      this.journal.append({ message: `${name} ${n}`, timestamp: n, level }, { key: name, value: n });
      this.#taken.set(name, n);
    }
  }

  async send(acknowledge: boolean): Promise<void> {
    const idle = AbortSignal.timeout(2);
    for (let batch = await this.cursor.next(idle); batch; batch = await this.cursor.next(idle)) {
      const { journal, overlaps = [] } = batch.header;
      this.named.set(journal, overlaps);
      for (const line of batch.messages()) {
        const key = `${batch.header.journal}/${line.seq}`;
        const known = this.farEnd.get(key);
        if (known !== undefined && known !== line.message)
          this.conflicts.push(`${key}: ${known} → ${line.message}`);
        if (line.source.type === 'manager') this.losses.set(key, Number(line.fields?.lost));
        else {
          this.farEnd.set(key, line.message);
          const places = this.places.get(line.message) ?? new Map<string, number>();
          this.places.set(line.message, places.set(journal, line.seq ?? 0));
        }
      }
      if (acknowledge) this.cursor.ack(batch.header.journal, batch.lastSeq);
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

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

async function play(world: World, steps: readonly Step[]): Promise<void> {
  world.start();
  for (const action of steps) {
    if (action.do === 'print') world.print(action.name, action.count);
    else if (action.do === 'flush') await world.journal.flush();
    else if (action.do === 'send') {
      await world.send(action.acknowledge);
      if (!action.acknowledge) world.unconfirmed = true;
    } else if (action.do === 'rewind') world.cursor.rewind();
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
      world.unconfirmed = true;
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
      world.unconfirmed = true;
      world.start();
    }
  }
  await world.journal.flush();
  world.cursor.rewind();
  for (let round = 0; round === 0 || (world.cursor.lag().lines > 0 && round < 100); round++)
    await world.send(true);
}

function printedBy(world: World): string[] {
  return [...world.printed].flatMap(([name, total]) =>
    Array.from({ length: total }, (_, i) => `${name} ${i + 1}`),
  );
}

test('no loss and no duplicates: every printed line reaches the far end once, whatever was cut off when', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), async (steps) => {
      const world = new World();
      await play(world, steps);
      await world.journal.close();

      expect(world.conflicts).toEqual([]);
      expect([...world.farEnd.values()].sort()).toEqual(printedBy(world).sort());
    }),
    { numRuns: 150, interruptAfterTimeLimit: 40_000 },
  );
});

test('no loss that is not counted: with a journal that is full all the time, every printed line reaches the far end once or is in a loss record', async () => {
  let lost = 0;
  let thinned = 0;
  let exact = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 15, maxLength: 40 }), async (steps) => {
      const world = new World({ maxBytes: 4500, recentLines: 10 });
      // Thinning that fails has a test of its own.
      world.disk.failOnlyFor = '.log.gz';
      await play(world, steps);
      // What is gone at the very end is met once there is something behind it, and its record comes behind that.
      world.print('a', 1);
      for (let round = 0; round < 3 || (world.cursor.lag().lines > 0 && round < 100); round++) {
        await world.journal.flush();
        await world.send(true);
      }
      const { lines } = world.cursor.lag();
      await world.journal.close();
      thinned += world.disk.renames;

      expect(lines).toBe(0);
      expect(world.conflicts).toEqual([]);
      const stored = new Set(world.farEnd.values());
      // What comes twice can be recognised, as packages/cloud/test/ingest/overlaps.property.test.ts does.
      expect(untold(world.places, world.named)).toEqual([]);
      const missing = printedBy(world).filter((line) => !stored.has(line)).length;
      const counted = [...world.losses.values()].reduce((sum, n) => sum + n, 0);
      lost += missing;
      if (world.droppedWhole || world.forgotId) return;
      exact++;
      // What arrived without a confirmation, and was shed before it could be sent again, counts as lost.
      if (world.unconfirmed) expect(counted).toBeGreaterThanOrEqual(missing);
      else expect(counted).toBe(missing);
    }),
    { numRuns: 120, interruptAfterTimeLimit: 40_000 },
  );
  // The steps do reach what this is about.
  expect(lost).toBeGreaterThan(50);
  expect(thinned).toBeGreaterThan(50);
  expect(exact).toBeGreaterThan(5);
});
