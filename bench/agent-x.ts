/*
 * What capturing costs: the agent's own process, with its journal, reads a million lines of a container's log file and
 * sends them over HTTP. Beside it, what `gzip -6` takes for the same bytes on the same machine.
 *
 *   npm run bench:agent                      a million lines of 242 bytes
 *   npm run bench:agent -- 200000            fewer
 *   npm run bench:agent -- 1000000 profile   leaves a .cpuprofile in that folder
 *
 * Counted is what the agent uses from the moment in which the container starts until all is acknowledged; starting up
 * is shown by itself.
 */
import { execFileSync, fork } from 'node:child_process';
import { createWriteStream, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { nodeEnv, nodeFlags } from '../packages/millrace/bin/flags.mjs';
import { freePort } from '../tests/support/ports.ts';
import { repository, startProgram } from '../tests/support/programs.ts';
import { tempDir } from '../tests/support/tmp.ts';
import { until } from '../tests/support/wait.ts';
import type { FarEndCount, FarEndStart } from './agent-far-end.ts';

const entryBytes = 242;
const containerId = 'c'.repeat(64);
const timeoutMs = 600_000;

const lines = Number(process.argv[2] ?? 1_000_000);
const profileDir = process.argv[3];
if (!Number.isSafeInteger(lines) || lines < 1)
  throw new Error('usage: npm run bench:agent [-- lines [folder]]');

await using dir = await tempDir('millrace-bench-');
const root = join(dir.path, 'docker');
const path = join(root, 'containers', containerId, `${containerId}-json.log`);
console.error(`writing ${lines} lines…`);
await writeLog();

using farEnd = fork(fileURLToPath(new URL('agent-far-end.ts', import.meta.url)));
farEnd.send({ socketPath: join(dir.path, 'docker.sock'), root, containerId } satisfies FarEndStart);
const cloudPort = await answer<number>();
const apiPort = await freePort();
await using agent = startProgram(
  [
    ...nodeFlags('agent'),
    ...(profileDir ? ['--cpu-prof', `--cpu-prof-dir=${profileDir}`] : []),
    join(repository, 'packages/millrace/bin/millrace.mjs'),
    'agent',
  ],
  {
    env: nodeEnv('agent', {
      DATA_DIR: join(dir.path, 'data'),
      DOCKER_HOST: `unix://${join(dir.path, 'docker.sock')}`,
      CLOUD_ENDPOINT: `http://127.0.0.1:${cloudPort}`,
      CLOUD_API_KEY: 'bench',
      DEVICE_API_PORT: String(apiPort),
      API_PORT: String(await freePort()),
      LOG_LEVEL: 'warn',
      // Node's own number, and not that of the tests' programs.
      UV_THREADPOOL_SIZE: '4',
    }) as Record<string, string>,
  },
);
await until(() =>
  fetch(`http://127.0.0.1:${apiPort}/v1/device`).then(
    ({ ok }) => ok,
    () => false,
  ),
);
const startUp = cpuSeconds(agent.pid);
const idleRssMb = memoryMb('VmRSS');
console.error('reading…');
const startMs = performance.now();
farEnd.send('start');
let count: FarEndCount = { lines: 0, wireBytes: 0 };
await until(
  async () => {
    farEnd.send('count');
    count = await answer<FarEndCount>();
    return count.lines >= lines;
  },
  { timeoutMs, what: () => `${lines} lines, got ${count.lines}\n${agent.stderr}` },
);
const seconds = (performance.now() - startMs) / 1000;
const cpu = cpuSeconds(agent.pid) - startUp;
const peakRssMb = memoryMb('VmHWM');
const written = Number(/^write_bytes: (\d+)/m.exec(readFileSync(`/proc/${agent.pid}/io`, 'utf8'))?.[1]);
await agent.end('SIGTERM');

console.error('gzip -6…');
const childrenBefore = childrenCpuSeconds();
execFileSync('sh', ['-c', 'gzip -6 <"$0" >/dev/null', path]);
const gzipCpu = childrenCpuSeconds() - childrenBefore;

const round = (value: number, digits: number) => Number(value.toFixed(digits));
console.log(`
lines                       ${lines} of ${entryBytes} bytes
seconds                     ${round(seconds, 2)}
CPU of the agent            ${round(cpu, 2)} s, and ${round(startUp, 2)} s to start up
CPU of gzip -6              ${round(gzipCpu, 2)} s
RSS                         ${idleRssMb} MB before, ${peakRssMb} MB at most
`);
console.log(
  JSON.stringify({
    linesPerCpuSecond: Math.round(lines / cpu),
    peakRssMb,
    wireBytesPerLine: round(count.wireBytes / lines, 1),
    diskBytesPerLine: round(written / lines, 1),
    cpuVsGzip: round(cpu / gzipCpu, 2),
  }),
);

/** A web server's log: JSON in JSON, most of which differs from line to line; each fifth line on stderr. */
async function writeLog(): Promise<void> {
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(
    join(path, '..', 'config.v2.json'),
    JSON.stringify({ ID: containerId, Name: '/web', Config: {} }),
  );
  const log = createWriteStream(path, { highWaterMark: 1024 * 1024 });
  const firstMs = Date.now() - 600_000;
  let text = '';
  for (let n = 0; n < lines; n++) {
    text += `${entry(n, firstMs + Math.floor((n * 500_000) / lines))}\n`;
    if (text.length < 1024 * 1024 && n < lines - 1) continue;
    if (!log.write(text)) await new Promise<void>((resolve) => log.once('drain', resolve));
    text = '';
  }
  log.end();
  await finished(log);
}

function entry(n: number, ms: number): string {
  const id = (n * 2_654_435_761) % 4_294_967_296;
  const isError = n % 5 === 4;
  const message = {
    level: isError ? 'error' : 'info',
    msg: `GET /api/orders/${id % 100_000} ${isError ? 500 : 200}`,
    request: id.toString(16).padStart(8, '0'),
    ms: (id % 9000) / 100,
    user: `user-${id % 5000}`,
  };
  const time = `${new Date(ms).toISOString().slice(0, -1)}${String(100_001 + (id % 800_000)).slice(0, 6)}Z`;
  const of = (pad: string) =>
    JSON.stringify({
      log: `${JSON.stringify({ ...message, pad })}\n`,
      stream: isError ? 'stderr' : 'stdout',
      time,
    });
  const bare = of('');
  return of('.'.repeat(Math.max(0, entryBytes - 1 - bare.length)));
}

function answer<T>(): Promise<T> {
  return new Promise((resolve) => farEnd.once('message', (message) => resolve(message as T)));
}

/** User and system time of a process, by /proc: ticks of 10 ms. */
function cpuSeconds(pid: number): number {
  const [user, system] = fieldsOf(pid).slice(11, 13);
  return (Number(user) + Number(system)) / 100;
}

/** That of the children of this process which have ended. */
function childrenCpuSeconds(): number {
  const [user, system] = fieldsOf(process.pid).slice(13, 15);
  return (Number(user) + Number(system)) / 100;
}

/** From the third on: the second may hold spaces. */
function fieldsOf(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

function memoryMb(name: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${agent.pid}/status`, 'utf8');
  return Math.round(Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024);
}
const gcs = agent.stdout.split('\n').filter((l) => /ms: /.test(l));
const by = new Map<string, [number, number]>();
for (const l of gcs) {
  const m = /ms: (\S+(?: \(\w+\))?).*? ([\d.]+) \/ [\d.]+ ms/.exec(l);
  if (!m) continue;
  const k = m[1] as string;
  const e = by.get(k) ?? [0, 0];
  e[0]++;
  e[1] += Number(m[2]);
  by.set(k, e);
}
console.error(by);
console.error(gcs.slice(-12).join('\n'));
