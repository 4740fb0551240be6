import { MillraceError, parseLevelFilter, parseTime, timeForms } from '@millrace/wire';
import type { LogQuery } from '../logging/types.ts';

const maxLimit = 100_000;
const known = new Set([
  'serviceName',
  'containerId',
  'level',
  'stream',
  'since',
  'until',
  'contains',
  'limit',
  'order',
  'follow',
]);

export interface LogsRequest {
  query: LogQuery;
  follow: boolean;
}

/**
 * Reads the parameters of `GET /v1/logs`.
 *
 * @throws MillraceError `PARAMETER_INVALID` that names the parameter and what it may be
 */
export function parseLogsRequest(parameters: Record<string, unknown>): LogsRequest {
  for (const [name, value] of Object.entries(parameters)) {
    if (!known.has(name)) refuse(name, `is not known; known are ${[...known].join(', ')}`);
    if (typeof value !== 'string') refuse(name, 'is given more than once');
  }
  const given = parameters as Record<string, string | undefined>;
  const query: LogQuery = {
    serviceName: given.serviceName,
    containerId: given.containerId,
    contains: given.contains,
    since: time('since', given.since),
    until: time('until', given.until),
  };
  if (given.level !== undefined) {
    query.level =
      parseLevelFilter(given.level) ??
      refuse('level', 'must be debug, info, warn or error, a list of them, or one with a + behind it');
  }
  if (given.stream !== undefined) {
    if (given.stream !== 'stdout' && given.stream !== 'stderr') refuse('stream', 'must be stdout or stderr');
    query.stream = given.stream as 'stdout' | 'stderr';
  }
  if (given.limit !== undefined) {
    const limit = Number(given.limit);
    if (!/^\d+$/.test(given.limit) || limit > maxLimit)
      refuse('limit', `must be a number from 0 to ${maxLimit}`);
    query.limit = limit;
  }
  if (given.order !== undefined) {
    if (given.order !== 'asc' && given.order !== 'desc') refuse('order', 'must be asc or desc');
    query.order = given.order as 'asc' | 'desc';
  }
  const follow = given.follow ?? '0';
  if (!['0', '1', 'true', 'false'].includes(follow)) refuse('follow', 'must be 0 or 1');
  const following = follow === '1' || follow === 'true';
  if (following && query.order === 'desc') refuse('order', 'must be asc when following');
  return { query, follow: following };
}

function time(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  return parseTime(text, Date.now()) ?? refuse(name, `must be ${timeForms}`);
}

function refuse(name: string, reason: string): never {
  throw new MillraceError('PARAMETER_INVALID', `${name} ${reason}`);
}
