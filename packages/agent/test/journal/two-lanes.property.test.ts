import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Journal } from '../../src/journal/journal.ts';
import type { Feed, FeedBatch, FreshLane } from '../../src/logging/types.ts';
import { CrashDisk } from './crash-disk.ts';

/** More than a cursor takes for far behind. */
const farBehind = 2000;

/** One source of numbered lines, and a far end that is reached by two lanes. */
class World {
  readonly disk = new CrashDisk();
  readonly farEnd = new Map<string, string>();
  readonly conflicts: string[] = [];
  readonly late: string[] = [];
  printed = 0;
  joined = 0;
  journal!: Journal;
  cursor!: Feed;
  lane: FreshLane | undefined;
  /** Handed out and not confirmed, by lane. */
  #underWay: [Feed, FeedBatch][] = [];
  #taken = 0;

  start(): void {
    this.journal = new Journal({ disk: this.disk, maxFileBytes: 40_000, syncIntervalMs: 1 });
    this.cursor = this.journal.cursor('far');
    this.lane = undefined;
    this.#underWay = [];
    this.#taken = (this.journal.position('source') as number | undefined) ?? 0;
    this.print(0);
  }

  print(count: number): void {
    this.printed += count;
    for (let n = this.#taken + 1; n <= this.printed; n++) {
      this.journal.append({ message: `line ${n}`, timestamp: n }, { key: 'source', value: n });
    }
    this.#taken = this.printed;
  }

  openLane(): void {
    this.lane ??= this.cursor.fresh?.();
  }

  /** What a connection that breaks does. */
  reconnect(): void {
    this.lane?.[Symbol.dispose]();
    this.lane = undefined;
    this.#underWay = [];
    this.cursor.rewind();
  }

  /** Hands up to `most` batches of a feed to the far end. Returns how many there were. */
  async send(feed: Feed | undefined, most = Number.POSITIVE_INFINITY): Promise<number> {
    for (let sent = 0; ; sent++) {
      const batch = sent < most ? await feed?.next(AbortSignal.timeout(2)) : undefined;
      if (!batch || !feed) return sent;
      for (const line of batch.messages()) {
        const key = `${batch.header.journal}/${line.seq}`;
        const known = this.farEnd.get(key);
        if (known !== undefined && known !== line.message) this.conflicts.push(`${key}: ${known}`);
        this.farEnd.set(key, line.message);
      }
      this.#underWay.push([feed, batch]);
    }
  }

  /** Confirms what is under way, the oldest `most` of each lane. */
  confirm(most = Number.POSITIVE_INFINITY): void {
    for (const lane of [this.lane, this.cursor]) {
      const sent = this.#underWay.filter(([feed]) => feed === lane).slice(0, most);
      for (const [feed, { header, lastSeq }] of sent) feed.ack(header.journal, lastSeq);
      this.#underWay = this.#underWay.filter((parcel) => !sent.includes(parcel));
    }
    const drained = !this.#underWay.some(([feed]) => feed === this.lane);
    if (this.lane?.joined.aborted && drained) {
      this.joined++;
      this.lane[Symbol.dispose]();
      this.lane = undefined;
    }
  }

  /** A line that is printed while the lane is open is the next thing that it gives, whatever lies before. */
  async expectFreshFirst(): Promise<void> {
    if (!this.lane || this.lane.joined.aborted) return;
    await this.journal.flush();
    await this.send(this.lane);
    this.print(1);
    await this.journal.flush();
    const batch = await this.lane.next(AbortSignal.timeout(1000));
    const [first, ...more] = batch?.messages().map(({ message }) => message) ?? [];
    if (first !== `line ${this.printed}` || more.length > 0)
      this.late.push(`${first} for line ${this.printed}`);
    this.lane.rewind();
    this.#underWay = this.#underWay.filter(([feed]) => feed !== this.lane);
  }
}

const few = fc.integer({ min: 1, max: 4 });
const step = fc.oneof(
  fc.record({ do: fc.constant('print' as const), count: fc.integer({ min: 1, max: 60 }) }),
  fc.record({
    do: fc.constant('backlog' as const),
    count: fc.integer({ min: farBehind, max: farBehind + 900 }),
  }),
  fc.record({ do: fc.constant('open lane' as const) }),
  fc.record({ do: fc.constant('send' as const), backlog: few, fresh: few }),
  fc.record({ do: fc.constant('confirm' as const), most: few }),
  fc.record({ do: fc.constant('fresh line' as const) }),
  fc.record({ do: fc.constant('reconnect' as const) }),
  fc.record({ do: fc.constant('restart' as const) }),
  fc.record({ do: fc.constant('kill' as const) }),
  fc.record({
    do: fc.constant('power cut' as const),
    keep: fc.oneof(fc.constant(1), fc.double({ min: 0, max: 1, noNaN: true })),
    spoil: fc.boolean(),
  }),
);

test('no loss and no duplicates in two lanes: every line reaches the far end, fresh ones first, whatever was cut off when', async () => {
  let lanes = 0;
  let joined = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30 }), async (steps) => {
      const world = new World();
      world.start();
      for (const action of steps) {
        if (action.do === 'print' || action.do === 'backlog') {
          world.print(action.count);
          if (action.do === 'backlog') await world.journal.flush();
        } else if (action.do === 'open lane') {
          world.openLane();
          if (world.lane) lanes++;
        } else if (action.do === 'send') {
          await world.send(world.lane, action.fresh);
          await world.send(world.cursor, action.backlog);
        } else if (action.do === 'confirm') {
          world.confirm(action.most);
        } else if (action.do === 'fresh line') await world.expectFreshFirst();
        else if (action.do === 'reconnect') world.reconnect();
        else if (action.do === 'restart') {
          await world.journal.close();
          world.start();
        } else {
          world.disk.off = true;
          await world.journal.abandon();
          if (action.do === 'kill') world.disk.powerCycle(1, false);
          else world.disk.powerCycle(action.keep, action.spoil);
          world.start();
        }
      }
      await world.journal.flush();
      // The connection holds, and the backlog drains while the lane is open, until there is only one lane again.
      for (let idle = 0; idle < 3; ) {
        world.openLane();
        const sent = (await world.send(world.lane)) + (await world.send(world.cursor));
        world.confirm();
        idle = sent === 0 ? idle + 1 : 0;
      }
      joined += world.joined;
      expect(world.lane).toBeUndefined();
      expect(world.cursor.lag().lines).toBe(0);
      await world.journal.close();

      expect(world.conflicts).toEqual([]);
      expect(world.late).toEqual([]);
      const stored = [...world.farEnd.values()].sort();
      expect(stored).toEqual(Array.from({ length: world.printed }, (_, i) => `line ${i + 1}`).sort());
    }),
    { numRuns: 100, interruptAfterTimeLimit: 40_000 },
  );
  // The steps do reach what this is about.
  expect(lanes).toBeGreaterThan(10);
  expect(joined).toBeGreaterThan(10);
}, 60_000);
