/*
 * Many devices that are connected and mostly silent: what they take of the cloud's memory, and how long a line of one of
 * them takes to someone who follows. Each holds an MQTT connection with its ack topic subscribed, as an agent does, and
 * in turns each publishes a batch of one line.
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { readEvents } from '../packages/millrace/src/logs/event-stream.ts';
import { adminToken } from '../tests/support/cloud.ts';
import { tempDir } from '../tests/support/tmp.ts';
import { until } from '../tests/support/wait.ts';
import type { IdleResult, IdleStart } from './cloud-idle-devices.ts';
import { deviceKey, deviceName } from './cloud-lines.ts';
import { startBenchCloud } from './cloud-process.ts';
import { cpuSeconds, machineLoad, memoryMb, quantile, round } from './usage.ts';

const linesPerSecond = 1000;
/** First contact with a device asks the store about it; lines count from when each has had its turn. */
const registrationsAtOnce = 8;

export async function benchIdle(devices: number, seconds: number): Promise<object> {
  await using dir = await tempDir('millrace-bench-');
  await using cloud = await startBenchCloud(dir.path);
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
  const child = fork(fileURLToPath(new URL('cloud-idle-devices.ts', import.meta.url)));
  const ended = new Promise<never>((_, reject) => {
    child.once('exit', (code, signal) => reject(new Error(`the devices ended with ${signal ?? code}`)));
  });
  const answer = <T>() =>
    Promise.race([new Promise<T>((resolve) => child.once('message', (m) => resolve(m as T))), ended]);
  child.send({ mqttPort: cloud.mqttPort, devices, linesPerSecond, seconds } satisfies IdleStart);
  await answer();
  const connectedRssMb = memoryMb(pid, 'VmRSS');
  console.error(`connected: RSS ${connectedRssMb} MB; load ${machineLoad()}`);

  const latencies: number[] = [];
  const tail = await fetch(`${cloud.url}/api/v1/logs/tail`, {
    headers: { authorization: `Bearer ${adminToken}` },
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
  const result = await answer<IdleResult>();
  const cpu = cpuSeconds(pid) - cpuBefore;
  await until(() => seen >= result.lines, { what: () => `${result.lines} lines at the tail; ${seen} came` });
  await body.cancel().catch(() => undefined);
  await watching;
  const figures = {
    devices,
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
  await cloud.program.end('SIGTERM');
  return figures;
}
