/*
 * What taking in lines costs the cloud: the real program, 200 devices in another process, lines of 300 bytes in batches
 * as agents send them, each stored and confirmed. Beside it the engine alone: the same rows into the same table by a bare
 * `Session.insert`, with and without the index over words.
 */
import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { tempDir } from '../tests/support/tmp.ts';
import { wholeNumber } from './arguments.ts';
import { startChild } from './child.ts';
import type { BareResult, BareStart } from './cloud-bare.ts';
import { benchIdle } from './cloud-idle.ts';
import { deviceCount, deviceKey, deviceName, lineBytes } from './cloud-lines.ts';
import { startBenchCloud } from './cloud-process.ts';
import type { SenderReady, SenderResult, SenderStart } from './cloud-sender.ts';
import { cpuSeconds, cpuSecondsByThread, machineLoad, memoryMb, round } from './usage.ts';

const usage = `npm run bench:cloud [-- options]

  --lines N        lines per protocol, 100000 to 10000000 (default 1000000)
  --only WHAT      http or mqtt: only this protocol
  --profile DIR    leaves a .cpuprofile of the cloud in this folder, per protocol
  --idle N         instead: N devices (up to 20000) connected by MQTT, 1000 lines a second in all; memory, and the time
                   from a line to someone who follows
  --seconds N      how long, with --idle (default 60)

A device's first batch, on which the cloud asks its store about it, is not counted.
Figures are for people on stderr; the last line of stdout has them as JSON.`;

const options = readOptions();
if (options.idle === undefined) await benchIngest();
else {
  say(
    `${availableParallelism()} cores, load ${machineLoad()}; ${options.idle} devices for ${options.seconds} s`,
  );
  console.log(JSON.stringify(await benchIdle(options.idle, options.seconds, profileEnv('idle'))));
}

async function benchIngest(): Promise<void> {
  const { lines } = options;
  say(`${availableParallelism()} cores, load ${machineLoad()}; ${lines} lines of ${lineBytes} bytes`);
  const bare = await insertBare(lines, true, 'columns');
  const rows = await insertBare(lines, true, 'rows');
  const bareNoIndex = await insertBare(lines, false, 'columns');
  const figures: Record<string, unknown> = {};
  for (const protocol of ['http', 'mqtt'] as const) {
    if (options.only && options.only !== protocol) continue;
    const { linesPerSecond, linesPerCpuSecond, peakRssMb } = await throughCloud(protocol, lines);
    figures[protocol] = {
      linesPerSecond: Math.round(linesPerSecond),
      linesPerCpuSecond: Math.round(linesPerCpuSecond),
      cpuVsBare: round(lines / bare.cpuSeconds / linesPerCpuSecond, 2),
      cpuVsBareRows: round(lines / rows.cpuSeconds / linesPerCpuSecond, 2),
      peakRssMb,
    };
  }
  say(`load ${machineLoad()}`);
  console.log(
    JSON.stringify({
      ...figures,
      bytesPerLine: round(bare.bytesPerLine, 1),
      bytesPerLineNoIndex: round(bareNoIndex.bytesPerLine, 1),
      bareLinesPerCpuSecond: Math.round(lines / bare.cpuSeconds),
      bareLinesPerCpuSecondNoIndex: Math.round(lines / bareNoIndex.cpuSeconds),
    }),
  );
}

interface ThroughCloud {
  linesPerSecond: number;
  linesPerCpuSecond: number;
  peakRssMb: number;
}

async function throughCloud(protocol: 'http' | 'mqtt', lines: number): Promise<ThroughCloud> {
  await using dir = await tempDir('millrace-bench-');
  await using cloud = await startBenchCloud(dir.path, profileEnv(protocol));
  for (let device = 0; device < deviceCount; device++) {
    await cloud.register(deviceName(device), deviceKey(device));
  }
  await using sender = startChild('cloud-sender.ts');
  sender.send({ protocol, url: cloud.url, mqttPort: cloud.mqttPort, lines } satisfies SenderStart);
  const first = await sender.answer<SenderReady>();
  const counted = lines - first.lines;
  const { pid } = cloud.program;
  const before = cpuSeconds(pid);
  const threadsBefore = cpuSecondsByThread(pid);
  sender.send('go');
  const result = await sender.answer<SenderResult>();
  const cpu = cpuSeconds(pid) - before;
  const peakRssMb = memoryMb(pid, 'VmHWM');
  const byThread = [...cpuSecondsByThread(pid)]
    .map(([name, seconds]) => [name, seconds - (threadsBefore.get(name) ?? 0)] as const)
    .filter(([, seconds]) => seconds >= 0.1)
    .sort(([, a], [, b]) => b - a);
  const stored = await cloud.lineCount();
  if (stored !== lines) throw new Error(`${stored} of ${lines} lines are stored`);
  say(
    `${protocol.padEnd(20)} ${perSecond(counted, result.seconds)}  ${perSecond(counted, cpu)} of CPU  RSS ${peakRssMb} MB at most`,
    `  first contact      ${first.seconds.toFixed(2)} s for ${deviceCount} devices with ${first.lines} lines`,
    `  threads            ${byThread.map(([name, seconds]) => `${name} ${seconds.toFixed(2)} s`).join(', ')}`,
    `  senders            ${result.cpuSeconds.toFixed(2)} s of CPU, ${(result.wireBytes / lines).toFixed(1)} bytes a line on the wire`,
  );
  await cloud.program.end('SIGTERM');
  return { linesPerSecond: counted / result.seconds, linesPerCpuSecond: counted / cpu, peakRssMb };
}

async function insertBare(lines: number, textIndex: boolean, as: BareStart['as']): Promise<BareResult> {
  await using dir = await tempDir('millrace-bench-');
  await using inserter = startChild('cloud-bare.ts');
  inserter.send({ dataDir: dir.path, lines, textIndex, as } satisfies BareStart);
  const result = await inserter.answer<BareResult>();
  say(
    `bare, ${as}${textIndex ? '' : ', no index'}`.padEnd(20) +
      ` ${perSecond(lines, result.seconds)}  ${perSecond(lines, result.cpuSeconds)} of CPU  ${result.bytesPerLine.toFixed(1)} bytes a line`,
  );
  return result;
}

function profileEnv(protocol: string): Record<string, string> {
  if (options.profile === undefined) return {};
  const dir = join(options.profile, protocol);
  mkdirSync(dir, { recursive: true });
  return { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${dir}` };
}

function perSecond(lines: number, seconds: number): string {
  return `${Math.round(lines / seconds)} lines/s`.padStart(15);
}

function say(...lines: string[]): void {
  for (const line of lines) console.error(line);
}

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        lines: { type: 'string', default: '1000000' },
        only: { type: 'string' },
        profile: { type: 'string' },
        idle: { type: 'string' },
        seconds: { type: 'string', default: '60' },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      console.log(usage);
      process.exit(0);
    }
    const { only, profile } = values;
    if (only !== undefined && only !== 'http' && only !== 'mqtt')
      throw new Error('--only takes http or mqtt');
    return {
      only,
      profile,
      lines: wholeNumber('--lines', values.lines, 100_000, 10_000_000),
      idle: values.idle === undefined ? undefined : wholeNumber('--idle', values.idle, 1, 20_000),
      seconds: wholeNumber('--seconds', values.seconds, 1, 3600),
    };
  } catch (error) {
    say((error as Error).message, '', usage);
    return process.exit(2);
  }
}
