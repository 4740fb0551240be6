/*
 * How long a line takes from a container's write to someone who follows the logs, one line at a time: through the
 * Docker engine, the agent, HTTP, the cloud and its tail. Beside it, what a bare MQTT publish takes to a subscriber
 * through the cloud's own broker: the floor that a push system has on this machine.
 *
 *   npm run bench:latency            500 lines, about ten a second
 *   npm run bench:latency -- 100     fewer
 */
import { execFileSync } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import mqtt from 'mqtt';
import { readEvents } from '../packages/client/src/event-stream.ts';
import {
  adminToken,
  joinKey,
  startTestAgent,
  startTestCloud,
  type TestCloud,
} from '../tests/support/cloud.ts';
import { startEngine } from '../tests/support/docker.ts';
import { tempDir } from '../tests/support/tmp.ts';

const service = 'latency';
/** Pauses between lines are even over this range, so that lines fall in step with no timer of ours. */
const minPauseMs = 50;
const maxPauseMs = 150;
const warmUpLines = 20;
const timeoutMs = 180_000;

/** Wall-clock time to the microsecond, as clock.c gives it. */
const nowMs = () => performance.timeOrigin + performance.now();

const lines = Number(process.argv[2] ?? 500);
if (!Number.isInteger(lines) || lines < 1) throw new Error(`usage: npm run bench:latency -- [lines]`);

await using dir = await tempDir('millrace-bench-');
console.error('starting a Docker engine, the cloud and the agent…');
await using engine = await startEngine();
await engine.buildBusybox();
await using cloud = await startTestCloud(`${dir.path}/cloud`);
await using agent = await startTestAgent(`${dir.path}/agent`, {
  DOCKER_HOST: engine.host,
  CLOUD_ENDPOINT: cloud.url,
  JOIN_KEY: joinKey,
});

console.error(`${lines} lines from a container to the tail…`);
const whole = await containerToTail();
console.error(`${lines} bare publishes…`);
const bare = await publishToSubscriber(cloud);

const figures = {
  p50Ms: percentile(whole, 50),
  p99Ms: percentile(whole, 99),
  bareP50Ms: percentile(bare, 50),
  bareP99Ms: percentile(bare, 99),
};
console.log(`
                                 p50         p99         max
container → tail          ${[figures.p50Ms, figures.p99Ms, Math.max(...whole)].map(cell).join('')}
bare MQTT pub → sub       ${[figures.bareP50Ms, figures.bareP99Ms, Math.max(...bare)].map(cell).join('')}
`);
await agent.program.end('SIGTERM');
console.log(JSON.stringify(figures));

async function containerToTail(): Promise<number[]> {
  const response = await fetch(`${cloud.url}/api/v1/logs/tail?service=${service}`, {
    headers: { authorization: `Bearer ${adminToken}` },
    signal: AbortSignal.timeout(timeoutMs),
  });
  if (!response.ok || !response.body) throw new Error(`the tail answers ${response.status}`);
  const pauses = [minPauseMs, maxPauseMs].map((ms) => String(ms * 1000));
  const container = await engine.create({
    name: service,
    cmd: ['/clock', String(lines + warmUpLines), ...pauses],
  });
  await container.putArchive(clockArchive(), { path: '/' });
  await container.start();
  const latencies: number[] = [];
  let count = 0;
  for await (const { type, data } of readEvents(response.body)) {
    const arrivedMs = nowMs();
    if (type === 'skipped') throw new Error('the tail skipped lines');
    if (type !== 'log') continue;
    const { message } = JSON.parse(data) as { message: string };
    if (++count > warmUpLines) latencies.push(arrivedMs - Number(message) / 1e6);
    if (latencies.length === lines) break;
  }
  await container.remove({ force: true });
  if (latencies.length < lines) throw new Error(`the tail ended after ${latencies.length} of ${lines} lines`);
  return latencies;
}

/** clock.c as a static program, in a tar archive. */
function clockArchive(): Buffer {
  const source = fileURLToPath(new URL('./clock.c', import.meta.url));
  execFileSync('gcc', ['-static', '-O1', '-o', `${dir.path}/clock`, source]);
  return execFileSync('tar', ['-C', dir.path, '-c', 'clock']);
}

async function publishToSubscriber({ mqttPort }: TestCloud): Promise<number[]> {
  const url = `mqtt://127.0.0.1:${mqttPort}`;
  const [publisher, subscriber] = await Promise.all([mqtt.connectAsync(url), mqtt.connectAsync(url)]);
  const topic = 'bench/latency';
  await subscriber.subscribeAsync(topic, { qos: 1 });
  const latencies: number[] = [];
  let arrived = () => {};
  subscriber.on('message', (_topic, payload) => {
    latencies.push(nowMs() - Number(JSON.parse(payload.toString()).message));
    arrived();
  });
  // As long as a line is on the wire.
  const containerId = 'c'.repeat(64);
  for (let i = 0; i < lines + warmUpLines; i++) {
    await pause(minPauseMs + Math.random() * (maxPauseMs - minPauseMs));
    const got = new Promise<void>((resolve) => {
      arrived = resolve;
    });
    const line = { message: String(nowMs()), timestamp: Date.now(), serviceName: service, containerId };
    await publisher.publishAsync(topic, JSON.stringify(line), { qos: 1 });
    await got;
  }
  await Promise.all([publisher.endAsync(), subscriber.endAsync()]);
  return latencies.slice(warmUpLines);
}

function percentile(values: number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const value = sorted[Math.min(sorted.length - 1, Math.ceil((percent / 100) * sorted.length) - 1)] as number;
  return Math.round(value * 100) / 100;
}

function cell(ms: number): string {
  return `${ms.toFixed(2)} ms`.padStart(12);
}
