/*
 * Whether every line arrives of a container that writes as fast as a real engine takes it, into a log of which the
 * engine keeps next to nothing: a file lives for some milliseconds, and what the agent has not opened by then is gone.
 *
 *   npm run bench:agent:rotation                            ten times 150000 lines, three files of 100 kB kept
 *   npm run bench:agent:rotation -- --runs 3 --lines 1000000
 *   npm run bench:agent:rotation -- --load 2                beside two processes that never rest
 *   npm run bench:agent:rotation -- --max-size 50k --max-file 2
 */
import { execFileSync, spawn } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { rotationBytes } from '../packages/agent/src/docker/rotation.ts';
import { startEngine, type TestEngine } from '../tests/support/docker.ts';
import { tempDir } from '../tests/support/tmp.ts';
import { until } from '../tests/support/wait.ts';
import { FarEnd } from './device/far-end.ts';
import { MeasuredAgent, round } from './device/measured-agent.ts';
import { entryBytes, webLine, writeLines } from './device/web-log.ts';

interface Run {
  arrived: number;
  lost: number;
  doubled: number;
  /** On record as missing. */
  gapFiles: number;
  otherGaps: number;
  seconds: number;
  rotationsPerSecond: number;
  cpuSeconds: number;
  peakRssMb: number;
  /** Memory of the process that holds files. */
  holderMb: number;
}

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '10' },
    lines: { type: 'string', default: '150000' },
    load: { type: 'string', default: '0' },
    'max-size': { type: 'string', default: '100k' },
    'max-file': { type: 'string', default: '3' },
  },
});
const lines = Number(values.lines);
const fileBytes =
  rotationBytes({ Type: 'json-file', Config: { 'max-size': values['max-size'] } }) ?? Number.NaN;
if (!fileBytes) throw new Error('--max-size: a size such as 100k');
const commitMs = 20;

await using dir = await tempDir('millrace-bench-');
for (const stream of ['stdout', 'stderr'] as const) {
  await writeLines(join(dir.path, stream), lines, (n) => {
    const line = webLine(n);
    return line.stream === stream ? `${line.text}\n` : '';
  });
}
const archive = execFileSync('tar', ['-C', dir.path, '-c', 'stdout', 'stderr'], { maxBuffer: 2 ** 31 });
await using testEngine = await startEngine();
const runs: Run[] = [];
for (let run = 0; run < Number(values.runs); run++) {
  const measured = await measure(testEngine);
  runs.push(measured);
  console.log(JSON.stringify(measured));
}
const sum = (key: 'lost' | 'doubled' | 'gapFiles') => runs.reduce((total, run) => total + run[key], 0);
console.log(
  JSON.stringify({
    ...{ runs: runs.length, lines, load: Number(values.load) },
    ...{ lost: sum('lost'), doubled: sum('doubled'), gapFiles: sum('gapFiles') },
    runsWithLoss: runs.filter(({ lost }) => lost > 0).length,
    peakRssMb: Math.max(...runs.map(({ peakRssMb }) => peakRssMb)),
    holderMb: Math.max(...runs.map(({ holderMb }) => holderMb)),
  }),
);

async function measure(engine: TestEngine): Promise<Run> {
  await using folder = await tempDir('millrace-bench-');
  using farEnd = await FarEnd.start(folder.path, { commitMs, keepsText: true, isRemote: true });
  const env = { DOCKER_LOGS: 'files' };
  const { cloudPort } = farEnd;
  await using agent = await MeasuredAgent.start({
    ...{ dataDir: join(folder.path, 'data'), dockerHost: engine.host, cloudPort, env },
  });
  // Since when it follows the engine.
  const first = await engine.run({ cmd: ['echo', 'first'] });
  await until(async () => (await farEnd.count()).lines > 0);
  await first.remove({ force: true });
  // Some time before it starts, and not much, as `docker run` does.
  const container = await engine.create({
    cmd: ['sh', '-c', 'cat /stdout & cat /stderr >&2; wait'],
    logOptions: { 'max-size': values['max-size'], 'max-file': values['max-file'] },
  });
  await container.putArchive(archive, { path: '/' });
  using _load = startLoad(Number(values.load));
  const startMs = performance.now();
  await container.start();
  await container.wait();
  const writtenMs = performance.now();
  const holderMb = agent.childrenMb;
  let before = -1;
  // What was lost does not come: until three seconds have brought nothing.
  for (let same = 0; same < 300; ) {
    const { lines: now } = await farEnd.count();
    same = now === before ? same + 1 : 0;
    before = now;
    if (now > lines && same > 20) break;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const { distinct, doubled, gapFiles, otherGaps } = await farEnd.arrivals();
  const seconds = (writtenMs - startMs) / 1000;
  const run = {
    ...{ arrived: distinct, lost: lines - distinct, doubled, gapFiles, otherGaps },
    seconds: round(seconds, 2),
    rotationsPerSecond: Math.round((lines * entryBytes) / fileBytes / seconds),
    cpuSeconds: round(agent.cpuSeconds, 2),
    peakRssMb: agent.memoryMb('peak'),
    holderMb,
  };
  await agent.stop();
  if (agent.stderr) console.error(agent.stderr);
  await container.remove({ force: true });
  return run;
}

/** Processes that take all they get of the machine. */
function startLoad(processes: number): Disposable {
  const started = Array.from({ length: processes }, () => spawn('sh', ['-c', 'while :; do :; done']));
  return {
    [Symbol.dispose]() {
      for (const process of started) process.kill('SIGKILL');
    },
  };
}
