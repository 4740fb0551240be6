/*
 * What capturing costs: the agent's own process, with its journal, reads a million lines of a container's log file and
 * sends them over HTTP. Beside it, what `gzip -6` takes for the same bytes on the same machine.
 *
 *   npm run bench:agent                      a million lines of 242 bytes
 *   npm run bench:agent -- 200000            fewer
 *   npm run bench:agent -- 1000000 profile   leaves a .cpuprofile in that folder
 *   npm run bench:agent -- --text            lines of text instead of JSON, which others may continue
 *   npm run bench:agent -- --source api      the same lines printed by a container of a real engine, once read
 *                                            through the engine's API and once from its files; beside it what a
 *                                            reader takes that only counts them
 *
 * Counted is what the agent uses from the moment in which the container starts until all is acknowledged; starting up
 * is shown by itself.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startEngine, type TestEngine } from '../tests/support/docker.ts';
import { tempDir } from '../tests/support/tmp.ts';
import { until } from '../tests/support/wait.ts';
import { measureBareReader } from './device/bare-reader.ts';
import { FarEnd, type FarEndCount } from './device/far-end.ts';
import { childrenCpuSeconds, MeasuredAgent, round } from './device/measured-agent.ts';
import { entryBytes, textEntry, webEntry, webLine, writeLines } from './device/web-log.ts';

const timeoutMs = 600_000;
/** As often as a cloud commits that is busy. */
const commitMs = 20;

const { values, positionals } = parseArgs({
  args: process.argv.slice(2),
  options: { source: { type: 'string', default: 'files' }, text: { type: 'boolean', default: false } },
  allowPositionals: true,
});
const lines = Number(positionals[0] ?? 1_000_000);
const profileDir = positionals[1];
const isRight = Number.isSafeInteger(lines) && lines > 0 && /^(files|api)$/.test(values.source);
if (!isRight) throw new Error('usage: npm run bench:agent [-- [--source files|api] [--text] lines [folder]]');

interface Run {
  seconds: number;
  cpuSeconds: number;
  startUpSeconds: number;
  idleRssMb: number;
  peakRssMb: number;
  wireBytes: number;
  writtenBytes: number;
}

await using dir = await tempDir('millrace-bench-');
if (values.source === 'api') await compareSources();
else await measureFiles();

async function measureFiles(): Promise<void> {
  using farEnd = await FarEnd.start(dir.path, { commitMs });
  console.error(`writing ${lines} lines…`);
  const entry = values.text ? textEntry : webEntry;
  const firstMs = Date.now() - 600_000;
  await writeLines(farEnd.logPath, lines, (n) => entry(n, firstMs + Math.floor((n * 500_000) / lines)));
  const run = await measure(farEnd, farEnd.dockerHost, async () => farEnd.startContainer());
  console.error('gzip -6…');
  const childrenBefore = childrenCpuSeconds();
  execFileSync('sh', ['-c', 'gzip -6 <"$0" >/dev/null', farEnd.logPath]);
  const gzipCpu = childrenCpuSeconds() - childrenBefore;
  console.log(`
lines                       ${lines} of ${entryBytes} bytes
seconds                     ${round(run.seconds, 2)}
CPU of the agent            ${round(run.cpuSeconds, 2)} s, and ${round(run.startUpSeconds, 2)} s to start up
CPU of gzip -6              ${round(gzipCpu, 2)} s
RSS                         ${run.idleRssMb} MB before, ${run.peakRssMb} MB at most
`);
  console.log(JSON.stringify({ ...figuresOf(run), cpuVsGzip: round(run.cpuSeconds / gzipCpu, 2) }));
}

async function compareSources(): Promise<void> {
  const printed = { stdout: join(dir.path, 'out'), stderr: join(dir.path, 'err') };
  console.error(`writing ${lines} lines…`);
  for (const stream of ['stdout', 'stderr'] as const) {
    await writeLines(printed[stream], lines, (n) => {
      const line = webLine(n);
      return line.stream === stream ? `${line.text}\n` : '';
    });
  }
  await using engine = await startEngine();
  const files = await measureEngine(engine, 'files');
  const api = await measureEngine(engine, 'api');
  const bareFiles = await measureBare(engine, 'files');
  const bareApi = await measureBare(engine, 'api');
  const apiVsFiles = round(api.cpuSeconds / files.cpuSeconds, 2);
  // If taking chunks and frames apart cost nothing more than the files' JSON.
  const floor = round((files.cpuSeconds + bareApi - bareFiles) / files.cpuSeconds, 2);
  const row = (name: string, { seconds, cpuSeconds, peakRssMb }: Run) =>
    `${name.padEnd(28)}${round(cpuSeconds, 2)} s of CPU in ${round(seconds, 2)} s, ${peakRssMb} MB at most`;
  console.log(`
lines                       ${lines} of ${entryBytes} bytes, as a real engine writes them
${row('from its files', files)}
${row('through its API', api)}
a bare reader               ${round(bareFiles, 2)} s of CPU from the files, ${round(bareApi, 2)} s through the API
`);
  console.log(JSON.stringify({ source: 'api', ...figuresOf(api), apiVsFiles, floor }));
}

async function measureBare(engine: TestEngine, source: 'files' | 'api'): Promise<number> {
  console.error(`a bare reader, ${source}…`);
  const container = await createPrinter(engine, `bare-${source}`);
  const { DockerRootDir: root } = (await engine.docker.info()) as { DockerRootDir: string };
  const { id: containerId } = container;
  const logPath = join(root, 'containers', containerId, `${containerId}-json.log`);
  const { socketPath } = engine;
  const task = { source, lines, socketPath, containerId, logPath };
  const cpuSeconds = await measureBareReader(task, () => container.start());
  await container.remove({ force: true });
  return cpuSeconds;
}

/** A container that prints the lines when it is started. */
async function createPrinter(engine: TestEngine, name: string) {
  const container = await engine.create({ name, cmd: ['sh', '-c', 'cat /out & cat /err >&2; wait'] });
  const archive = execFileSync('tar', ['-C', dir.path, '-c', 'out', 'err'], { maxBuffer: 2 ** 31 });
  await container.putArchive(archive, { path: '/' });
  return container;
}

async function measureEngine(engine: TestEngine, source: 'files' | 'api'): Promise<Run> {
  const folder = join(dir.path, source);
  execFileSync('mkdir', [folder]);
  using farEnd = await FarEnd.start(folder, { commitMs });
  const container = await createPrinter(engine, source);
  const run = await measure(farEnd, engine.host, () => container.start(), { DOCKER_LOGS: source });
  await container.remove({ force: true });
  return run;
}

async function measure(
  farEnd: FarEnd,
  dockerHost: string,
  start: () => Promise<unknown>,
  env: Record<string, string> = {},
): Promise<Run> {
  await using folder = await tempDir('millrace-bench-');
  const { cloudPort } = farEnd;
  await using agent = await MeasuredAgent.start({
    ...{ dataDir: folder.path, dockerHost, cloudPort, env },
    ...(profileDir && { profileDir }),
  });
  const idleRssMb = agent.memoryMb('now');
  console.error('reading…');
  const startMs = performance.now();
  await start();
  let count: FarEndCount = { lines: 0, batches: 0, wireBytes: 0 };
  await until(
    async () => {
      count = await farEnd.count();
      return count.lines >= lines;
    },
    { timeoutMs, what: () => `${lines} lines, got ${count.lines}\n${agent.stderr}` },
  );
  const run = {
    seconds: (performance.now() - startMs) / 1000,
    cpuSeconds: agent.cpuSeconds,
    startUpSeconds: agent.startUpSeconds,
    idleRssMb,
    peakRssMb: agent.memoryMb('peak'),
    wireBytes: count.wireBytes,
    writtenBytes: agent.writtenBytes,
  };
  await agent.stop();
  return run;
}

function figuresOf({ cpuSeconds, peakRssMb, wireBytes, writtenBytes }: Run) {
  return {
    linesPerCpuSecond: Math.round(lines / cpuSeconds),
    peakRssMb,
    wireBytesPerLine: round(wireBytes / lines, 1),
    diskBytesPerLine: round(writtenBytes / lines, 1),
  };
}
