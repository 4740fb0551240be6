/**
 * A million lines while the cloud is gone: what the agent's journal takes of memory and disk, and how fast the
 * backlog is read once somebody wants it.
 *
 *   npm run bench:outage [lines]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FolderDisk, Journal } from '../packages/agent/src/index.ts';

const total = Number(process.argv[2] ?? 1_000_000);
if (!Number.isSafeInteger(total) || total < 1) {
  console.error('usage: npm run bench:outage [lines]');
  process.exit(2);
}
const dir = mkdtempSync(join(tmpdir(), 'millrace-bench-'));
process.on('exit', () => rmSync(dir, { recursive: true, force: true }));

const megabytes = (bytes: number) => Math.round(bytes / 1e5) / 10;
const rss = () => process.memoryUsage().rss;
const containerId = 'c'.repeat(64);

/** About 242 bytes of JSON, most of which differs from line to line. */
function requestLine(n: number): string {
  const id = (n * 2_654_435_761) % 4_294_967_296;
  const line = {
    time: new Date(1_790_000_000_000 + n).toISOString(),
    level: 'info',
    msg: `GET /api/orders/${id % 100_000} ${n % 17 === 0 ? 404 : 200}`,
    request: id.toString(16).padStart(8, '0'),
    ms: (id % 9000) / 100,
    user: `user-${id % 5000}`,
  };
  return JSON.stringify(line).padEnd(241, '.');
}

const journal = new Journal({ disk: new FolderDisk(dir) });
const cursor = journal.cursor('cloud');
// Buffers and compiled code settle within the first tenth; growth counts from there.
const settled = Math.floor(total / 10);
let settledRss = 0;
let peakRss = 0;
const start = performance.now();
const startCpu = process.cpuUsage();
for (let n = 1; n <= total; n++) {
  const position = {
    key: `docker:${containerId}`,
    value: { out: { last: `${1_790_000_000_000 + n}000000`, n: 1 } },
  };
  journal.append(
    { message: requestLine(n), timestamp: 1_790_000_000_000 + n, serviceName: 'web', containerId },
    position,
  );
  const full = journal.ready();
  if (full) await full;
  if (n === settled) settledRss = rss();
  if (n > settled && n % 10_000 === 0) peakRss = Math.max(peakRss, rss());
  if (process.stderr.isTTY && n % 50_000 === 0) process.stderr.write(`\r${n} of ${total} lines`);
}
await journal.flush();
const writeMs = performance.now() - start;
const cpu = process.cpuUsage(startCpu);
const { diskBytes, writtenPerLogByte } = journal.stats();

const drainStart = performance.now();
let read = 0;
while (read < total) {
  const batch = await cursor.next();
  if (!batch) break;
  read += batch.header.count;
  cursor.ack(batch.header.journal, batch.lastSeq);
}
const drainMs = performance.now() - drainStart;
await journal.close();

const result = {
  lines: total,
  linesPerCpuSecond: Math.round(total / ((cpu.user + cpu.system) / 1e6)),
  rssGrowthMb: megabytes(peakRss - settledRss),
  peakRssMb: megabytes(peakRss),
  diskMb: megabytes(diskBytes),
  diskBytesPerLine: Math.round((diskBytes / total) * 10) / 10,
  writtenPerLogByte: Math.round(writtenPerLogByte * 1000) / 1000,
  writeSeconds: Math.round(writeMs / 100) / 10,
  drainLinesPerSecond: Math.round(read / (drainMs / 1000)),
};
if (process.stderr.isTTY) process.stderr.write('\r');
console.table(result);
console.log(JSON.stringify(result));
