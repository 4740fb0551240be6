import { totalmem } from 'node:os';
import type { LogMessage } from '@millrace/wire';
import { expect, test } from 'vitest';
import { joinKey, startTestAgent, startTestCloud } from './support/cloud.ts';
import { tempDir } from './support/tmp.ts';
import { until } from './support/wait.ts';

const uuid = 'kitchen';

test('where nothing but state reports is allowed they bring the newest lines, and a stream later brings none twice', async () => {
  await using dir = await tempDir();
  await using cloud = await startTestCloud();
  const settings = {
    DEVICE_UUID: uuid,
    DOCKER_HOST: `unix://${dir.path}/none.sock`,
    CLOUD_ENDPOINT: cloud.url,
    JOIN_KEY: joinKey,
    REPORT_RECENT_LOGS: '1',
  };
  const stored = async () =>
    (await cloud.get<{ logs: LogMessage[] }>(`/api/v1/logs?device=${uuid}&limit=1000`)).logs;
  const onDevice = async (url: string) =>
    ((await (await fetch(`${url}/v1/logs?limit=1000`)).json()) as { logs: LogMessage[] }).logs;
  const idsOf = (lines: LogMessage[]) => lines.map(({ id }) => id).sort();
  {
    await using agent = await startTestAgent(`${dir.path}/agent`, { ...settings, CLOUD_LOGS: 'false' });
    await until(async () => (await stored()).length > 0, { what: 'the first lines' });
    const { state } = await cloud.get<{ state: Record<string, unknown> }>(`/api/v1/devices/${uuid}/state`);
    expect(state).toMatchObject({ agent_version: '0.1.0', architecture: process.arch });
    expect(state.memory_total).toBeCloseTo(totalmem() / 1024 / 1024, -1);
    const device = await cloud.get<{ online: boolean; reportedAt: number }>(`/api/v1/devices/${uuid}`);
    expect(device).toMatchObject({ online: true, reportedAt: expect.any(Number) });
    // The same lines once more, and those of the second start.
    const before = (await stored()).length;
    await agent.restart('SIGKILL');
    await until(async () => (await stored()).length > before, { what: 'lines of the second start' });
    expect(await (await fetch(`${agent.url}/v1/device`)).json()).not.toHaveProperty('cloud');
  }
  await using agent = await startTestAgent(`${dir.path}/agent`, settings);
  await until(
    async () => (await stored()).some(({ message }) => message.includes('Cloud log backend connected')),
    {
      what: 'the stream',
    },
  );
  // Also the lines of the time when nothing but reports went out.
  const all = await onDevice(agent.url);
  await until(async () => idsOf(await stored()).length >= all.length);
  expect(idsOf(await stored())).toEqual(expect.arrayContaining(idsOf(all)));
  expect(new Set(idsOf(await stored())).size).toBe((await stored()).length);
}, 180_000);
