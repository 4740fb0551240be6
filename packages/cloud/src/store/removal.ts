import { setTimeout as pause } from 'node:timers/promises';
import { type LogEngine, StoreError, shortReason } from './engine.ts';
import { dateTime, integer, string } from './sql.ts';

/** Why lines were removed. */
export type RemovalReason = 'expired' | 'disk-cap' | 'deleted';

/** Lines that arrived on one day and are kept equally long: what is dropped at once. */
export interface Partition {
  /** Day of arrival, `2026-11-20`, UTC. */
  day: string;
  retentionDays: number;
  lines: number;
  bytesOnDisk: number;
}

const mutationPollMs = 100;

/** Tables whose rows say which seqs were received. */
const tables = ['logs', 'repeats'] as const;
type Table = (typeof tables)[number];

/** Partitions with lines, the oldest day first, and of a day those kept shortest. @throws StoreError */
export async function readPartitions(engine: LogEngine): Promise<Partition[]> {
  const rows = await engine.query<{ name: string; lines: number; bytesOnDisk: number }>(
    `SELECT partition AS name, sumIf(rows, table = 'logs') AS lines, sum(bytes_on_disk) AS bytesOnDisk
     FROM system.parts WHERE database = 'millrace' AND table IN ('logs', 'repeats') AND active
     GROUP BY name ORDER BY name`,
  );
  const partitions = rows.flatMap(({ name, lines, bytesOnDisk }) => {
    const [, day, days] = /^\('(\d{4}-\d\d-\d\d)',(\d+)\)$/.exec(name) ?? [];
    return day === undefined ? [] : [{ day, retentionDays: Number(days), lines, bytesOnDisk }];
  });
  return partitions.sort((a, b) =>
    a.day === b.day ? a.retentionDays - b.retentionDays : a.day < b.day ? -1 : 1,
  );
}

/** Bytes on disk of what is stored. What was merged lies beside it for some minutes more. @throws StoreError */
export async function readDiskBytes(engine: LogEngine): Promise<number> {
  const [row] = await engine.query<{ bytes: number }>(
    `SELECT sum(bytes_on_disk) AS bytes FROM system.parts WHERE database = 'millrace' AND active`,
  );
  return row?.bytes ?? 0;
}

/**
 * Removes a partition as a whole. First it is noted what its lines were: a crash in between leaves lines that are
 * noted and still there, and whoever reads the notes bears with that. Several processes may do it at once.
 *
 * @throws StoreError
 */
export async function dropPartition(
  engine: LogEngine,
  partition: Partition,
  why: RemovalReason,
): Promise<void> {
  const { day, retentionDays } = partition;
  const inPartition = (received: string) =>
    `toDate(${received}) = toDate(${string(day)}) AND retention_days = ${integer(retentionDays)}`;
  await noteSeqs(engine, 'logs', inPartition('received'));
  await noteSeqs(engine, 'repeats', inPartition("fromUnixTimestamp64Milli(received_ms, 'UTC')"));
  await noteUsage(engine, inPartition('received'), { part: '', why });
  for (const table of tables) {
    await engine.command(
      `ALTER TABLE millrace.${table} DROP PARTITION (${string(day)}, ${integer(retentionDays)})`,
    );
  }
}

/**
 * Removes about the oldest lines of a partition that is still being written to: its parts are dropped in the order
 * of their beginnings, never the last one. Returns the bytes that it had on disk, or 0 when there is nothing to drop.
 *
 * @throws StoreError
 */
export async function dropOldestPart(engine: LogEngine, { day, retentionDays }: Partition): Promise<number> {
  const parts = await engine.query<{ name: string; bytes: number }>(
    `SELECT name, bytes_on_disk AS bytes FROM system.parts
     WHERE database = 'millrace' AND table = 'logs' AND active
       AND partition = ${string(`('${day}',${retentionDays})`)}
     ORDER BY min_block_number LIMIT 2`,
  );
  const [oldest, another] = parts;
  if (!oldest || !another) return 0;
  const inPart = `_part = ${string(oldest.name)}`;
  await noteSeqs(engine, 'logs', inPart);
  await noteUsage(engine, inPart, { part: oldest.name, why: 'disk-cap' });
  // Fails when it was merged with another meanwhile; then what is noted is noted, and the next round takes that one.
  await engine.command(`ALTER TABLE millrace.logs DROP PART ${string(oldest.name)}`);
  return oldest.bytes;
}

export interface Deletion {
  device: string;
  /** Lines with a time of their own before this one, ms since 1970; all when left out. */
  beforeMs?: number;
  /** Lines that arrived up to now; what is on its way was not meant. */
  arrivedByMs: number;
}

/**
 * Deletes lines of a device, from the disk too: parts that hold any are rewritten without. Resolves, with how many
 * lines they were, when that is done.
 *
 * @throws StoreError
 */
export async function deleteLines(
  engine: LogEngine,
  deletion: Deletion,
): Promise<{ lines: number; bytes: number }> {
  const { device, beforeMs, arrivedByMs } = deletion;
  const where = [
    `device = ${string(device)}`,
    `received <= ${dateTime(arrivedByMs)}`,
    ...(beforeMs === undefined ? [] : [`ts < ${dateTime(beforeMs)}`]),
  ].join(' AND ');
  await noteSeqs(engine, 'logs', where);
  const part = string(`deleted ${arrivedByMs}`);
  const usage = await engine.query<{ day: string; retentionDays: number; lines: number; bytes: number }>(
    `SELECT toString(toDate(received)) AS day, retention_days AS retentionDays, count() AS lines,
       sum(length(message) + length(fields)) AS bytes
     FROM millrace.logs WHERE ${where} GROUP BY day, retentionDays`,
  );
  if (usage.length === 0) return { lines: 0, bytes: 0 };
  await engine.command(`ALTER TABLE millrace.logs DELETE WHERE ${where} SETTINGS mutations_sync = 0`);
  await mutationsDone(engine);
  // Behind the deletion: lines that count as both would be used up twice. What a crash in between costs is a figure.
  const rows = usage.map(
    ({ day, retentionDays, lines, bytes }) =>
      `SELECT ${string(device)}, toDate(${string(day)}), ${integer(retentionDays)}, ${part}, 'deleted',
         ${integer(lines)}, ${integer(bytes)}, now64(3)`,
  );
  await engine.command(`INSERT INTO millrace.usage_gone ${rows.join(' UNION ALL ')}`);
  return {
    lines: usage.reduce((sum, row) => sum + row.lines, 0),
    bytes: usage.reduce((sum, row) => sum + row.bytes, 0),
  };
}

/** Not left to the statement itself: a server's answer may take longer than anybody waits for one. */
async function mutationsDone(engine: LogEngine): Promise<void> {
  for (;;) {
    const [running] = await engine.query<{ n: number; reason: string }>(
      `SELECT count() AS n, max(latest_fail_reason) AS reason FROM system.mutations
       WHERE database = 'millrace' AND table = 'logs' AND NOT is_done`,
    );
    if (!running?.n) return;
    if (running.reason !== '')
      throw new StoreError(`a deletion does not succeed: ${shortReason(running.reason)}`);
    await pause(mutationPollMs);
  }
}

async function noteSeqs(engine: LogEngine, table: Table, where: string): Promise<void> {
  await engine.command(
    `INSERT INTO millrace.gone
     SELECT device, journal, intDiv(seq, 65536) AS block, groupBitmapState(toUInt16(seq % 65536)), now()
     FROM millrace.${table} WHERE ${where} GROUP BY device, journal, block`,
  );
}

async function noteUsage(
  engine: LogEngine,
  where: string,
  { part, why }: { part: string; why: RemovalReason },
): Promise<void> {
  await engine.command(
    `INSERT INTO millrace.usage_gone
     SELECT device, toDate(received) AS day, retention_days, ${string(part)}, ${string(why)}, count(),
       sum(length(message) + length(fields)), now64(3)
     FROM millrace.logs WHERE ${where} GROUP BY device, day, retention_days`,
  );
}
