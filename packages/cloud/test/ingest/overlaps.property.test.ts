import { encodeHeader, encodeLine, limits, type Overlap } from '@millrace/wire';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { Ingest } from '../../src/ingest/index.ts';
import { silent } from '../store/open-stores.ts';
import { type Fault, FaultyStore } from './faulty-store.ts';

/*
 * A device whose disk lies, rots and fails, so that it reads its source again and again under other journal ids;
 * and a cloud that gets what was sent in any order, some of it late, some never, and fails as well. Whatever the
 * device still has in the end is sent in the end. Then every line that was written is stored once.
 */

interface DeviceJournal {
  id: string;
  /** Lines by seq - 1. */
  lines: string[];
  /** How many of them the source was read for, and so where it is read from after seq i: `positions[i]`. */
  positions: number[];
  overlaps: Overlap[];
  /** Seqs up to here are still on the device. */
  kept: number;
}

/** What a device does; its source is read as far as it was written each time. */
class Device {
  /** Each line of the source, as it goes onto the wire. */
  readonly source: string[] = [];
  readonly own: string[] = [];
  readonly journals: DeviceJournal[] = [];
  #current: DeviceJournal;
  #ms = 1;
  #position = 0;

  constructor() {
    this.#current = this.#begin([]);
  }

  write(count: number): void {
    for (let i = 0; i < count; i++) {
      // Two neighbours are written in one millisecond with the same text, and so cannot be told apart.
      if (i % 2 === 0) this.#ms++;
      this.source.push(encodeLine({ message: 'tick', timestamp: this.#ms, containerId: 'c1' }));
    }
    this.#read();
  }

  say(): void {
    const source = { type: 'manager', name: 'agent' } as const;
    this.own.push(encodeLine({ message: 'own', timestamp: this.#ms, source }));
    this.#append(this.own.at(-1) as string);
  }

  /** The last lines are gone from the disk, though they may have been sent. */
  damage(lost: number): void {
    const damaged = this.#current;
    damaged.kept = Math.max(0, damaged.kept - lost);
    this.#position =
      damaged.kept > 0 ? (damaged.positions[damaged.kept - 1] as number) : this.#startOf(damaged);
    this.#current = this.#begin([[damaged.id, damaged.kept + 1], ...damaged.overlaps]);
    this.#ms++;
    this.#read();
  }

  /** The disk fails; lines go on in memory, until it can be written again or the process dies. */
  outage(count: number, dies: boolean): void {
    const onDisk = this.#current;
    const position = this.#position;
    this.#current = this.#begin([[onDisk.id, onDisk.lines.length + 1], ...onDisk.overlaps]);
    this.write(count);
    if (!dies) return;
    this.#current.kept = 0;
    this.#current = onDisk;
    this.#position = position;
    this.#ms++;
    this.#read();
  }

  #begin(overlaps: Overlap[]): DeviceJournal {
    const journal = {
      id: `journal${String(this.journals.length).padStart(2, '0')}`,
      lines: [],
      positions: [],
      overlaps: overlaps.slice(0, limits.maxOverlaps),
      kept: 0,
    };
    this.journals.push(journal);
    this.#starts.set(journal.id, this.#position);
    return journal;
  }

  readonly #starts = new Map<string, number>();

  #startOf({ id }: DeviceJournal): number {
    return this.#starts.get(id) ?? 0;
  }

  #read(): void {
    while (this.#position < this.source.length) {
      this.#position++;
      this.#append(this.source[this.#position - 1] as string);
    }
  }

  #append(line: string): void {
    this.#current.lines.push(line);
    this.#current.positions.push(this.#position);
    this.#current.kept = this.#current.lines.length;
  }
}

const few = fc.integer({ min: 1, max: 9 });
const deviceSteps = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.record({ do: fc.constant('write' as const), count: few }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('say' as const) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('damage' as const), lost: fc.nat(12) }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant('outage' as const), count: few, dies: fc.boolean() }),
    },
  ),
  { minLength: 2, maxLength: 8 },
);

const cloudSteps = fc.array(
  fc.oneof(
    {
      weight: 12,
      arbitrary: fc.record({
        do: fc.constant('send' as const),
        journal: fc.nat(100),
        from: fc.nat(100),
        count: fc.integer({ min: 1, max: 12 }),
        stream: fc.nat(2),
      }),
    },
    { weight: 2, arbitrary: fc.constant({ do: 'settle' as const }) },
    { weight: 1, arbitrary: fc.constant({ do: 'crash' as const }) },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant('fault' as const),
        fault: fc.constantFrom<Fault>('before', 'after', 'half'),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant('note fault' as const),
        fault: fc.constantFrom('before' as const, 'after' as const),
      }),
    },
    { weight: 1, arbitrary: fc.constant({ do: 'failing read' as const }) },
  ),
  { maxLength: 30 },
);

function batch({ id, lines, overlaps }: DeviceJournal, from: number, to: number): Buffer {
  const some = lines.slice(from - 1, to);
  const header = encodeHeader({
    journal: id,
    first: from,
    count: some.length,
    levels: [0, some.length, 0, 0],
    sealed: 1,
    overlaps: overlaps.length > 0 ? overlaps : undefined,
  });
  return Buffer.from(`${header}${some.join('\n')}\n`);
}

class Cloud {
  readonly store = new FaultyStore();
  #ingest!: Ingest;
  #kill!: () => void;
  #waiting: Promise<unknown>[] = [];

  constructor() {
    this.#start();
  }

  #start(): void {
    const { store, kill } = this.store.connect();
    this.#kill = kill;
    this.#ingest = new Ingest({
      store,
      log: silent,
      limits: {
        lingerMs: 0,
        retryMinMs: 0,
        retryMaxMs: 1,
        maxFlightBytes: 600,
        maxLedgers: 3,
        closeTimeoutMs: 0,
      },
    });
  }

  send(bytes: Buffer): void {
    const stream = this.#ingest.openStream('dev', { via: 'http' });
    this.#waiting.push(
      stream
        .write(bytes)
        .then(() => stream.end())
        .catch(() => undefined),
    );
  }

  async settle(): Promise<void> {
    await Promise.all(this.#waiting.splice(0));
    await until(() => this.#ingest.stats().waitingBytes === 0, { what: 'everything to be committed' });
  }

  async crash(): Promise<void> {
    this.#kill();
    await this.#ingest.close();
    this.#waiting = [];
    this.#start();
  }

  async end(): Promise<void> {
    await this.#ingest.close();
  }
}

test('no line is stored twice or lost, however often sources are read again under new journal ids', async () => {
  await fc.assert(
    fc.asyncProperty(deviceSteps, cloudSteps, async (life, steps) => {
      const device = new Device();
      device.write(3);
      for (const step of life) {
        if (step.do === 'write') device.write(step.count);
        else if (step.do === 'say') device.say();
        else if (step.do === 'damage') device.damage(step.lost);
        else device.outage(step.count, step.dies);
      }
      const cloud = new Cloud();
      for (const step of steps) {
        if (step.do === 'settle') await cloud.settle();
        else if (step.do === 'crash') await cloud.crash();
        else if (step.do === 'fault') cloud.store.faults.push(step.fault);
        else if (step.do === 'note fault') cloud.store.noteFaults.push(step.fault);
        else if (step.do === 'failing read') cloud.store.failingReads++;
        else {
          const journal = device.journals[step.journal % device.journals.length] as DeviceJournal;
          if (journal.lines.length === 0) continue;
          const from = 1 + (step.from % journal.lines.length);
          cloud.send(batch(journal, from, Math.min(from + step.count - 1, journal.lines.length)));
        }
      }
      await cloud.settle();
      const sentOwn = cloud.store.rows.filter(({ line }) => line.includes('own')).length;
      for (const journal of device.journals) {
        if (journal.kept > 0) cloud.send(batch(journal, 1, journal.kept));
      }
      await cloud.settle();
      const ticks = cloud.store.rows.map(({ line }) => line).filter((line) => line.includes('tick'));
      expect(ticks.sort()).toEqual([...device.source].sort());
      const own = cloud.store.rows.length - ticks.length;
      expect(own).toBeLessThanOrEqual(device.own.length);
      expect(own).toBeGreaterThanOrEqual(sentOwn);
      // Everything that was received counts as received.
      for (const { id, kept } of device.journals) {
        const { max, holes } = cloud.store.watermark('dev', id);
        expect(max).toBeGreaterThanOrEqual(kept);
        expect(holes.filter(({ from }) => from <= kept)).toEqual([]);
      }
      await cloud.end();
    }),
    { numRuns: 400 },
  );
});
