import type { LogEngine } from './engine.ts';
import { journalsSettings, journalsSql } from './journals.ts';
import { readWatermark } from './marks.ts';
import { ownJournalSql } from './own-journals.ts';
import { integer, string, stringList } from './sql.ts';

/** Lines of one journal that were skipped and have not come since. */
export interface Gap {
  journal: string;
  /** Seqs, both included. */
  from: number;
  to: number;
  lines: number;
  /** When the line right behind it came, ms since 1970; or the journal's last, if that one has been removed. */
  since: number;
}

/** Journals looked into, those heard of last first: each costs some queries. */
const maxJournals = 100;

/**
 * What is missing of a device's journals between the first and the last line of each; the journal heard of last
 * comes first, and of each the lowest gap. A gap is not recorded anywhere: it is what the store does not have, so it is closed when its lines have come.
 *
 * @param most gaps returned; of journals with more the newest
 * @throws StoreError
 */
export async function readGaps(engine: LogEngine, device: string, most: number): Promise<Gap[]> {
  const where = `device = ${string(device)}`;
  const journals = await engine.query<{ journal: string; lowest: number; last: number }>(
    `SELECT journal, low AS lowest, toUnixTimestamp64Milli(lastReceived) AS last FROM (${journalsSql([where])})
     WHERE n < high - low + 1 AND NOT ${ownJournalSql} ORDER BY lastReceived DESC LIMIT ${maxJournals}`,
    journalsSettings,
  );
  const gaps: Omit<Gap, 'since'>[] = [];
  for (const { journal, lowest } of journals) {
    // What lies before the first line is no gap: it has expired, or is still to come.
    const { holes } = await readWatermark(engine, device, journal);
    for (const { from, to } of holes.toReversed()) {
      if (to < lowest || gaps.length >= most) break;
      gaps.push({ journal, from, to, lines: to - from + 1 });
    }
    if (gaps.length >= most) break;
  }
  if (gaps.length === 0) return [];
  const behind = `${where} AND journal IN ${stringList([...new Set(gaps.map((gap) => gap.journal))])}
    AND seq IN (${gaps.map((gap) => integer(gap.to + 1)).join(', ')})`;
  const arrivals = await engine.query<{ journal: string; seq: number; since: number }>(
    `SELECT journal, seq, toUnixTimestamp64Milli(min(received)) AS since FROM (
       SELECT journal, seq, received FROM millrace.logs WHERE ${behind}
       UNION ALL SELECT journal, seq, received FROM millrace.repeats WHERE ${behind})
     GROUP BY journal, seq`,
  );
  const since = new Map(arrivals.map((arrival) => [`${arrival.journal} ${arrival.seq}`, arrival.since]));
  const order = new Map(journals.map(({ journal, last }, index) => [journal, { index, last }]));
  const orderOf = ({ journal }: { journal: string }) => order.get(journal)?.index ?? 0;
  return gaps
    .map((gap) => ({
      ...gap,
      // The line behind it may have been removed; by the last one it was known for sure.
      since: since.get(`${gap.journal} ${gap.to + 1}`) ?? order.get(gap.journal)?.last ?? 0,
    }))
    .sort((a, b) => orderOf(a) - orderOf(b) || a.from - b.from);
}
