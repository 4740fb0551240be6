import type { StoredLine } from '@millrace/wire';
import type { Scope } from '../query/index.ts';
import { conditionsSql, type LineConditions, whereSql } from './conditions.ts';
import { StoreError } from './engine.ts';
import type { Select } from './log-reader.ts';
import { type LogRow, lineOf, positionOf, positionSql, selectLines } from './search.ts';
import { dateTime, integer } from './sql.ts';

export interface ExportQuery extends LineConditions {
  order: 'asc' | 'desc';
}

export interface Export {
  /** How many there are. */
  lines: number;
  /**
   * All of them in the order of a search, some at a time; nothing is read ahead.
   *
   * @throws MillraceError as a reader does; `STORE_FAILED` when there were fewer than announced
   */
  pages: AsyncGenerator<StoredLine[]>;
}

export interface ExportLimits {
  /** Lines that are read by one statement, and bytes of their messages and fields: what an export takes in memory. */
  pageLines: number;
  pageBytes: number;
}

const standardLimits: ExportLimits = { pageLines: 20_000, pageBytes: 8 * 1024 * 1024 };

/** Parts that a stretch of time is counted in, to be cut where there are enough lines for a page. */
const maxBuckets = 2000;

/** Lines within a stretch of time. */
interface Stretch {
  /** Ms since 1970, inclusive. */
  from: number;
  /** Exclusive. */
  to: number;
  lines: number;
  bytes: number;
  /** Of the largest line. */
  largestBytes: number;
}

const bytesSql = 'length(message) + length(fields)';

/**
 * The lines of a query, however many, in their order and with bounded memory on both sides.
 *
 * A page is a stretch of time that holds as many lines as fit: it is found by its bounds, where a page "behind a
 * position" has to be picked out of all that follow, again and again. Which lines there are is settled by the newest
 * arrival at the beginning. Those that arrive meanwhile are left out, so what comes is what was counted.
 */
export async function readExport(
  select: Select,
  query: ExportQuery,
  scope: Scope,
  limits = standardLimits,
): Promise<Export> {
  const conditions = conditionsSql(query, scope);
  const [all] = await select<Omit<Stretch, 'to'> & { last: number; received: number }>(
    `SELECT count() AS lines, sum(${bytesSql}) AS bytes, max(${bytesSql}) AS largestBytes,
       toUnixTimestamp64Milli(min(ts)) AS from, toUnixTimestamp64Milli(max(ts)) AS last,
       toUnixTimestamp64Milli(max(received)) AS received
     FROM millrace.logs ${whereSql(conditions)}`,
  );
  if (!all || all.lines === 0) return { lines: 0, pages: (async function* () {})() };
  const settled = [...conditions, `received <= ${dateTime(all.received)}`];
  const reader = new StretchReader({ select, conditions: settled, order: query.order, limits });
  return { lines: all.lines, pages: reader.pages({ ...all, to: all.last + 1 }) };
}

class StretchReader {
  readonly #select: Select;
  readonly #conditions: readonly string[];
  readonly #order: 'asc' | 'desc';
  readonly #limits: ExportLimits;

  constructor(options: {
    select: Select;
    conditions: readonly string[];
    order: 'asc' | 'desc';
    limits: ExportLimits;
  }) {
    this.#select = options.select;
    this.#conditions = options.conditions;
    this.#order = options.order;
    this.#limits = options.limits;
  }

  async *pages(whole: Stretch): AsyncGenerator<StoredLine[]> {
    let lines = 0;
    for await (const stretch of this.#cut(whole)) {
      for await (const page of this.#read(stretch)) {
        lines += page.length;
        yield page;
      }
    }
    if (lines < whole.lines) {
      throw new StoreError(`${whole.lines - lines} of ${whole.lines} lines were deleted during the export`);
    }
  }

  /** Stretches that each make a page, or are too short to be cut. */
  async *#cut(stretch: Stretch): AsyncGenerator<Stretch> {
    if (this.#fits(stretch) || stretch.to - stretch.from <= 1) {
      yield stretch;
      return;
    }
    const stepMs = Math.ceil((stretch.to - stretch.from) / maxBuckets);
    const way = this.#order === 'asc' ? 'ASC' : 'DESC';
    const buckets = await this.#select<{
      bucket: number;
      lines: number;
      bytes: number;
      largestBytes: number;
    }>(
      `SELECT intDiv(toUnixTimestamp64Milli(ts) - ${integer(stretch.from)}, ${integer(stepMs)}) AS bucket,
         count() AS lines, sum(${bytesSql}) AS bytes, max(${bytesSql}) AS largestBytes
       FROM millrace.logs ${whereSql(this.#within(stretch))} GROUP BY bucket ORDER BY bucket ${way}`,
    );
    let gathered: Stretch | undefined;
    for (const { bucket, ...counts } of buckets) {
      const from = stretch.from + bucket * stepMs;
      const next: Stretch = { ...counts, from, to: Math.min(from + stepMs, stretch.to) };
      const both: Stretch = gathered ? join(gathered, next) : next;
      if (this.#fits(both)) gathered = both;
      else {
        if (gathered) yield gathered;
        gathered = undefined;
        if (this.#fits(next)) gathered = next;
        else yield* this.#cut(next);
      }
    }
    if (gathered) yield gathered;
  }

  /** Page by page, although a stretch that could be cut is one page. */
  async *#read(stretch: Stretch): AsyncGenerator<StoredLine[]> {
    const { pageLines, pageBytes } = this.#limits;
    const limit = this.#fits(stretch)
      ? pageLines
      : Math.max(1, Math.min(pageLines, Math.floor(pageBytes / Math.max(1, stretch.largestBytes))));
    let conditions = this.#within(stretch);
    for (;;) {
      const rows = await this.#select<LogRow>(selectLines(conditions, this.#order, limit));
      if (rows.length > 0) yield rows.map(lineOf);
      const last = rows.at(-1);
      if (rows.length < limit || !last) return;
      conditions = [...this.#within(stretch), positionSql(positionOf(last), this.#order)];
    }
  }

  #fits({ lines, bytes }: Stretch): boolean {
    return lines <= this.#limits.pageLines && bytes <= this.#limits.pageBytes;
  }

  #within({ from, to }: Stretch): string[] {
    return [...this.#conditions, `ts >= ${dateTime(from)}`, `ts < ${dateTime(to)}`];
  }
}

function join(a: Stretch, b: Stretch): Stretch {
  return {
    from: Math.min(a.from, b.from),
    to: Math.max(a.to, b.to),
    lines: a.lines + b.lines,
    bytes: a.bytes + b.bytes,
    largestBytes: Math.max(a.largestBytes, b.largestBytes),
  };
}
