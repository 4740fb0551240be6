import { type Level, levels } from '@millrace/wire';

/**
 * How long lines are kept: days, or a plan that says it by level and service.
 *
 * A plan travels in every row that it is for, so no process and no store has to know of it beforehand, and
 * ClickHouse, which takes the line apart anyway, finds the days (migrations/0003-retention.ts):
 *
 *   ,003030030090                     debug 3 days, info and warn 30, error 90
 *   ,003030030090 1e web 1e 001…      and for the service "web" others
 */
export type Retention = number | RetentionPlan;

export type RetentionPlan = string & { readonly retentionPlan: unique symbol };

/** Days for each level. */
export type DaysByLevel = Record<Level, number>;

const separator = '\x1e';

/** Plain days where nothing tells lines apart. */
export function retentionPlan(general: DaysByLevel, services: ReadonlyMap<string, DaysByLevel>): Retention {
  const days = digitsOf(general);
  const exceptions = [...services].map(([service, byLevel]) => ({ service, digits: digitsOf(byLevel) }));
  if (exceptions.every(({ digits }) => digits === days) && new Set(Object.values(general)).size === 1) {
    return general.info;
  }
  const named = exceptions.map(({ service, digits }) => `${separator}${service}${separator}${digits}`);
  return `,${days}${named.join('')}` as RetentionPlan;
}

/** The longest that any line is kept by it. */
export function longestDays(retention: Retention): number {
  if (typeof retention === 'number') return retention;
  const lists = retention
    .slice(1)
    .split(separator)
    .filter((_, index) => index % 2 === 0);
  return Math.max(...lists.flatMap((list) => list.match(/\d{3}/g) ?? []).map(Number));
}

function digitsOf(byLevel: DaysByLevel): string {
  return levels.map((level) => String(byLevel[level]).padStart(3, '0')).join('');
}
