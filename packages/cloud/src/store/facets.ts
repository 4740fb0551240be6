import { type Facet, type Facets, MillraceError } from '@millrace/wire';
import type { Scope } from '../query/index.ts';
import type { LineConditions } from './conditions.ts';
import { countSql } from './hour-counts.ts';
import type { Select } from './log-reader.ts';
import { integer } from './sql.ts';

export interface FacetQuery extends LineConditions {
  /** Names of fields, at most {@link maxFacets}. */
  fields: readonly string[];
  /** Most values of each, 1 to {@link maxFacetValues}. */
  limit: number;
}

export const maxFacets = 10;
export const maxFacetValues = 1000;

interface FacetRow {
  value: string | null;
  lines: number;
  allLines: number;
  allValues: number;
  withoutLines: number;
}

export async function readFacets(select: Select, query: FacetQuery, scope: Scope): Promise<Facets> {
  const { fields, limit } = query;
  if (fields.length < 1 || fields.length > maxFacets) {
    throw new MillraceError('PARAMETER_INVALID', `fields: give 1 to ${maxFacets} names`);
  }
  if (!Number.isInteger(limit) || limit < 1 || limit > maxFacetValues) {
    throw new MillraceError('PARAMETER_INVALID', `limit: ${limit} is not between 1 and ${maxFacetValues}`);
  }
  const counts = fields.map((by) => countSql(query, scope, { by }));
  const facets: Facet[] = [];
  // One after the other: each takes all cores by itself.
  for (const [i, sql] of counts.entries()) {
    const rows = await select<FacetRow>(facetSql(sql, limit));
    facets.push(facetOf(fields[i] as string, rows));
  }
  return { facets };
}

function facetSql(counts: string, limit: number): string {
  return `SELECT value, lines, sum(lines) OVER () AS allLines, countIf(value IS NOT NULL) OVER () AS allValues,
  sumIf(lines, value IS NULL) OVER () AS withoutLines
FROM (${counts})
ORDER BY value IS NULL, lines DESC, value ASC
LIMIT ${integer(limit)}`;
}

function facetOf(field: string, rows: FacetRow[]): Facet {
  const values: Facet['values'] = [];
  for (const { value, lines } of rows) if (value !== null) values.push({ value, count: lines });
  // Every row carries the sums; no row, no lines.
  const { allLines = 0, allValues = 0, withoutLines = 0 } = rows[0] ?? {};
  const shownLines = values.reduce((sum, { count }) => sum + count, 0);
  return {
    field,
    values,
    distinct: allValues,
    otherLines: allLines - withoutLines - shownLines,
    withoutLines,
  };
}
