import { createHash } from 'node:crypto';
import { type Overlap, parseOverlaps } from '@millrace/wire';
import type { LogEngine } from './engine.ts';
import { rowSettings } from './row-format.ts';
import { dateTime, integer, string, stringList } from './sql.ts';

/** What a line is recognised by when it comes again under another journal id. */
export interface LineContent {
  container: string;
  service: string;
  /** Of two units of a system, which have neither container nor service, only this differs. */
  sourceName: string;
  isStdErr: boolean;
  timestampMs: number;
  message: string;
}

/** The same of two lines only if they are the same line, or were written within one millisecond with the same text. */
export function repeatKey(line: LineContent): string {
  const { container, service, sourceName, isStdErr, timestampMs, message } = line;
  // A container may be renamed meanwhile.
  const place = container !== '' ? container : `${service}\x1f${sourceName}`;
  return createHash('md5').update([place, isStdErr, timestampMs, message].join('\x1f')).digest('hex');
}

/** {@link repeatKey} of a row. */
const keySql = `lower(hex(MD5(concat(if(container != '', container, concat(service, ${string('\x1f')}, source_name)),
  ${string('\x1f')}, toString(is_stderr),
  ${string('\x1f')}, toString(toUnixTimestamp64Milli(ts)), ${string('\x1f')}, message))))`;

/** The lines of a journal from a seq on. */
export interface JournalPart {
  journal: string;
  from: number;
}

/** A line that was received: it is stored, or it repeats one that is. */
export interface ReceivedLine {
  journal: string;
  seq: number;
  key: string;
  isStored: boolean;
}

/** A line that was received, and is stored already under another journal's seq. */
export interface Repeat {
  seq: number;
  key: string;
  timestampMs: number;
}

/** What a device said of one of its journals. */
export interface ToldOverlaps {
  journal: string;
  overlaps: Overlap[];
}

/** Journals of a device of which is known what they overlap; the newest. */
export const maxToldJournals = 32;

/** What was told of the journals of some devices, in their order, of each the newest first. @throws StoreError */
export async function readOverlaps(
  engine: LogEngine,
  devices: readonly string[],
): Promise<readonly ToldOverlaps[][]> {
  const rows = await engine.query<{ device: string; journal: string; text: string }>(
    `SELECT device, journal, argMin(overlaps, told_ms) AS text FROM millrace.overlaps
     WHERE device IN ${stringList(devices)} GROUP BY device, journal
     ORDER BY device, min(told_ms) DESC LIMIT ${integer(maxToldJournals)} BY device`,
  );
  const byDevice = Map.groupBy(rows, ({ device }) => device);
  return devices.map((device) =>
    (byDevice.get(device) ?? []).map(({ journal, text }) => ({
      journal,
      overlaps: parseOverlaps(JSON.parse(text)),
    })),
  );
}

/** Resolves once it is on disk. @throws StoreError */
export async function saveOverlaps(
  engine: LogEngine,
  { device, told, token }: { device: string; told: ToldOverlaps; token: string },
): Promise<void> {
  const row = [device, told.journal, JSON.stringify(told.overlaps), Date.now()].join('\x1f');
  await engine.insertRows(Buffer.from(`${row}\n`), {
    table: 'millrace.overlaps',
    format: 'CSV',
    rows: 1,
    token,
    settings: rowSettings,
  });
}

/** Resolves once they are on disk. @throws StoreError */
export async function saveRepeats(
  engine: LogEngine,
  {
    device,
    journal,
    repeats,
    retentionDays,
    token,
  }: {
    device: string;
    journal: string;
    repeats: readonly Repeat[];
    retentionDays: number;
    token: string;
  },
): Promise<void> {
  const nowMs = Date.now();
  const rows = repeats.map(({ seq, key, timestampMs }) =>
    [device, journal, seq, key, timestampMs, nowMs, retentionDays].join('\x1f'),
  );
  await engine.insertRows(Buffer.from(`${rows.join('\n')}\n`), {
    table: 'millrace.repeats',
    format: 'CSV',
    rows: rows.length,
    token,
    settings: rowSettings,
  });
}

/** The earliest and the latest time of some lines that are stored; `undefined` when there are none. @throws StoreError */
export async function readTimes(
  engine: LogEngine,
  device: string,
  parts: readonly JournalPart[],
): Promise<{ fromMs: number; toMs: number } | undefined> {
  if (parts.length === 0) return undefined;
  const [row] = await engine.query<{ n: number; fromMs: number; toMs: number }>(
    `SELECT count() AS n, toUnixTimestamp64Milli(min(ts)) AS fromMs, toUnixTimestamp64Milli(max(ts)) AS toMs
     FROM millrace.logs WHERE device = ${string(device)} AND (${partsSql(parts)}) AND source_type != 'manager'`,
  );
  return row && row.n > 0 ? { fromMs: row.fromMs, toMs: row.toMs } : undefined;
}

/** Lines that are looked at together: what bounds the memory that a device whose lines all have one time can take. */
const maxReceived = 50_000;

/**
 * What was received of some journals, among the lines of the times `timesMs`; `undefined` when that is too much.
 * Lines of the device program itself are left out: they are in no engine's log and are never read again.
 *
 * @throws StoreError
 */
export async function readReceived(
  engine: LogEngine,
  device: string,
  journals: readonly string[],
  timesMs: readonly number[],
): Promise<ReceivedLine[] | undefined> {
  if (journals.length === 0 || timesMs.length === 0) return [];
  const times = [...new Set(timesMs)].sort((a, b) => a - b);
  const where = `device = ${string(device)} AND journal IN ${stringList(journals)}`;
  const list = times.map(integer).join(', ');
  const rows = await engine.query<Omit<ReceivedLine, 'isStored'> & { isStored: number }>(
    `SELECT * FROM (SELECT journal, seq, ${keySql} AS key, 1 AS isStored FROM millrace.logs
     WHERE ${where} AND source_type != 'manager'
       AND ts >= ${dateTime(times[0] as number)} AND ts <= ${dateTime(times.at(-1) as number)}
       AND toUnixTimestamp64Milli(ts) IN (${list})
     UNION ALL
     SELECT DISTINCT journal, seq, key, 0 AS isStored FROM millrace.repeats
     WHERE ${where} AND ts_ms IN (${list}))
     LIMIT ${maxReceived + 1}`,
  );
  if (rows.length > maxReceived) return undefined;
  return rows.map((row) => ({ ...row, isStored: row.isStored === 1 }));
}

function partsSql(parts: readonly JournalPart[]): string {
  return parts
    .map(({ journal, from }) => `(journal = ${string(journal)} AND seq >= ${integer(from)})`)
    .join(' OR ');
}
