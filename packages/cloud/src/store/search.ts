import {
  fieldsOf,
  type Level,
  type LogPage,
  lineId,
  MillraceError,
  type SourceType,
  type StoredLine,
} from '@millrace/wire';
import type { Scope } from '../query/index.ts';
import { conditionsSql, type LineConditions, whereSql } from './conditions.ts';
import { dateTime, integer, string } from './sql.ts';

/** What to look for, and how much of it to show. */
export interface SearchQuery extends LineConditions {
  /** Lines per page, 1 to {@link maxPageLines}. */
  limit: number;
  /** By time, then device, journal and seq. */
  order: 'asc' | 'desc';
  /** Where the page before ended, or began. The other conditions must be the same as then. */
  cursor?: string;
}

export const maxPageLines = 10_000;

/** A row as {@link searchSql} selects it. */
export interface LogRow {
  device: string;
  service: string;
  timestampMs: number;
  seq: number;
  journal: string;
  level: Level;
  is_stderr: boolean;
  is_system: boolean;
  source_type: SourceType;
  source_name: string;
  app: string;
  service_id: number | null;
  container: string;
  message: string;
  fields: string;
  receivedMs: number;
}

/** Which of the lines that are asked for a statement looks at. Times in ms since 1970. */
export interface PagePart {
  since: number | undefined;
  until: number | undefined;
  limit: number;
}

/**
 * All of a page, and one line more, which tells whether there is another page.
 *
 * @throws MillraceError `PARAMETER_INVALID` that names the parameter
 */
export function wholePage({ limit, order, cursor, since, until }: SearchQuery): PagePart {
  if (!Number.isInteger(limit) || limit < 1 || limit > maxPageLines) {
    throw new MillraceError('PARAMETER_INVALID', `limit: ${limit} is not between 1 and ${maxPageLines}`);
  }
  const part = { since, until, limit: limit + 1 };
  if (cursor === undefined) return part;
  const { ts } = readCursor(cursor, order);
  if (order === 'asc') part.since = Math.max(since ?? ts, ts);
  else part.until = Math.min(until ?? ts + 1, ts + 1);
  return part;
}

/**
 * The SELECT for a part of a page.
 *
 * @throws MillraceError `PARAMETER_INVALID` that names the parameter
 */
export function searchSql(query: SearchQuery, scope: Scope, part = wholePage(query)): string {
  const { order, cursor } = query;
  const where = conditionsSql({ ...query, since: part.since, until: part.until }, scope);
  if (cursor !== undefined) where.push(positionSql(readCursor(cursor, order), order));
  return selectLines(where, order, part.limit);
}

/** The SELECT for lines under conditions, in the order of a search. */
export function selectLines(conditions: readonly string[], order: 'asc' | 'desc', limit: number): string {
  const way = order === 'asc' ? 'ASC' : 'DESC';
  return `SELECT device, service, toUnixTimestamp64Milli(ts) AS timestampMs, seq, journal, level, is_stderr, is_system,
  source_type, source_name, app, service_id, container, message, fields, toUnixTimestamp64Milli(received) AS receivedMs
FROM millrace.logs
${whereSql(conditions)}
ORDER BY ts ${way}, device ${way}, journal ${way}, seq ${way}
LIMIT ${integer(limit)}`;
}

/** Turns rows into lines, and drops the one too many. */
export function page(rows: LogRow[], { limit, order }: SearchQuery): LogPage {
  const shown = rows.slice(0, limit);
  const [first] = shown;
  const last = shown.at(-1);
  const logs = shown.map(lineOf);
  if (!first || !last) return { logs };
  const back = writeCursor(first, order === 'asc' ? 'desc' : 'asc');
  return { logs, ...(rows.length > limit && { cursor: writeCursor(last, order) }), back };
}

export function lineOf(row: LogRow): StoredLine {
  const fields = storedFields(row.fields) ?? fieldsOf(row.message);
  return {
    id: lineId(row.journal, row.seq),
    message: row.message,
    timestamp: row.timestampMs,
    level: row.level,
    source: { type: row.source_type, name: row.source_name },
    ...(row.service_id !== null && { serviceId: row.service_id }),
    ...(row.service !== '' && { serviceName: row.service }),
    ...(row.container !== '' && { containerId: row.container }),
    isStdErr: row.is_stderr,
    isSystem: row.is_system,
    ...(row.app !== '' && { appId: appOf(row.app) }),
    seq: row.seq,
    ...(fields && { fields }),
    device: row.device,
    receivedAt: row.receivedMs,
  };
}

// An app's id is stored as text: balena numbers its apps, compose names its projects.
function appOf(text: string): number | string {
  return /^[1-9][0-9]{0,14}$/.test(text) ? Number(text) : text;
}

function storedFields(text: string): Record<string, unknown> | undefined {
  if (!text.startsWith('{')) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    // Not ours: some sender gave a string that merely begins like an object.
    return undefined;
  }
}

/** Position of a line in the order of a search. */
export interface Position {
  ts: number;
  device: string;
  journal: string;
  seq: number;
}

export function positionOf({ timestampMs, device, journal, seq }: LogRow): Position {
  return { ts: timestampMs, device, journal, seq };
}

/** Opaque to callers: base64url of `[order, ts, device, journal, seq]`. */
function writeCursor(row: LogRow, order: string): string {
  const position = [order, row.timestampMs, row.device, row.journal, row.seq];
  return Buffer.from(JSON.stringify(position)).toString('base64url');
}

function readCursor(cursor: string, order: string): Position {
  const wrong = (reason: string) => new MillraceError('PARAMETER_INVALID', `cursor: ${reason}`);
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(cursor, 'base64url').toString());
  } catch (error) {
    throw new MillraceError('PARAMETER_INVALID', 'cursor: not one of ours', { cause: error });
  }
  if (!Array.isArray(value)) throw wrong('not one of ours');
  const [way, ts, device, journal, seq] = value as unknown[];
  if (way !== order) throw wrong('it is for a search in the other order');
  if (
    !Number.isSafeInteger(ts) ||
    typeof device !== 'string' ||
    typeof journal !== 'string' ||
    !Number.isSafeInteger(seq)
  ) {
    throw wrong('not one of ours');
  }
  return { ts: ts as number, device, journal, seq: seq as number };
}

/** The lines behind a position, in that order. */
export function positionSql({ ts, device, journal, seq }: Position, order: string): string {
  const sign = order === 'asc' ? '>' : '<';
  const time = dateTime(ts);
  // The first condition follows from the second; the index on time understands only it.
  return `ts ${sign}= ${time} AND (ts ${sign} ${time} OR (device, journal, seq) ${sign} (${string(device)}, ${string(journal)}, toUInt64(${integer(Math.max(0, seq))})))`;
}
