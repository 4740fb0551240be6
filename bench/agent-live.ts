/*
 * What the agent costs a device from day to day: while a container prints a thousand lines a second, and while nothing
 * is printed at all. It reads the container's log file and sends over HTTP, with its journal.
 *
 *   npm run bench:agent:live           a minute of each
 *   npm run bench:agent:live -- 300    five
 */
import { setTimeout as pause } from 'node:timers/promises';
import { tempDir } from '../tests/support/tmp.ts';
import { until } from '../tests/support/wait.ts';
import { FarEnd } from './device/far-end.ts';
import { MeasuredAgent, round } from './device/measured-agent.ts';
import { print } from './device/printer.ts';

const linesPerSecond = 1000;
/** Until code that runs all the time is compiled, and start-up is over. */
const warmUpSeconds = 10;
const commitMs = 20;

const seconds = Number(process.argv[2] ?? 60);
if (!Number.isInteger(seconds) || seconds < 1)
  throw new Error('usage: npm run bench:agent:live [-- seconds]');

await using dir = await tempDir('millrace-bench-');
using farEnd = await FarEnd.start(dir.path, { commitMs });
await using agent = await MeasuredAgent.start({
  dataDir: `${dir.path}/data`,
  dockerHost: farEnd.dockerHost,
  cloudPort: farEnd.cloudPort,
});
let lines = 0;
const printFor = (length: number) => {
  lines += length * linesPerSecond;
  const { logPath } = farEnd;
  return print({ logPath, lines: length * linesPerSecond, intervalMs: 1000 / linesPerSecond });
};
const warmUp = printFor(warmUpSeconds);
farEnd.startContainer();
await warmUp;

console.error(`${linesPerSecond} lines a second for ${seconds} s…`);
const live = await percentOfCore(() => printFor(seconds));
const liveRssMb = agent.memoryMb('now');
await until(async () => (await farEnd.count()).lines >= lines, {
  what: () => `${lines} lines\n${agent.stderr}`,
});
// Until what was read has been written and confirmed to its end.
await pause(10_000);
console.error(`nothing for ${seconds} s…`);
const idle = await percentOfCore(() => pause(seconds * 1000));
const idleRssMb = agent.memoryMb('now');
const peakRssMb = agent.memoryMb('peak');
await agent.stop();

console.log(`
${linesPerSecond} lines a second         ${live} % of a core, ${liveRssMb} MB
nothing                     ${idle} % of a core, ${idleRssMb} MB
at most                     ${peakRssMb} MB
`);
console.log(JSON.stringify({ livePercent: live, liveRssMb, idlePercent: idle, idleRssMb, peakRssMb }));

/** What the agent takes of one core while `work` goes on. */
async function percentOfCore(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  const before = agent.cpuSeconds;
  await work();
  return round(((agent.cpuSeconds - before) * 100_000) / (performance.now() - startMs), 2);
}
