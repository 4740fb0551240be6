import type { Query, Scope } from '../query/index.ts';
import { columnSql } from './columns.ts';
import { clampTime, conditionsSql, type LineConditions, whereSql } from './conditions.ts';
import { integer } from './sql.ts';

/**
 * Counting lines without reading them. The projection `counts` (migrations/0005-counts.ts) has, per device, service,
 * app, level and hour, how many lines there are; a part keeps it in one piece with its lines. The engine takes it by
 * itself for a SELECT that groups by nothing else and asks for nothing else: that is what is written here. Hours that
 * lie in the range only in part are counted line by line, so the result is the same either way.
 */
export const hourMs = 3_600_000;

/** The hour of a line, by its own time, since 1970. */
export const hourSql = `intDiv(toUnixTimestamp64Milli(ts), ${hourMs})`;

/** Fields of the query language that the projection has. */
const counted: readonly string[] = ['device', 'service', 'app', 'level'];

/** What to count by. */
export interface CountKeys {
  /** An expression over a line, named `bucket` in the result. */
  bucket?: string;
  /** The same over what the projection has, with {@link hourSql} for its time; left out where that cannot be. */
  hourBucket?: string;
  /** A field by its name in the query language; its value is named `value`. */
  by?: string;
}

export function isCountedField(name: string): boolean {
  return counted.includes(name);
}

/** A SELECT of the keys and of `lines`, one row for each combination. */
export function countSql(query: LineConditions, scope: Scope, keys: CountKeys): string {
  const { bucket, hourBucket, by } = keys;
  const isOfHours = (bucket === undefined || hourBucket !== undefined) && (!by || isCountedField(by));
  const ranges = isOfHours && isCounted(query) ? divide(query) : undefined;
  if (!ranges) return groupSql({ bucket, by }, conditionsSql(query, scope));
  const ofAnyTime = conditionsSql({ ...query, since: undefined, until: undefined }, scope);
  const parts = [
    groupSql({ bucket: hourBucket, by }, [...ofAnyTime, ...ranges.hours]),
    ...ranges.edges.map((edge) => groupSql({ bucket, by }, conditionsSql({ ...query, ...edge }, scope))),
  ];
  if (parts.length === 1) return parts[0] as string;
  const names = [...(bucket === undefined ? [] : ['bucket']), ...(by === undefined ? [] : ['value'])].join(
    ', ',
  );
  return `SELECT ${names}, sum(lines) AS lines FROM (${parts.join('\nUNION ALL ')}) GROUP BY ${names}`;
}

/** A SELECT of `lines`, `oldest` and `newest`, ms since 1970: one row, of zeros where there is no line. */
export function timesSql(query: LineConditions, scope: Scope): string {
  const columns = `count() AS n, toUnixTimestamp64Milli(min(ts)) AS low, toUnixTimestamp64Milli(max(ts)) AS high`;
  const ranges = isCounted(query) ? divide(query) : undefined;
  const parts = ranges
    ? [
        // By hour, though nobody asks for that: otherwise the engine prefers to read all times.
        `SELECT ${hourSql} AS hour, ${columns} FROM millrace.logs ${whereSql([
          ...conditionsSql({ ...query, since: undefined, until: undefined }, scope),
          ...ranges.hours,
        ])} GROUP BY hour`,
        ...ranges.edges.map(
          (edge) =>
            `SELECT toInt64(0) AS hour, ${columns} FROM millrace.logs ${whereSql(conditionsSql({ ...query, ...edge }, scope))}`,
        ),
      ]
    : [`SELECT ${columns} FROM millrace.logs ${whereSql(conditionsSql(query, scope))}`];
  return `SELECT sum(n) AS lines, minIf(low, n > 0) AS oldest, maxIf(high, n > 0) AS newest FROM (${parts.join('\nUNION ALL ')})`;
}

/**
 * Counted by a column as it is stored, and its values made texts afterwards: a number or a number of a dictionary is found
 * faster than a text. Each value has a text of its own.
 */
function groupSql({ bucket, by }: CountKeys, conditions: readonly string[]): string {
  const isColumn = by !== undefined && isCountedField(by);
  const columns = [
    ...(bucket === undefined ? [] : [`${bucket} AS bucket`]),
    ...(by === undefined ? [] : [isColumn ? by : `${columnSql(by)} AS value`]),
  ];
  const names = [...(bucket === undefined ? [] : ['bucket']), ...(isColumn ? [by] : by ? ['value'] : [])];
  const counts = `SELECT ${columns.join(', ')}, count() AS lines FROM millrace.logs ${whereSql(conditions)} GROUP BY ${names.join(', ')}`;
  if (!isColumn) return counts;
  return `SELECT ${bucket === undefined ? '' : 'bucket, '}${columnSql(by)} AS value, lines FROM (${counts})`;
}

/** Whether nothing but what the projection has decides which lines are meant. */
function isCounted({ stream, words = [], query }: LineConditions): boolean {
  return stream === undefined && words.every((word) => word === '') && (!query || asksForCounted(query));
}

function asksForCounted(query: Query): boolean {
  switch (query.kind) {
    case 'everything':
    case 'levels':
      return true;
    case 'and':
    case 'or':
      return query.parts.every(asksForCounted);
    case 'not':
      return asksForCounted(query.part);
    case 'match':
      return query.target.kind === 'name' && isCountedField(query.target.name);
    default:
      return false;
  }
}

interface Ranges {
  /** Conditions for the whole hours. */
  hours: string[];
  /** What is left of the range before and behind them. */
  edges: { since: number; until: number }[];
}

/** `undefined` when the range holds no whole hour. */
function divide({ since, until }: LineConditions): Ranges | undefined {
  const hours: string[] = [];
  const edges: Ranges['edges'] = [];
  let first = Number.NEGATIVE_INFINITY;
  if (since !== undefined) {
    const from = clampTime(since);
    first = Math.ceil(from / hourMs);
    hours.push(`${hourSql} >= ${integer(first)}`);
    if (from < first * hourMs) edges.push({ since: from, until: first * hourMs });
  }
  if (until !== undefined) {
    const to = clampTime(until);
    const end = Math.floor(to / hourMs);
    if (end <= first) return undefined;
    hours.push(`${hourSql} < ${integer(end)}`);
    if (to > end * hourMs) edges.push({ since: end * hourMs, until: to });
  }
  return { hours, edges };
}
