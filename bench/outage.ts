/*
 * A day without the cloud: a million lines go into a device's journal while the cloud is down, then the cloud comes
 * back. What that takes of memory, disk and CPU; how soon a line printed now is seen again; how long the backlog
 * takes; and whether the cloud then has every line once.
 *
 *   npm run bench:outage             1 000 000 lines
 *   npm run bench:outage -- 100000   fewer
 *
 * The device is this process, started as the agent is. The cloud is another, with its embedded store.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import pino from 'pino';
import { CloudLogBackend, FolderDisk, Journal } from '../packages/agent/src/index.ts';
import { readEvents } from '../packages/client/src/event-stream.ts';
import { isStartedFor, nodeEnv, nodeFlags } from '../packages/millrace/bin/flags.mjs';
import { adminToken, startTestCloud, type TestCloud } from '../tests/support/cloud.ts';
import { tempDir } from '../tests/support/tmp.ts';

if (!isStartedFor('agent')) {
  const args = [...nodeFlags('agent'), fileURLToPath(import.meta.url), ...process.argv.slice(2)];
  process.execve?.(process.execPath, [process.execPath, ...args], nodeEnv('agent', process.env));
}

const total = Number(process.argv[2] ?? 1_000_000);
if (!Number.isSafeInteger(total) || total < 1000) {
  console.error('usage: npm run bench:outage -- [lines, at least 1000]');
  process.exit(2);
}
const day = 24 * 3_600_000;
const containerId = 'c'.repeat(64);
const deviceUuid = 'bench-outage';
const apiKey = randomUUID();
const freshEveryMs = 50;
const maxDrainMs = 600_000;

const megabytes = (bytes: number) => Math.round(bytes / 1e5) / 10;
const seconds = (ms: number) => Math.round(ms / 10) / 100;
const cpuSeconds = (since?: NodeJS.CpuUsage) => {
  const { user, system } = process.cpuUsage(since);
  return (user + system) / 1e6;
};

await using dir = await tempDir('millrace-bench-');
console.error('starting a cloud, and ending it…');
await using cloud = await startTestCloud(`${dir.path}/cloud`);
await cloud.register(deviceUuid, apiKey);
await cloud.program.end('SIGTERM');

await using journal = new Journal({ disk: new FolderDisk(`${dir.path}/journal`) });
await using backend = new CloudLogBackend({
  cloudEndpoint: cloud.url,
  deviceUuid,
  apiKey,
  feed: journal.cursor('cloud'),
  log: pino({ level: 'silent' }),
});
await backend.connect();

console.error(`${total} lines while it is gone…`);
const outage = await writeBacklog();
console.error('the cloud comes back…');
const recovery = await recover(cloud);

const result = { lines: total, ...outage, ...recovery };
console.table(result);
console.log(JSON.stringify(result));
process.exitCode = recovery.lost === 0 && recovery.duplicated === 0 ? 0 : 1;

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

async function writeBacklog() {
  const { rss } = process.memoryUsage;
  const startMs = Date.now() - day;
  // Buffers and compiled code settle within the first tenth; growth counts from there.
  const settled = Math.floor(total / 10);
  let settledRss = 0;
  let peakRss = 0;
  const cpu = process.cpuUsage();
  for (let n = 1; n <= total; n++) {
    const timestamp = startMs + Math.floor((day * n) / total);
    const position = {
      key: `docker:${containerId}`,
      value: { out: { last: `${timestamp}000000`, n: 1 } },
    };
    journal.append({ message: requestLine(n), timestamp, serviceName: 'web', containerId }, position);
    const full = journal.ready();
    if (full) await full;
    if (n === settled) settledRss = rss();
    if (n > settled && n % 10_000 === 0) peakRss = Math.max(peakRss, rss());
    if (process.stderr.isTTY && n % 50_000 === 0) process.stderr.write(`\r${n} of ${total} lines`);
  }
  await journal.flush();
  if (process.stderr.isTTY) process.stderr.write('\r');
  const { diskBytes, writtenPerLogByte } = journal.stats();
  return {
    linesPerCpuSecond: Math.round(total / cpuSeconds(cpu)),
    rssGrowthMb: megabytes(peakRss - settledRss),
    peakRssMb: megabytes(peakRss),
    diskBytesPerLine: Math.round((diskBytes / total) * 10) / 10,
    writtenPerLogByte: Math.round(writtenPerLogByte * 1000) / 1000,
  };
}

async function recover(down: TestCloud) {
  await down.restart('SIGTERM');
  const upMs = performance.now();
  const seen = followFresh(down);
  const cpu = process.cpuUsage();
  const printedMs: number[] = [];
  let connectedMs: number | undefined;
  let drainedMs: number | undefined;
  while (drainedMs === undefined) {
    const now = performance.now();
    if (now - upMs > maxDrainMs) throw new Error(`not drained: ${JSON.stringify(backend.state)}`);
    if (backend.state.connected) connectedMs ??= now;
    if (connectedMs !== undefined && backend.state.lag < freshEveryMs) drainedMs = now;
    else {
      printedMs.push(now);
      journal.append({ message: String(printedMs.length - 1), serviceName: 'now' });
      await pause(freshEveryMs);
    }
  }
  const drainCpu = cpuSeconds(cpu);
  while (backend.state.lag > 0) await pause(freshEveryMs);
  const connected = connectedMs as number;
  const drainMs = drainedMs - connected;
  // The first fresh line: of those printed before the connection was there, or after it.
  const waits = printedMs.map(
    (printed, n) => (seen.atMs.get(n) ?? Number.NaN) - Math.max(printed, connected),
  );
  const firstFreshMs = Math.min(...seen.atMs.values()) - connected;
  await seen.end();
  const [device] = (await down.get<{ devices: { lines: number; missing: number }[] }>('/api/v1/devices'))
    .devices;
  const expected = total + printedMs.length;
  const distinct = expected - (device?.missing ?? expected);
  return {
    drainSeconds: seconds(drainMs),
    drainLinesPerSecond: Math.round(total / (drainMs / 1000)),
    drainCpuSeconds: seconds(drainCpu * 1000),
    firstFreshMs: Math.round(firstFreshMs),
    freshMaxMs: Math.round(Math.max(...waits)),
    lost: expected - distinct,
    duplicated: (device?.lines ?? 0) - distinct,
  };
}

/** When each of the fresh lines was seen by someone who follows the logs. */
function followFresh(up: TestCloud) {
  const over = new AbortController();
  const atMs = new Map<number, number>();
  const following = (async () => {
    const response = await fetch(`${up.url}/api/v1/logs/tail?service=now`, {
      headers: { authorization: `Bearer ${adminToken}` },
      signal: over.signal,
    });
    if (!response.ok || !response.body) throw new Error(`the tail answers ${response.status}`);
    for await (const { type, data } of readEvents(response.body)) {
      if (type !== 'log') continue;
      atMs.set(Number((JSON.parse(data) as { message: string }).message), performance.now());
    }
  })();
  following.catch((error) => {
    if (!over.signal.aborted) console.error(`the tail: ${error}`);
  });
  return {
    atMs,
    async end() {
      over.abort();
      await following.catch(() => undefined);
    },
  };
}
