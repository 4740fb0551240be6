import { type Scope, scopeSql, unlimited } from '../query/index.ts';
import type { LogEngine } from './engine.ts';
import { journalsSettings } from './journals.ts';
import { integer, string } from './sql.ts';

/** What a device sent on one day. */
export interface DayUsage {
  device: string;
  /** Day of arrival, `2026-11-20`, UTC. */
  day: string;
  lines: number;
  /** Bytes of messages and fields, uncompressed. */
  bytes: number;
}

export interface UsageQuery {
  /** Days of arrival, both included. */
  from: string;
  to: string;
  device?: string;
  /** Whose usage may be seen; default: everybody's. */
  scope?: Scope;
  /** Behind this one, in the order of the answer: by day, then by device. */
  after?: { day: string; device: string };
  limit?: number;
}

/**
 * What arrived, by device and day, whether it is still stored or not. Read from the projection `day_marks`, and not
 * from the lines.
 *
 * @throws StoreError
 */
export function readUsage(engine: LogEngine, query: UsageQuery): Promise<DayUsage[]> {
  const { from, to, device, scope = unlimited, after, limit } = query;
  const allowed = scopeSql(scope);
  const ofDevice = [
    ...(allowed ? [allowed] : []),
    ...(device === undefined ? [] : [`device = ${string(device)}`]),
  ];
  const between = (day: string) =>
    [...ofDevice, `${day} >= toDate(${string(from)})`, `${day} <= toDate(${string(to)})`].join(' AND ');
  const behind =
    after === undefined
      ? ''
      : `HAVING (day, device) > (toDate(${string(after.day)}), ${string(after.device)})`;
  return engine.query<DayUsage>(
    `SELECT device, day, sum(n) AS lines, sum(size) AS bytes FROM (
       SELECT device, toDate(received) AS day, count() AS n, sum(length(message) + length(fields)) AS size
       FROM millrace.logs WHERE ${between('toDate(received)')} GROUP BY device, day
       UNION ALL
       SELECT device, day, lines AS n, bytes AS size FROM millrace.usage_gone FINAL WHERE ${between('day')}
         AND (part != '' OR concat('(\\'', toString(day), '\\',', toString(retention_days), ')') NOT IN (
           SELECT partition FROM system.parts WHERE database = 'millrace' AND table = 'logs' AND active)))
     GROUP BY device, day ${behind} ORDER BY day, device ${limit === undefined ? '' : `LIMIT ${integer(limit)}`}`,
    journalsSettings,
  );
}

/** Lines that left together. */
export interface Removal {
  /** Day of arrival. */
  day: string;
  retentionDays: number;
  why: 'expired' | 'disk-cap' | 'deleted';
  lines: number;
  bytes: number;
  /** Ms since 1970. */
  removedAt: number;
}

/** The last removals, the newest first. @throws StoreError */
export function readRemovals(engine: LogEngine, most: number): Promise<Removal[]> {
  return engine.query<Removal>(
    `SELECT day, retention_days AS retentionDays, why, sum(lines) AS lines, sum(bytes) AS bytes,
       toUnixTimestamp64Milli(max(removed)) AS removedAt
     FROM millrace.usage_gone FINAL GROUP BY day, retention_days, part, why
     ORDER BY removedAt DESC, day DESC LIMIT ${integer(most)}`,
  );
}
