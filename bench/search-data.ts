/*
 * The lines that bench/search.ts searches, made by the engine itself, in a process of its own: of 200 devices with five
 * services each, over the past seven days. The parent sends a DataStart and gets a DataMade.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import pino from 'pino';
import { openStore } from '../packages/cloud/src/store/index.ts';
import { deviceCount } from './cloud-lines.ts';

export interface DataStart {
  /** The cloud's data folder. */
  dataDir: string;
  lines: number;
  /** Where the messages go as text, a line each; for grep. */
  textFile: string;
}

export interface DataMade {
  bytesPerLine: number;
  parts: number;
}

export const days = 7;
const dayMs = 24 * 3_600_000;
const linesPerInsert = 1_000_000;

process.once('message', async ({ dataDir, lines, textFile }: DataStart) => {
  const log = pino({ level: 'silent' });
  await using store = await openStore({ dataDir: join(dataDir, 'store'), log });
  const untilMs = Date.now();
  const perDay = Math.ceil(lines / days);
  for (let day = 0; day < days; day++) {
    const end = Math.min(lines, (day + 1) * perDay);
    for (let from = day * perDay; from < end; from += linesPerInsert) {
      const to = Math.min(end, from + linesPerInsert);
      await store.engine.command(insertSql({ from, to, lines, sinceMs: untilMs - days * dayMs }));
      console.error(`${to} of ${lines} lines`);
    }
  }
  const isMerging = async () =>
    (await store.engine.query<{ n: number }>('SELECT count() AS n FROM system.merges'))[0]?.n !== 0;
  while (await isMerging()) await new Promise((resolve) => setTimeout(resolve, 200));
  const [made] = await store.engine.query<DataMade>(
    `SELECT sum(bytes_on_disk) / sum(rows) AS bytesPerLine, count() AS parts FROM system.parts
     WHERE active AND database = 'millrace' AND table = 'logs'`,
  );
  await store.engine.command(
    `INSERT INTO FUNCTION file('${textFile}', 'LineAsString', 'line String') SELECT message FROM millrace.logs`,
  );
  // What is dirty cannot be dropped from memory later.
  execFileSync('sync', [textFile]);
  process.send?.(made);
});

/** Messages hold ids and numbers that hardly repeat; a few lines in a million hold what is searched for. */
function insertSql(part: { from: number; to: number; lines: number; sinceMs: number }): string {
  const { from, to, lines, sinceMs } = part;
  const message = `multiIf(
    number % 1000003 = 777, concat('payment gateway unreachable: needleword-', toString(number), ' after 3 attempts'),
    number % 200003 = 99, concat('upstream orders-3: circuit breaker opened after ', toString(h % 90), ' failures'),
    s = 0, concat('10.0.', toString(h % 250), '.', toString(b % 250), ' - - "GET /api/v1/orders/', toString(b % 100000), '/items HTTP/1.1" ', if(l = 3, '502 ', '200 '), toString(h % 9973)),
    s = 1, concat('{"level":"', ['debug','info','warn','error'][l + 1], '","msg":"order ', toString(b % 100000), ' confirmed","trace_id":"', lower(hex(h)), '","took_ms":', toString(b % 900), '}'),
    s = 2, concat('level=', ['debug','info','warn','error'][l + 1], ' msg="upstream answered" upstream=orders-', toString(b % 7), ' status=', if(l = 3, '504', '200'), ' duration=', toString(h % 900), 'ms request_id=', lower(hex(h))),
    s = 3, concat('reading stored sensor=temperature-', toString(b % 40), ' value=', toString((h % 4000) / 100), ' battery=', toString(b % 100)),
    concat('LOG:  duration: ', toString(h % 900), ' ms  statement: SELECT * FROM orders WHERE id = ', toString(b % 100000), if(b % 50000 = 1, ' -- timeout after 45000 ms', '')))`;
  return `INSERT INTO millrace.logs (device, service, ts, seq, journal, level, is_stderr, source_name, container, message, received)
SELECT concat('bench-device-', leftPad(toString(d), 4, '0')), ['web', 'orders', 'gateway', 'sensor-reader', 'postgres'][s + 1],
  fromUnixTimestamp64Milli(at), intDiv(number, ${deviceCount}) + 1, concat('bench', leftPad(toString(d), 11, '0')),
  CAST(l AS Enum8('debug' = 0, 'info' = 1, 'warn' = 2, 'error' = 3)), l = 3,
  ['web', 'orders', 'gateway', 'sensor-reader', 'postgres'][s + 1], lower(hex(MD5(concat(toString(d), toString(s))))),
  ${message}, fromUnixTimestamp64Milli(at + 500)
FROM (
  SELECT number, number % ${deviceCount} AS d, cityHash64(number) AS h, intDiv(h, 4294967296) AS b, b % 5 AS s,
    multiIf(h % 50 = 7, 3, h % 20 = 3, 2, h % 10 = 1, 0, 1) AS l,
    toInt64(${sinceMs} + intDiv(number * ${days * dayMs}, ${lines})) AS at
  FROM numbers(${from}, ${to - from}))
SETTINGS max_insert_block_size = ${linesPerInsert}, min_insert_block_size_rows = ${linesPerInsert},
  min_insert_block_size_bytes = 0, max_partitions_per_insert_block = 0`;
}
