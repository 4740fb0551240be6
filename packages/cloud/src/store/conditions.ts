import { isLevel, type Level, MillraceError } from '@millrace/wire';
import { containsSql, type Query, querySql, type Scope, scopeSql } from '../query/index.ts';
import { dateTime, string, stringList } from './sql.ts';

/** Which lines someone asks for. All conditions must hold; one that is left out always does. */
export interface LineConditions {
  /** One device, or several. */
  device?: string | readonly string[];
  service?: string;
  levels?: readonly Level[];
  stream?: 'stdout' | 'stderr';
  /** Texts that must all occur in the message, in any case of A–Z, also inside words. */
  words?: readonly string[];
  query?: Query;
  /** The line's own time, ms since 1970, inclusive. */
  since?: number;
  /** Exclusive. */
  until?: number;
}

/** Whether it takes what is in lines to tell which are meant. */
export function readsMessages({ words = [], query }: LineConditions): boolean {
  return words.some((word) => word !== '') || (query !== undefined && looksInside(query));
}

const looksInside = (query: Query) =>
  holds(query, (part) => part.kind === 'match' && part.target.kind !== 'name');

/** Whether any part of a query that joins no others is so. */
function holds(query: Query, isSo: (part: Query) => boolean): boolean {
  switch (query.kind) {
    case 'and':
    case 'or':
      return query.parts.some((part) => holds(part, isSo));
    case 'not':
      return holds(query.part, isSo);
    default:
      return isSo(query);
  }
}

/** Whether it is said of which devices or services the lines are: they lie in that order. */
export function isByPlace({ device, service, query }: LineConditions, { devices }: Scope): boolean {
  return (
    device !== undefined || service !== undefined || devices !== 'all' || (!!query && namesPlaces(query))
  );
}

const namesPlaces = (query: Query) =>
  holds(query, (part) => part.kind === 'devices' || (part.kind === 'match' && isPlace(part.target)));

function isPlace(target: Extract<Query, { kind: 'match' }>['target']): boolean {
  return target.kind === 'name' && ['device', 'service'].includes(target.name);
}

const maxWords = 32;
const maxWordChars = 1000;

/**
 * The conditions as SQL, to be joined by AND; the caller's scope is always the first of them, if it limits anything.
 *
 * @throws MillraceError `PARAMETER_INVALID` that names the parameter
 */
export function conditionsSql(conditions: LineConditions, scope: Scope): string[] {
  const { device, service, levels, stream, words = [], query, since, until } = conditions;
  if (words.length > maxWords || words.some((word) => word.length > maxWordChars)) {
    throw new MillraceError(
      'PARAMETER_INVALID',
      `words: more than ${maxWords}, or one of over ${maxWordChars} characters`,
    );
  }
  const where: string[] = [];
  const allowed = scopeSql(scope);
  if (allowed !== undefined) where.push(allowed);
  if (device !== undefined) {
    const devices = typeof device === 'string' ? [device] : device;
    where.push(devices.length === 0 ? 'false' : `device IN ${stringList(devices)}`);
  }
  if (service !== undefined) where.push(`service = ${string(service)}`);
  if (levels !== undefined) {
    const wrong = levels.find((level) => !isLevel(level));
    if (wrong !== undefined) throw new MillraceError('PARAMETER_INVALID', `level: "${wrong}" is none`);
    where.push(levels.length === 0 ? 'false' : `level IN ${stringList(levels)}`);
  }
  if (stream !== undefined) where.push(stream === 'stderr' ? 'is_stderr' : 'NOT is_stderr');
  for (const word of words) if (word !== '') where.push(containsSql(word));
  if (since !== undefined) where.push(`ts >= ${dateTime(clampTime(since))}`);
  if (until !== undefined) where.push(`ts < ${dateTime(clampTime(until))}`);
  if (query !== undefined && query.kind !== 'everything') where.push(querySql(query));
  return where;
}

export function whereSql(conditions: readonly string[]): string {
  return conditions.length === 0 ? '' : `WHERE ${conditions.join('\n  AND ')}`;
}

/** What DateTime64(3) can hold; a time beyond it means "no bound". */
export function clampTime(ms: number): number {
  return Math.min(Math.max(Math.trunc(ms), 0), 9_877_000_000_000);
}
