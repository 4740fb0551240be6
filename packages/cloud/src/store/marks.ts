import type { LogEngine } from './engine.ts';
import { type SeqRange, SeqRanges } from './seq-ranges.ts';
import { dateTime, integer, string } from './sql.ts';

/**
 * What the store holds of one journal of one device: its lines, and those that were received and are stored under
 * another journal's seq (`repeats`).
 */
export interface Watermark {
  /** The highest seq received, or 0. */
  max: number;
  /** Everything below `max` that was not received, lowest first. */
  holes: SeqRange[];
}

/** Seqs in one block of the projection `marks`. */
const blockSeqs = 65_536;
/** Incomplete blocks looked into with one query: bounds the engine's memory to about 16 × 65 536 seqs. */
const blocksPerQuery = 16;
/** Past so many ranges the older part of a journal counts as stored: only a sender that skips lines on purpose gets there. */
const maxRanges = 10_000;

/**
 * Reads what is stored of a journal. Costs a look at the projection, a few ms; blocks with lines missing are
 * looked into seq by seq, newest first.
 *
 * @throws StoreError
 */
export async function readWatermark(engine: LogEngine, device: string, journal: string): Promise<Watermark> {
  const where = `device = ${string(device)} AND journal = ${string(journal)}`;
  const blocks = await engine.query<{ block: number; n: number; low: number; high: number }>(
    `SELECT block, sum(n) AS n, min(low) AS low, max(high) AS high FROM (
       SELECT intDiv(seq, ${blockSeqs}) AS block, count() AS n, min(seq) AS low, max(seq) AS high
       FROM millrace.logs WHERE ${where} GROUP BY block
       UNION ALL
       SELECT intDiv(seq, ${blockSeqs}) AS block, uniqExact(seq) AS n, min(seq) AS low, max(seq) AS high
       FROM millrace.repeats WHERE ${where} GROUP BY block)
     GROUP BY block ORDER BY block`,
  );
  const stored: SeqRange[] = [];
  const torn: number[] = [];
  for (const { block, n, low, high } of blocks) {
    if (n === high - low + 1) stored.push({ from: low, to: high });
    else torn.push(block);
  }
  while (torn.length > 0) {
    const some = torn.splice(-blocksPerQuery);
    const within = `${where} AND intDiv(seq, ${blockSeqs}) IN (${some.map(integer).join(', ')})`;
    const islands = await engine.query<SeqRange>(
      `SELECT min(seq) AS from, max(seq) AS to FROM (
         SELECT seq, seq - row_number() OVER (ORDER BY seq) AS island FROM (
           SELECT seq FROM millrace.logs WHERE ${within}
           UNION DISTINCT SELECT seq FROM millrace.repeats WHERE ${within}))
       GROUP BY island ORDER BY from DESC LIMIT ${maxRanges}`,
    );
    stored.push(...islands);
    if (islands.length === maxRanges) {
      const lowest = islands.at(-1) as SeqRange;
      stored.push({ from: 1, to: lowest.from });
      break;
    }
  }
  stored.sort((a, b) => a.from - b.from);
  const ranges = new SeqRanges(stored);
  return { max: ranges.max, holes: ranges.max > 0 ? ranges.missing(1, ranges.max) : [] };
}

/** Seqs of one journal. */
export interface JournalSeqs {
  device: string;
  journal: string;
  seqs: number[];
}

/**
 * The lines that were stored under one time of arrival. With it, whoever inserted them learns after a failure
 * which of them made it. Parts outside that time are not even opened.
 *
 * @throws StoreError
 */
export function readStoredAt(engine: LogEngine, receivedMs: number): Promise<JournalSeqs[]> {
  return engine.query<JournalSeqs>(
    `SELECT device, journal, groupArray(seq) AS seqs FROM millrace.logs
     WHERE received = ${dateTime(receivedMs)} GROUP BY device, journal`,
  );
}
