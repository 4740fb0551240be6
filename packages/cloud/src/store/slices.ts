import type { Density } from './density.ts';

/**
 * Reading a page in slices of time. A search for a word that is in every fifth line would read each of them to show the
 * newest hundred; a look at what came last is enough. So a page is read from its end of time, in slices that follow on
 * from each other, until it is full. The first is small. How many lines it had says how large the next must be; when
 * it had none the rest is read at once, as what is rare the indexes find; or, where they do not, as much more as may be.
 *
 * Slices share no time, so their lines follow one another in the order of a search, whatever the density says. It decides
 * only how large they are. Lines are counted by their arrival, and their own times may be any: the first slice is open
 * towards the end that is read from, and the last one towards the other.
 */
export interface Slice {
  /** Ms since 1970, inclusive; none where it is open. */
  since: number | undefined;
  /** Exclusive. */
  until: number | undefined;
  /** Lines still wanted. */
  limit: number;
  /** Lines in it, whatever is asked for, as far as can be told; infinite where it is all that is left. */
  lines: number;
}

export interface SlicedPage {
  since?: number;
  until?: number;
  order: 'asc' | 'desc';
  /** Most rows. */
  limit: number;
}

/** How a page is cut. */
export interface Slicing {
  /** Lines in the first slice: at least so many… */
  leastLines: number;
  /** …and more for a large page. */
  linesPerRow: number;
  /** Whether indexes find what is rare. */
  isIndexed: boolean;
}

/** For lines that are told by what is in them. About what one thread reads in the time that it takes to begin. */
export const findingSlices: Slicing = { leastLines: 50_000, linesPerRow: 20, isIndexed: true };

/** For lines that are told by their columns. */
export const columnSlices: Slicing = { ...findingSlices, isIndexed: false };

/** For whatever came: as many lines come as are looked at, but that some are later than others. */
export const newestSlices: Slicing = { leastLines: 400, linesPerRow: 4, isIndexed: false };

/** A slice of a range with fewer lines than so many times its own would save little. */
const leastShare = 8;
const mostGrowth = 64;

export async function readInSlices<Row>(
  page: SlicedPage,
  density: Density,
  read: (slice: Slice) => Promise<Row[]>,
  { leastLines, linesPerRow, isIndexed } = findingSlices,
): Promise<Row[]> {
  const rows: Row[] = [];
  let rest: Range = { since: page.since, until: page.until };
  let lines = Math.max(leastLines, page.limit * linesPerRow);
  let seen = 0;
  if (linesIn(rest, density) < lines * leastShare) lines = Number.POSITIVE_INFINITY;
  for (;;) {
    const cut = page.order === 'desc' ? cutLast(rest, lines, density) : cutFirst(rest, lines, density);
    const slice = cut ? { ...cut.slice, lines } : { ...rest, lines: Number.POSITIVE_INFINITY };
    rows.push(...(await read({ ...slice, limit: page.limit - rows.length })));
    if (!cut || rows.length >= page.limit) return rows;
    rest = cut.rest;
    seen += lines;
    // Twice what it takes at this rate.
    const wanted = (2 * seen * (page.limit - rows.length)) / rows.length;
    lines = rows.length === 0 && isIndexed ? wanted : Math.min(Math.max(wanted, 2 * seen), mostGrowth * seen);
  }
}

interface Range {
  since: number | undefined;
  until: number | undefined;
}

interface Cut {
  slice: Range;
  rest: Range;
}

function linesIn({ since, until }: Range, density: Density): number {
  return density.between(since ?? Number.NEGATIVE_INFINITY, until ?? Number.POSITIVE_INFINITY);
}

/** `undefined` when what would be left is not worth a statement of its own. */
function cutLast(range: Range, lines: number, density: Density): Cut | undefined {
  const { lastMs } = density;
  if (lastMs === undefined) return undefined;
  const endMs = Math.min(range.until ?? Number.POSITIVE_INFINITY, lastMs + 1);
  const start = density.before(endMs, lines);
  if (start === undefined) return undefined;
  const at = aligned(start, endMs - start, Math.floor);
  const rest = { since: range.since, until: at };
  if (at <= (range.since ?? 0) || linesIn(rest, density) < lines / 2) return undefined;
  return { slice: { since: at, until: range.until }, rest };
}

function cutFirst(range: Range, lines: number, density: Density): Cut | undefined {
  const { firstMs } = density;
  if (firstMs === undefined) return undefined;
  const startMs = Math.max(range.since ?? Number.NEGATIVE_INFINITY, firstMs);
  const end = density.after(startMs, lines);
  if (end === undefined) return undefined;
  const at = aligned(end, end - startMs, Math.ceil);
  const rest = { since: at, until: range.until };
  if (at >= (range.until ?? Number.POSITIVE_INFINITY) || linesIn(rest, density) < lines / 2) return undefined;
  return { slice: { since: range.since, until: at }, rest };
}

/** Who asks again a moment later is given the same bounds: the engine remembers where it found nothing. */
function aligned(ms: number, lengthMs: number, round: (value: number) => number): number {
  const stepMs = 2 ** Math.max(0, Math.floor(Math.log2(Math.max(1, lengthMs))) - 2);
  return round(ms / stepMs) * stepMs;
}
