import { devicesSql } from '../query/index.ts';
import { journalsSql } from './journals.ts';
import { ownJournalSql } from './own-journals.ts';
import { integer, string } from './sql.ts';

/** What the store knows of a device by its lines. */
export interface DeviceStats {
  device: string;
  lines: number;
  /** Bytes of messages and fields, uncompressed. */
  bytes: number;
  /** Seqs between the lowest and the highest of each journal that were not received. */
  missing: number;
  /** Arrival of the oldest line still stored, ms since 1970. */
  firstSeen: number;
  lastSeen: number;
}

/** Which devices' figures are wanted. */
export interface DeviceStatsFilter {
  /** Only these. */
  devices?: readonly string[];
  /** Behind this one, by name. */
  after?: string;
  limit?: number;
}

export function deviceStatsSql({ devices, after, limit }: DeviceStatsFilter = {}): string {
  const conditions = [
    ...(devices === undefined ? [] : [devicesSql(new Set(devices))]),
    ...(after === undefined ? [] : [`device > ${string(after)}`]),
  ];
  return `SELECT device, sum(stored) AS lines, sum(size) AS bytes,
  sumIf(greatest(toInt64(high - low + 1) - toInt64(n), 0), NOT ${ownJournalSql}) AS missing,
  toUnixTimestamp64Milli(min(firstReceived)) AS firstSeen, toUnixTimestamp64Milli(max(lastReceived)) AS lastSeen
FROM (${journalsSql(conditions)})
GROUP BY device ORDER BY device${limit === undefined ? '' : ` LIMIT ${integer(limit)}`}`;
}
