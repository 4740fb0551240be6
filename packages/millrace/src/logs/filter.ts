import type { LineFilter, TimeRange } from '@millrace/client';
import { type Level, MillraceError, parseLevelFilter, parseTime } from '@millrace/wire';

/** Which lines to show. All conditions must hold. */
export interface LogFilter {
  device?: string;
  service?: string;
  levels?: Level[];
  stream?: 'stdout' | 'stderr';
  /** Inclusive, ms since 1970. */
  sinceMs?: number;
  /** Exclusive, ms since 1970. */
  untilMs?: number;
  /** In the query language of docs/search.md; words alone must all occur in the message. */
  query?: string;
}

/** What of a filter a tail understands: it is about lines to come. */
export function tailFilter({ sinceMs: _since, untilMs: _until, ...filter }: LogFilter): LineFilter {
  return filter;
}

/** The filter as a query of the server. */
export function serverQuery(filter: LogFilter): LineFilter & TimeRange {
  return { ...tailFilter(filter), since: filter.sinceMs, until: filter.untilMs };
}

/**
 * Reads a moment: `10m` (ago), `2026-11-20T14:00:00Z`, `2026-11-20 14:00` (local), or ms since 1970.
 *
 * @throws MillraceError `PARAMETER_INVALID`
 */
export function parseMoment(option: string, text: string, nowMs: number): number {
  // A bare small number would be a moment in 1970, and was surely meant to have a unit.
  const ms = /^\d{1,8}$/.test(text) ? undefined : parseTime(text, nowMs);
  if (ms === undefined) {
    throw new MillraceError(
      'PARAMETER_INVALID',
      `${option} ${text}: use a span such as 30s, 10m, 2h or 7d, a date such as 2026-11-20T14:00:00Z, or milliseconds since 1970`,
    );
  }
  return Math.max(0, ms);
}

/** @throws MillraceError `PARAMETER_INVALID` */
export function parseLevels(option: string, text: string): Level[] {
  const levels = parseLevelFilter(text);
  if (!levels) {
    throw new MillraceError(
      'PARAMETER_INVALID',
      `${option} ${text}: use debug, info, warn or error, several with commas, or warn+ for that and above`,
    );
  }
  return levels;
}

/** @throws MillraceError `PARAMETER_INVALID` */
export function parseLimit(option: string, text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > maxLimit) {
    throw new MillraceError('PARAMETER_INVALID', `${option} ${text}: use a number from 0 to ${maxLimit}`);
  }
  return Number(text);
}

/** Most lines that the server gives in one answer. */
export const maxLimit = 10_000;
