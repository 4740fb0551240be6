import { expect, test } from 'vitest';
import { FolderDisk } from '../packages/agent/src/journal/disk.ts';
import { Journal } from '../packages/agent/src/journal/journal.ts';
import { CloudLogBackend } from '../packages/agent/src/logging/cloud-backend.ts';
import { MqttLogBackend } from '../packages/agent/src/logging/mqtt-backend.ts';
import { adminToken, startTestCloud, type TestCloud } from '../packages/cloud/test/support/cloud.ts';
import { captureLog } from './support/log.ts';
import { tempDir } from './support/tmp.ts';
import { until } from './support/wait.ts';

/*
 * A device that is over its quota is refused until the day ends, or the quota is raised. Its agent keeps what was
 * refused, waits as it was told, and in the end every line is stored once.
 */

const total = 1000;

async function setQuota(cloud: TestCloud, device: string, dailyQuotaBytes: number): Promise<void> {
  const { policies } = (await (await cloud.get('/api/v1/policies')).json()) as {
    policies: { id: string; device: string }[];
  };
  const id = policies.find((policy) => policy.device === device)?.id;
  const response = await fetch(`${cloud.url}/api/v1/policies${id ? `/${id}` : ''}`, {
    method: id ? 'PUT' : 'POST',
    headers: { authorization: `Bearer ${adminToken}`, 'content-type': 'application/json' },
    body: JSON.stringify({ device, dailyQuotaBytes }),
  });
  expect(response.status).toBe(id ? 200 : 201);
}

function write(journal: Journal): void {
  for (let i = 1; i <= total; i++)
    journal.append({ message: `line ${i} ${'x'.repeat(90)}`, timestamp: Date.now() });
}

async function expectEachOnce(cloud: TestCloud, device: string): Promise<void> {
  const own = (await cloud.allLines(device)).filter(({ source }) => source.type === 'container');
  expect(own.map(({ message }) => Number(message.split(' ')[1]))).toEqual(
    Array.from({ length: total }, (_, i) => i + 1),
  );
}

test('an agent over its quota keeps its lines, asks again politely, and sends each once when it may', async () => {
  await using cloud = await startTestCloud({ tuning: { quotaRetryS: 1 } });
  await using dir = await tempDir();
  const apiKey = await cloud.register('over-http');
  await setQuota(cloud, 'over-http', 20_000);
  const journal = new Journal({ disk: new FolderDisk(dir.path), syncIntervalMs: 5 });
  write(journal);
  const { log, messages } = captureLog();
  const backend = new CloudLogBackend({
    ...{ cloudEndpoint: cloud.url, deviceUuid: 'over-http', apiKey, log },
    feed: journal.cursor('cloud'),
    backoff: { minMs: 1, maxMs: 10 },
  });
  await backend.connect();
  await until(() => backend.state.lastError?.includes('QUOTA_EXCEEDED'), { what: 'the agent to be told' });
  const { requests } = backend.state;
  const sinceMs = performance.now();
  await until(() => backend.state.requests >= requests + 2, { what: 'two more tries' });
  // It was told to wait for a second each time.
  expect(performance.now() - sinceMs).toBeGreaterThan(1000);
  expect(messages(40).filter((message) => message.includes('QUOTA_EXCEEDED'))).toHaveLength(1);
  expect((await cloud.allLines('over-http')).length).toBeLessThan(total);

  await setQuota(cloud, 'over-http', 1_000_000);
  await until(() => backend.state.lag === 0, { what: 'all lines to arrive' });
  await expectEachOnce(cloud, 'over-http');
  await backend.disconnect();
  await journal.close();
});

test('over MQTT an agent over its quota sends little, and each line once when it may', async () => {
  await using cloud = await startTestCloud();
  await using dir = await tempDir();
  const apiKey = await cloud.register('over-mqtt');
  await setQuota(cloud, 'over-mqtt', 20_000);
  const journal = new Journal({ disk: new FolderDisk(dir.path), syncIntervalMs: 5 });
  write(journal);
  const { log, messages } = captureLog();
  const backend = new MqttLogBackend({
    ...{ brokerUrl: cloud.mqttUrl, baseTopic: 'device/logs', ack: 'cloud', deviceUuid: 'over-mqtt' },
    ...{ clientOptions: { username: 'over-mqtt', password: apiKey }, ackTimeoutMs: 200 },
    feed: journal.cursor('mqtt'),
    log,
  });
  await backend.connect();
  await until(async () => (await cloud.search('device=over-mqtt&text=quota')).length > 0, {
    what: 'the line about the quota',
  });
  const before = backend.state.published;
  await until(() => backend.state.published > before + 1, { what: 'another try' });
  // One batch at a time, with ever longer pauses.
  expect(backend.state.published).toBeLessThan(before + 4);
  expect(messages(40).filter((message) => message.includes('may send 20000 bytes a day'))).toHaveLength(1);
  await setQuota(cloud, 'over-mqtt', 1_000_000);
  await until(() => backend.state.lag === 0, { what: 'all lines to arrive', timeoutMs: 60_000 });
  await expectEachOnce(cloud, 'over-mqtt');
  await backend.disconnect();
  await journal.close();
});
