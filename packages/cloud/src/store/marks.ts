import type { LogEngine } from './engine.ts';
import { type SeqRange, SeqRanges } from './seq-ranges.ts';
import { dateTime, integer, string } from './sql.ts';

/** What the store has received of one journal of one device. */
export interface Watermark {
  /** The highest seq received, or 0. */
  max: number;
  /** Everything below `max` that was not received, lowest first. */
  holes: SeqRange[];
}

/** Seqs in one block of the projection `day_marks` and of `gone`. */
const blockSeqs = 65_536;
/** Incomplete blocks looked into with one query: bounds the engine's memory to about 16 × 65 536 seqs. */
const blocksPerQuery = 16;
/** Past so many ranges the older part of a journal counts as stored: only a sender that skips lines on purpose gets there. */
const maxRanges = 10_000;

/** A journal of a device. */
export interface JournalKey {
  device: string;
  journal: string;
}

/** {@link readWatermarks} of one journal. @throws StoreError */
export async function readWatermark(engine: LogEngine, device: string, journal: string): Promise<Watermark> {
  const [watermark] = await readWatermarks(engine, [{ device, journal }]);
  return watermark as Watermark;
}

/**
 * Reads what was received of some journals, in their order: lines that are stored, lines stored under another journal's
 * seq, and those that were stored and have been removed. Costs a look at the projection, a few ms. Blocks of which some
 * lines have been removed are counted seq by seq, since a seq may be noted as removed and still be there; those with
 * lines missing are looked into, newest first.
 *
 * @throws StoreError
 */
export async function readWatermarks(
  engine: LogEngine,
  keys: readonly JournalKey[],
): Promise<readonly Watermark[]> {
  const list = keys.map(({ device, journal }) => `(${string(device)}, ${string(journal)})`).join(', ');
  const where = `(device, journal) IN (${list})`;
  const blocks = await engine.query<JournalKey & BlockMarks & { places: number }>(
    `SELECT device, journal, block, count() AS places, sum(n) AS n, min(low) AS low, max(high) AS high FROM (
       SELECT device, journal, intDiv(seq, ${blockSeqs}) AS block, count() AS n, min(seq) AS low, max(seq) AS high
       FROM millrace.logs WHERE ${where} GROUP BY device, journal, block
       UNION ALL
       SELECT device, journal, intDiv(seq, ${blockSeqs}) AS block, uniqExact(seq) AS n, min(seq) AS low,
         max(seq) AS high
       FROM millrace.repeats WHERE ${where} GROUP BY device, journal, block
       UNION ALL
       SELECT device, journal, block, bitmapCardinality(seqs) AS n, block * ${blockSeqs} + bitmapMin(seqs) AS low,
         block * ${blockSeqs} + bitmapMax(seqs) AS high
       FROM (SELECT device, journal, block, groupBitmapMergeState(seqs) AS seqs
         FROM millrace.gone WHERE ${where} GROUP BY device, journal, block))
     GROUP BY device, journal, block ORDER BY device, journal, block`,
  );
  const byJournal = Map.groupBy(blocks, journalName);
  const watermarks: Watermark[] = [];
  for (const key of keys)
    watermarks.push(await watermarkOf(engine, key, byJournal.get(journalName(key)) ?? []));
  return watermarks;
}

/** A journal's id holds no space. */
function journalName({ device, journal }: JournalKey): string {
  return `${journal} ${device}`;
}

async function watermarkOf(
  engine: LogEngine,
  { device, journal }: JournalKey,
  blocks: readonly (BlockMarks & { places: number })[],
): Promise<Watermark> {
  const where = `device = ${string(device)} AND journal = ${string(journal)}`;
  const mixed = blocks.filter(({ places }) => places > 1);
  const exact = await countBlocks(engine, where, mixed);
  const stored: SeqRange[] = [];
  const torn: number[] = [];
  for (const { block, n, low, high } of blocks) {
    if ((exact.get(block) ?? n) === high - low + 1) stored.push({ from: low, to: high });
    else torn.push(block);
  }
  while (torn.length > 0) {
    const some = torn.splice(-blocksPerQuery);
    const islands = await engine.query<SeqRange>(
      `SELECT min(seq) AS from, max(seq) AS to FROM (
         SELECT seq, seq - row_number() OVER (ORDER BY seq) AS island FROM (
           SELECT arrayJoin(bitmapToArray(seqs)) + block * ${blockSeqs} AS seq
           FROM (${bitmapsSql(where, some)})))
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

interface BlockMarks {
  block: number;
  /** Seqs received. */
  n: number;
  low: number;
  high: number;
}

/** How many seqs of some blocks were received, each counted once wherever it is noted. */
async function countBlocks(
  engine: LogEngine,
  where: string,
  blocks: readonly BlockMarks[],
): Promise<Map<number, number>> {
  if (blocks.length === 0) return new Map();
  const rows = await engine.query<{ block: number; n: number }>(
    `SELECT block, bitmapCardinality(seqs) AS n FROM (${bitmapsSql(
      where,
      blocks.map(({ block }) => block),
    )})`,
  );
  return new Map(rows.map(({ block, n }) => [block, n]));
}

/** What was received of some blocks, one bitmap each. */
function bitmapsSql(where: string, blocks: readonly number[]): string {
  const list = blocks.map(integer).join(', ');
  const seqsOf = (table: string) =>
    `SELECT intDiv(seq, ${blockSeqs}) AS block, groupBitmapState(toUInt16(seq % ${blockSeqs})) AS seqs
     FROM millrace.${table} WHERE ${where} AND intDiv(seq, ${blockSeqs}) IN (${list}) GROUP BY block`;
  return `SELECT block, groupBitmapMergeState(seqs) AS seqs FROM (
    ${seqsOf('logs')} UNION ALL ${seqsOf('repeats')} UNION ALL
    SELECT block, seqs FROM millrace.gone WHERE ${where} AND block IN (${list})) GROUP BY block`;
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
