/*
 * The reference of bench/cloud.ts, in a process of its own: the rows that the cloud would store go into the cloud's own
 * table with `Session.insert` of chdb and nothing else. The parent sends a BareStart and gets a BareResult.
 *
 * `columns`: JSON objects whose keys are the table's columns, straight into `millrace.logs`.
 * `rows`: the bytes that the cloud hands to its engine, into `millrace.log_arrivals`, whose view takes the lines apart.
 */
import { join } from 'node:path';
import { Session } from 'chdb';
import pino from 'pino';
import { openStore } from '../packages/cloud/src/store/index.ts';
import { encodeRows, rowSettings } from '../packages/cloud/src/store/row-format.ts';
import { indexSettings } from '../packages/cloud/src/store/text-index.ts';
import { encodeLine } from '../packages/wire/src/index.ts';
import { type BenchBatch, batchesOf, benchLine, deviceName, journalOf } from './cloud-lines.ts';

export interface BareStart {
  dataDir: string;
  lines: number;
  textIndex: boolean;
  as: 'columns' | 'rows';
}

export interface BareResult {
  seconds: number;
  cpuSeconds: number;
  bytesPerLine: number;
}

/** Lines in one insert: a flight of the cloud that is full. */
const insertLines = 65_000;

interface Insert {
  bytes: Buffer;
  rows: number;
}

process.once('message', async (start: BareStart) => {
  const { dataDir, textIndex, lines } = start;
  await using store = await openStore({ dataDir, textIndex, log: pino({ level: 'silent' }) });
  const { insert: indexes } = await indexSettings(store.engine);
  const inserts = start.as === 'columns' ? columnInserts(lines) : rowInserts(lines);
  // The store made the tables and the engine's configuration; a second session inserts.
  const session = new Session(join(dataDir, 'clickhouse'));
  const startMs = performance.now();
  const cpu = process.cpuUsage();
  for (const { bytes, rows } of inserts) {
    const { rowsWritten } = await session.insert(
      start.as === 'columns'
        ? {
            table: 'millrace.logs',
            values: bytes,
            format: 'JSONEachRow',
            settings: { ...wholeInserts, ...indexes },
          }
        : {
            table: 'millrace.log_arrivals',
            values: bytes,
            format: 'CSV',
            settings: { ...rowSettings, ...indexes },
          },
    );
    if (rowsWritten < rows) throw new Error(`${rowsWritten} of ${rows} rows were written`);
  }
  const seconds = (performance.now() - startMs) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  session.close();
  await store.engine.command('OPTIMIZE TABLE millrace.logs FINAL');
  const [sizes] = await store.engine.query<{ bytes: number; lines: number }>(
    `SELECT sum(bytes_on_disk) AS bytes, sum(rows) AS lines FROM system.parts WHERE active AND database = 'millrace' AND table = 'logs'`,
  );
  if (sizes?.lines !== lines) throw new Error(`${sizes?.lines} of ${lines} lines are stored`);
  const result: BareResult = {
    seconds,
    cpuSeconds: (user + system) / 1e6,
    bytesPerLine: sizes.bytes / lines,
  };
  process.send?.(result);
});

/** As the cloud's: one insert makes one part. */
const wholeInserts = {
  input_format_parallel_parsing: 0,
  max_insert_block_size: rowSettings.max_insert_block_size,
  min_insert_block_size_rows: rowSettings.min_insert_block_size_rows,
  min_insert_block_size_bytes: rowSettings.min_insert_block_size_bytes,
};

function columnInserts(lines: number): Insert[] {
  const receivedMs = Date.now();
  return inserted(lines, (batch, nth) => {
    let text = '';
    for (let i = 0; i < batch.count; i++) text += `${columnsOf(batch, i, receivedMs + nth)}\n`;
    return Buffer.from(text);
  });
}

/** What the view makes of the line. */
function columnsOf({ device, firstSeq }: BenchBatch, i: number, receivedMs: number): string {
  const line = benchLine(device, firstSeq + i);
  return JSON.stringify({
    device: deviceName(device),
    service: line.serviceName,
    ts: seconds(line.timestamp),
    seq: firstSeq + i,
    journal: journalOf(device),
    level: line.level,
    is_stderr: line.isStdErr,
    is_system: false,
    source_type: 'container',
    source_name: line.serviceName,
    app: '',
    service_id: null,
    container: line.containerId,
    message: line.message,
    fields: '',
    received: seconds(receivedMs),
    retention_days: 30,
  });
}

function seconds(ms: number): string {
  return `${Math.floor(ms / 1000)}.${String(ms % 1000).padStart(3, '0')}`;
}

function rowInserts(lines: number): Insert[] {
  const receivedMs = Date.now();
  return inserted(lines, (batch, nth) => {
    const { device, firstSeq, count } = batch;
    let text = '';
    for (let i = 0; i < count; i++) text += `${encodeLine(benchLine(device, firstSeq + i))}\n`;
    return encodeRows(
      { device: deviceName(device), journal: journalOf(device), firstSeq, count, lines: Buffer.from(text) },
      { receivedMs: receivedMs + nth, retention: 30 },
    );
  });
}

function inserted(lines: number, encode: (batch: BenchBatch, nth: number) => Buffer): Insert[] {
  const out: Insert[] = [];
  let pieces: Buffer[] = [];
  let rows = 0;
  const close = () => {
    if (rows > 0) out.push({ bytes: Buffer.concat(pieces), rows });
    pieces = [];
    rows = 0;
  };
  for (const batch of batchesOf(lines)) {
    pieces.push(encode(batch, out.length));
    rows += batch.count;
    if (rows >= insertLines) close();
  }
  close();
  return out;
}
