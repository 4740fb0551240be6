import type { IngestStore } from '../../src/ingest/index.ts';
import { contentOf } from '../../src/ingest/line-content.ts';
import { StoreError } from '../../src/store/engine.ts';
import type { JournalSeqs, Watermark } from '../../src/store/marks.ts';
import { type JournalPart, type Repeat, repeatKey, type ToldOverlaps } from '../../src/store/repeats.ts';
import { SeqRanges } from '../../src/store/seq-ranges.ts';

export interface StoredRow {
  device: string;
  journal: string;
  seq: number;
  receivedMs: number;
  line: string;
}

/** How one append goes wrong: not at all, before the commit, after it, or with only some rows committed. */
export type Fault = 'none' | 'before' | 'after' | 'half' | 'refuse';

export interface ConnectedProcess {
  readonly store: IngestStore;
  readonly kill: () => void;
  /** What the process sends to the store from now on waits for this. */
  awake: Promise<void>;
  /** Its appends that are not over, whatever they wait for. */
  appending: number;
}

/**
 * A store in memory that fails as told. Behaves like the real one otherwise: an append is all or nothing unless
 * told to break, and rows that hold the text REFUSE are refused, with whatever is inserted beside them.
 */
export class FaultyStore {
  readonly rows: StoredRow[] = [];
  readonly told: (ToldOverlaps & { device: string })[] = [];
  readonly repeats: (Repeat & { device: string; journal: string })[] = [];
  /** How often it was looked what else was received at the times of some lines. */
  receivedReads = 0;
  /** Faults of the next appends, in order. */
  faults: Fault[] = [];
  /** Number of next reads (all but searches) that fail. */
  failingReads = 0;
  /** Faults of the next notes of overlaps and repeats, in order. */
  noteFaults: ('before' | 'after')[] = [];
  appends = 0;
  /** Appends wait for this. */
  gate: Promise<void> = Promise.resolve();
  /** The newest claim on each slot. */
  readonly claims = new Map<number, number>();
  readonly #running = new Set<Promise<void>>();

  /** As a server does it: known at once to what begins from now on, then waits for what runs. */
  async fence(slot: number, epoch: number): Promise<void> {
    this.claims.set(slot, Math.max(epoch, this.claims.get(slot) ?? 0));
    await Promise.allSettled([...this.#running]);
  }

  /** The store as one process sees it; after `kill` nothing that this process does has any effect. */
  connect(): ConnectedProcess {
    let alive = true;
    const dead = () => new StoreError('this process is gone');
    const read = async <T>(what: () => T): Promise<T> => {
      await new Promise((resolve) => setImmediate(resolve));
      if (!alive) throw dead();
      if (this.failingReads > 0) {
        this.failingReads--;
        throw new StoreError('a read failed');
      }
      return what();
    };
    const note = async (write: () => void) => {
      await new Promise((resolve) => setImmediate(resolve));
      if (!alive) throw dead();
      const fault = this.noteFaults.shift();
      if (fault === 'before') throw new StoreError('failed before the note');
      write();
      if (fault === 'after') throw new StoreError('failed after the note');
    };
    const append = async (bytes: Buffer, rows: number) => {
      this.appends++;
      // The one of this moment: who counts appends and then changes it means the next.
      const { gate } = this;
      const parsed = parseRows(bytes);
      if (parsed.length !== rows) throw new Error(`told ${rows} rows, got ${parsed.length}`);
      await new Promise((resolve) => setImmediate(resolve));
      await gate;
      if (!alive) throw dead();
      const fault = this.faults.shift() ?? 'none';
      if (fault === 'before') throw new StoreError('failed before the commit');
      if (fault === 'refuse' || parsed.some((row) => row.line.includes('REFUSE'))) {
        throw new StoreError('rows refused', { engineCode: 27 });
      }
      this.rows.push(...(fault === 'half' ? parsed.filter((_, i) => i % 3 === 0) : parsed));
      if (fault !== 'none') throw new StoreError(`failed ${fault} the commit`);
    };
    const store: IngestStore = {
      append: async (bytes, { rows, claims = new Map() }) => {
        connected.appending++;
        try {
          // Whoever sleeps has sent nothing yet.
          await connected.awake;
          if (!alive) throw dead();
          for (const [slot, epoch] of claims) {
            if ((this.claims.get(slot) ?? 0) > epoch) throw new StoreError('claimed', { engineCode: 395 });
          }
          const appending = append(bytes, rows);
          this.#running.add(appending);
          await appending.finally(() => this.#running.delete(appending));
        } finally {
          connected.appending--;
        }
      },
      fences: () => read(() => new Map(this.claims)),
      storedAt: (receivedMs) =>
        read(() => {
          const groups = new Map<string, JournalSeqs>();
          for (const row of this.rows) {
            if (row.receivedMs !== receivedMs) continue;
            const key = `${row.device}\0${row.journal}`;
            const group = groups.get(key) ?? { device: row.device, journal: row.journal, seqs: [] };
            group.seqs.push(row.seq);
            groups.set(key, group);
          }
          return [...groups.values()];
        }),
      watermark: (device, journal) => read(() => this.watermark(device, journal)),
      overlaps: (device) => read(() => this.told.filter((told) => told.device === device).toReversed()),
      saveOverlaps: ({ device, told }) => note(() => this.told.push({ device, ...told })),
      timesOf: (device, parts) =>
        read(() => {
          const times = this.#contents(device, parts).map(({ timestampMs }) => timestampMs);
          return times.length > 0 ? { fromMs: Math.min(...times), toMs: Math.max(...times) } : undefined;
        }),
      received: (device, journals, timesMs) =>
        read(() => {
          this.receivedReads++;
          const parts = journals.map((journal) => ({ journal, from: 1 }));
          const stored = this.#contents(device, parts).map((line) => ({ ...line, isStored: true }));
          const repeats = new Map(
            this.repeats
              .filter((repeat) => repeat.device === device && journals.includes(repeat.journal))
              .map((repeat) => [`${repeat.journal} ${repeat.seq}`, { ...repeat, isStored: false }]),
          );
          return [...stored, ...repeats.values()].filter(({ timestampMs }) => timesMs.includes(timestampMs));
        }),
      saveRepeats: ({ device, journal, repeats }) =>
        note(() => this.repeats.push(...repeats.map((repeat) => ({ device, journal, ...repeat })))),
    };
    const connected: ConnectedProcess = {
      store,
      kill: () => {
        alive = false;
      },
      awake: Promise.resolve(),
      appending: 0,
    };
    return connected;
  }

  watermark(device: string, journal: string): Watermark {
    const ranges = new SeqRanges();
    for (const row of this.rows) {
      if (row.device === device && row.journal === journal) ranges.add(row.seq, row.seq);
    }
    for (const repeat of this.repeats) {
      if (repeat.device === device && repeat.journal === journal) ranges.add(repeat.seq, repeat.seq);
    }
    return { max: ranges.max, holes: ranges.max > 0 ? ranges.missing(1, ranges.max) : [] };
  }

  #contents(device: string, parts: readonly JournalPart[]): (Repeat & { journal: string })[] {
    return this.rows.flatMap(({ device: of, journal, seq, line }) => {
      const isPart = parts.some((part) => part.journal === journal && seq >= part.from);
      const content = of === device && isPart ? contentOf(Buffer.from(line)) : undefined;
      return content ? [{ journal, seq, key: repeatKey(content), timestampMs: content.timestampMs }] : [];
    });
  }

  seqs(device: string, journal: string): number[] {
    return this.rows
      .filter((row) => row.device === device && row.journal === journal)
      .map((row) => row.seq)
      .toSorted((a, b) => a - b);
  }
}

function parseRows(bytes: Buffer): StoredRow[] {
  const text = bytes.toString();
  if (!text.endsWith('\n')) throw new Error('rows without an end');
  return text
    .slice(0, -1)
    .split('\n')
    .map((row) => {
      const columns = row.split('\x1f');
      if (columns.length !== 6) throw new Error(`${columns.length} columns`);
      const [seq, receivedMs, , device, journal, line] = columns as [
        string,
        string,
        string,
        string,
        string,
        string,
      ];
      return { seq: Number(seq), receivedMs: Number(receivedMs), device, journal, line };
    });
}
