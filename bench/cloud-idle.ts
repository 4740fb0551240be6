/*
 * Many devices that are connected and silent but for some: what they take of the cloud's memory, and how long a line takes
 * to someone who follows all. Each holds an MQTT connection with its ack topic subscribed, as an agent does; those that
 * print publish batches of one line.
 */
import { readEvents } from '../packages/client/src/event-stream.ts';
import { adminToken } from '../tests/support/cloud.ts';
import { tempDir } from '../tests/support/tmp.ts';
import { until } from '../tests/support/wait.ts';
import { startChild } from './child.ts';
import type { IdleResult, IdleStart } from './cloud-idle-devices.ts';
import { deviceKey, deviceName } from './cloud-lines.ts';
import { startBenchCloud } from './cloud-process.ts';
import { cpuSeconds, machineLoad, memoryMb, quantile, round } from './usage.ts';

const linesPerSecond = 1000;
const registrationsAtOnce = 16;

export async function benchIdle(
  devices: number,
  seconds: number,
  env: Record<string, string> = {},
): Promise<object> {
  await using dir = await tempDir('millrace-bench-');
  await using cloud = await startBenchCloud(dir.path, env);
  const { pid } = cloud.program;
  const emptyRssMb = memoryMb(pid, 'VmRSS');
  console.error(`registering ${devices} devices…`);
  let next = 0;
  const registerSome = async () => {
    while (next < devices) {
      const device = next++;
      await cloud.register(deviceName(device), deviceKey(device));
    }
  };
  await Promise.all(Array.from({ length: registrationsAtOnce }, registerSome));
  console.error('connecting them…');
  await using child = startChild('cloud-idle-devices.ts');
  child.send({ mqttPort: cloud.mqttPort, devices, linesPerSecond, seconds } satisfies IdleStart);
  await child.answer();
  const connectedRssMb = memoryMb(pid, 'VmRSS');
  console.error(`connected: RSS ${connectedRssMb} MB; load ${machineLoad()}`);

  const seenAll = new AbortController();
  const latencies: number[] = [];
  const tail = await fetch(`${cloud.url}/api/v1/logs/tail`, {
    headers: { authorization: `Bearer ${adminToken}` },
    signal: seenAll.signal,
  });
  if (!tail.ok || !tail.body) throw new Error(`the tail answers ${tail.status}`);
  let skipped = 0;
  let seen = 0;
  const body = tail.body;
  const watching = (async () => {
    for await (const { type, data } of readEvents(body)) {
      const arrivedMs = performance.timeOrigin + performance.now();
      if (type === 'skipped') skipped++;
      if (type !== 'log') continue;
      seen++;
      const { message } = JSON.parse(data) as { message: string };
      const sent = /^sent=([0-9.]+) /.exec(message)?.[1];
      if (sent !== undefined) latencies.push(arrivedMs - Number(sent));
    }
  })().catch(() => undefined);

  child.send('go');
  const cpuBefore = cpuSeconds(pid);
  const result = await child.answer<IdleResult>();
  const cpu = cpuSeconds(pid) - cpuBefore;
  await until(() => seen >= result.lines, { what: () => `${result.lines} lines at the tail; ${seen} came` });
  // The body is locked by whoever reads it: only the request can be ended.
  seenAll.abort();
  await watching;
  const figures = {
    devices,
    active: result.active,
    rssMb: memoryMb(pid, 'VmRSS'),
    peakRssMb: memoryMb(pid, 'VmHWM'),
    linesPerSecond: Math.round(result.lines / result.seconds),
    p50Ms: round(quantile(latencies, 0.5), 1),
    p99Ms: round(quantile(latencies, 0.99), 1),
    maxMs: round(Math.max(...latencies), 1),
    firstContactP99Ms: round(quantile(result.firstConfirmedMs, 0.99), 1),
    cpuPercent: Math.round((cpu / result.seconds) * 100),
    skipped,
  };
  const stored = await cloud.lineCount();
  if (stored !== result.lines) throw new Error(`${stored} of ${result.lines} lines are stored`);
  console.error(
    `RSS ${emptyRssMb} MB empty, ${connectedRssMb} MB connected, ${figures.rssMb} MB at the end; load ${machineLoad()}`,
  );
  // First the devices: to them a broker that goes away is a failure.
  await child[Symbol.asyncDispose]();
  await cloud.program.end('SIGTERM');
  return figures;
}
