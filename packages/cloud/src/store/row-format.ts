import { MillraceError } from '@millrace/wire';
import type { Retention } from './retention-plan.ts';

/**
 * How rows travel into the store: CSV without quoting, unit separator (0x1f) between columns, newline behind each.
 *
 *   <seq> 1f <received, ms> 1f <retention> 1f <device> 1f <journal> 1f <the line as it came> 0a
 *
 * The retention is a number of days, or a plan (`retention-plan.ts`) by which ClickHouse finds it for each line.
 *
 * The line, a JSON object, is taken apart inside ClickHouse by a materialized view. Framing by position, and not
 * by JSON keys, is what keeps devices apart: whatever a line holds, it cannot reach the columns before it, it
 * cannot begin another row, and one that is no JSON at all is kept as text instead of failing the insert that it
 * shares with the lines of others. What can break the frame is 0x0a, 0x1f, and 0x0d at the end of a line, none of
 * which valid JSON holds inside a value; whoever makes rows checks for all three.
 */
export const rowSeparator = 0x1f;
const newline = 0x0a;
const zero = 0x30;

export const rowColumns = ['seq', 'received_ms', 'retention', 'device', 'journal', 'line'] as const;

/** The columns with their types, as {@link InsertFence} wants them. */
export const rowStructure =
  'seq UInt64, received_ms Int64, retention String, device String, journal String, line String';

/** What the engine must be told to read the rows as they are meant. */
export const rowSettings = {
  format_csv_delimiter: '\x1f',
  format_csv_allow_double_quotes: 0,
  format_csv_allow_single_quotes: 0,
  input_format_csv_trim_whitespaces: 0,
  input_format_csv_empty_as_default: 0,
  input_format_null_as_default: 0,
  // A whole insert is one block, hence one part: it is committed as a whole or not at all.
  input_format_parallel_parsing: 0,
  max_insert_block_size: 1_048_576,
  min_insert_block_size_rows: 1_048_576,
  min_insert_block_size_bytes: 268_435_456,
} as const;

/** A run of lines of one device and journal with consecutive seqs. */
export interface RowRun {
  device: string;
  journal: string;
  firstSeq: number;
  count: number;
  /** `count` lines, each ended by a newline, none of which holds 0x0d or 0x1f. */
  lines: Uint8Array;
}

/**
 * Writes the rows of a run. The only thing done per line is copying it.
 *
 * @param into written to from its beginning, when it is large enough for rows as long as these could get
 * @returns the rows: a view of `into`, else memory of their own
 */
export function encodeRows(
  run: RowRun,
  stamp: { receivedMs: number; retention: Retention },
  into?: Buffer,
): Buffer {
  const separator = '\x1f';
  const constant = Buffer.from(
    `${separator}${stamp.receivedMs}${separator}${stamp.retention}${separator}${run.device}${separator}${run.journal}${separator}`,
  );
  const lines = Buffer.from(run.lines.buffer, run.lines.byteOffset, run.lines.byteLength);
  const digits = String(run.firstSeq + run.count).length;
  const most = lines.length + run.count * (constant.length + digits);
  const out = into && into.length >= most ? into : Buffer.allocUnsafe(most);
  let from = 0;
  let at = 0;
  for (let i = 0; i < run.count; i++) {
    const end = lines.indexOf(newline, from) + 1;
    if (end === 0) throw new MillraceError('INTERNAL', `a run of ${run.count} lines holds only ${i}`);
    at = writeDecimal(out, at, run.firstSeq + i);
    at += constant.copy(out, at);
    at += lines.copy(out, at, from, end);
    from = end;
  }
  return out.subarray(0, at);
}

function writeDecimal(out: Buffer, at: number, value: number): number {
  let length = 1;
  for (let rest = value; rest >= 10; rest = Math.floor(rest / 10)) length++;
  let rest = value;
  for (let i = at + length - 1; i >= at; i--) {
    const next = Math.floor(rest / 10);
    out[i] = zero + (rest - next * 10);
    rest = next;
  }
  return at + length;
}

/** Calls `each` with the line of every row, newline left out. */
export function forEachRowLine(rows: Uint8Array, each: (line: Uint8Array, index: number) => void): void {
  let position = 0;
  for (let index = 0; position < rows.length; index++) {
    const end = rows.indexOf(newline, position);
    let from = position;
    for (let column = 1; column < rowColumns.length; column++) from = rows.indexOf(rowSeparator, from) + 1;
    each(rows.subarray(from, end), index);
    position = end + 1;
  }
}

/**
 * A device's name that the row format can carry.
 *
 * @throws MillraceError `PARAMETER_INVALID` when it is empty, too long or holds control characters
 */
export function checkDeviceName(device: string): string {
  if (device.length === 0 || device.length > 256 || /\p{Cc}/u.test(device) || !device.isWellFormed()) {
    throw new MillraceError(
      'PARAMETER_INVALID',
      'a device name has 1 to 256 characters and no control characters',
    );
  }
  return device;
}
