import type { IngestStore } from '../../src/ingest/index.ts';
import { StoreError } from '../../src/store/engine.ts';
import type { JournalSeqs, Watermark } from '../../src/store/marks.ts';
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

/**
 * A store in memory that fails as told. Behaves like the real one otherwise: an append is all or nothing unless
 * told to break, and rows that hold the text REFUSE are refused, with whatever is inserted beside them.
 */
export class FaultyStore {
  readonly rows: StoredRow[] = [];
  /** Faults of the next appends, in order. */
  faults: Fault[] = [];
  /** Number of next reads (watermark, storedAt) that fail. */
  failingReads = 0;
  appends = 0;
  /** Appends wait for this. */
  gate: Promise<void> = Promise.resolve();

  /** The store as one process sees it; after `kill` nothing that this process does has any effect. */
  connect(): { store: IngestStore; kill: () => void } {
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
    const store: IngestStore = {
      append: async (bytes, { rows }) => {
        this.appends++;
        const parsed = parseRows(bytes);
        if (parsed.length !== rows) throw new Error(`told ${rows} rows, got ${parsed.length}`);
        await new Promise((resolve) => setImmediate(resolve));
        await this.gate;
        if (!alive) throw dead();
        const fault = this.faults.shift() ?? 'none';
        if (fault === 'before') throw new StoreError('failed before the commit');
        if (fault === 'refuse' || parsed.some((row) => row.line.includes('REFUSE'))) {
          throw new StoreError('rows refused', { engineCode: 27 });
        }
        this.rows.push(...(fault === 'half' ? parsed.filter((_, i) => i % 3 === 0) : parsed));
        if (fault !== 'none') throw new StoreError(`failed ${fault} the commit`);
      },
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
    };
    return {
      store,
      kill: () => {
        alive = false;
      },
    };
  }

  watermark(device: string, journal: string): Watermark {
    const ranges = new SeqRanges();
    for (const row of this.rows) {
      if (row.device === device && row.journal === journal) ranges.add(row.seq, row.seq);
    }
    return { max: ranges.max, holes: ranges.max > 0 ? ranges.missing(1, ranges.max) : [] };
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
