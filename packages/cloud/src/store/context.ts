import { type Context, MillraceError } from '@millrace/wire';
import { type Scope, scopeSql } from '../query/index.ts';
import { whereSql } from './conditions.ts';
import type { Select } from './log-reader.ts';
import { type LogRow, lineOf, positionSql, selectLines } from './search.ts';
import { integer, string } from './sql.ts';

export interface ContextQuery {
  /** May be left out where only one device has the line. */
  device?: string;
  journal: string;
  seq: number;
  /** Lines before and after it, 0 to {@link maxContextLines} each. */
  before: number;
  after: number;
  /** From the same container (or the same other source, for a line of no container), or from the whole device. */
  within: 'container' | 'device';
}

export const maxContextLines = 1000;

export async function readContext(select: Select, query: ContextQuery, scope: Scope): Promise<Context> {
  const { journal, seq, before, after, within } = query;
  for (const [name, count] of [
    ['before', before],
    ['after', after],
  ] as const) {
    if (!Number.isInteger(count) || count < 0 || count > maxContextLines) {
      throw new MillraceError(
        'PARAMETER_INVALID',
        `${name}: ${count} is not between 0 and ${maxContextLines}`,
      );
    }
  }
  const allowed = scopeSql(scope);
  const permitted = allowed === undefined ? [] : [allowed];
  const device = query.device ?? (await deviceOf(select, { journal, seq }, permitted));
  const one = [
    ...permitted,
    `device = ${string(device)}`,
    `journal = ${string(journal)}`,
    `seq = ${integer(seq)}`,
  ];
  const [row] = await select<LogRow>(selectLines(one, 'asc', 1));
  if (!row) throw new MillraceError('NOT_FOUND', `${device} has no line ${journal}-${seq}`);
  const near = [
    ...permitted,
    `device = ${string(device)}`,
    ...(within === 'container' ? sameSource(row) : []),
  ];
  const position = { ts: row.timestampMs, device, journal, seq };
  const side = async (order: 'asc' | 'desc', count: number) => {
    if (count === 0) return [];
    return select<LogRow>(selectLines([...near, positionSql(position, order)], order, count));
  };
  const [earlier, later] = await Promise.all([side('desc', before), side('asc', after)]);
  return { line: lineOf(row), before: earlier.reverse().map(lineOf), after: later.map(lineOf) };
}

/**
 * The device that has a line. Most journals belong to one device, which the store knows without reading a line; the
 * cloud's own, of lines that came without a number, holds those of many.
 */
async function deviceOf(
  select: Select,
  { journal, seq }: { journal: string; seq: number },
  permitted: readonly string[],
): Promise<string> {
  const find = (conditions: readonly string[]) =>
    select<{ device: string }>(
      `SELECT device FROM millrace.logs ${whereSql([...permitted, ...conditions])} GROUP BY device ORDER BY device LIMIT 2`,
    );
  const ofJournal = `journal = ${string(journal)}`;
  let devices = await find([ofJournal]);
  if (devices.length > 1) devices = await find([ofJournal, `seq = ${integer(seq)}`]);
  const [only, another] = devices;
  if (!only) throw new MillraceError('NOT_FOUND', `there is no line ${journal}-${seq}`);
  if (another) {
    throw new MillraceError(
      'PARAMETER_INVALID',
      `device: several have a line ${journal}-${seq}; name the one meant`,
    );
  }
  return only.device;
}

function sameSource(row: LogRow): string[] {
  if (row.container !== '') return [`container = ${string(row.container)}`];
  return [
    `container = ''`,
    `service = ${string(row.service)}`,
    `source_type = ${string(row.source_type)}`,
    `source_name = ${string(row.source_name)}`,
  ];
}
