import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { type CloudLine, joinKey, startTestAgent, startTestCloud, type TestCloud } from './support/cloud.ts';
import { fakeClock } from './support/faketime.ts';
import { tempDir } from './support/tmp.ts';
import { until } from './support/wait.ts';

/** Two cores may be shared with other tests. */
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

let cloud: TestCloud;
beforeAll(async () => {
  cloud = await startTestCloud();
});
afterAll(async () => {
  await cloud[Symbol.asyncDispose]();
});

/** Starts an agent that has nothing to read: its own lines are enough. */
function startAgent(uuid: string, dir: string, env: Record<string, string>) {
  return startTestAgent(`${dir}/agent`, {
    ...env,
    DEVICE_UUID: uuid,
    CLOUD_ENDPOINT: cloud.url,
    JOIN_KEY: joinKey,
    DOCKER_HOST: `unix://${dir}/no-engine.sock`,
  });
}

async function linesOf(uuid: string): Promise<CloudLine[]> {
  const { logs } = await cloud.get<{ logs: CloudLine[] }>(`/api/v1/logs?device=${uuid}&order=asc`);
  return logs;
}

function isStart(line: { message: string }): boolean {
  return line.message === 'agent started';
}

function expectTrueTimes(lines: CloudLine[], startMs: number): void {
  for (const { timestamp, fields } of lines) {
    expect(timestamp).toBeGreaterThan(startMs - 1000);
    expect(timestamp).toBeLessThan(Date.now() + 1000);
    expect(fields?.clock).toBeUndefined();
  }
}

test('an agent that boots in 1970 and is killed before the clock is set has its lines in the cloud with their true time', async () => {
  await using dir = await tempDir();
  const clock = await fakeClock(dir.path, -Date.now());
  const startMs = Date.now();
  await using agent = await startAgent('killed', dir.path, clock.env);
  const startedMs = Date.now();
  const local = async () => {
    const response = await fetch(`${agent.url}/v1/logs?contains=agent%20started`);
    return ((await response.json()) as { logs: CloudLine[] }).logs;
  };
  const [early] = await local();
  expect(early?.timestamp).toBeLessThan(86_400_000);
  expect(await linesOf('killed')).toEqual([]);

  await agent.program.end('SIGKILL');
  await clock.set(0);
  await agent.restart('SIGKILL');
  const bothStarts = async () => (await linesOf('killed')).filter(isStart).length === 2;
  await until(bothStarts, { what: () => `both starts\n${agent.program.stdout}` });
  const lines = await linesOf('killed');
  expectTrueTimes(lines, startMs);
  const first = lines.find(isStart);
  expect(first?.id).toBe(early?.id);
  expect(first?.timestamp).toBeLessThan(startedMs + 1000);
  const [again] = await local();
  expect([again?.id, again?.timestamp]).toEqual([first?.id, first?.timestamp]);
});

test('lines that waited for the clock go out as soon as it is set', async () => {
  await using dir = await tempDir();
  const clock = await fakeClock(dir.path, -Date.now());
  const startMs = Date.now();
  await using agent = await startAgent('waiting', dir.path, clock.env);
  expect(await linesOf('waiting')).toEqual([]);
  await clock.set(0);
  await until(async () => (await linesOf('waiting')).some(({ message }) => message === 'the clock was set'), {
    what: () => `the lines that waited\n${agent.program.stdout}`,
  });
  const lines = await linesOf('waiting');
  expect(lines.some(isStart)).toBe(true);
  expectTrueTimes(lines, startMs);
});
