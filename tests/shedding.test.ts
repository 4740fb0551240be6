import { expect, test, vi } from 'vitest';
import { FolderDisk } from '../packages/agent/src/journal/disk.ts';
import { Journal } from '../packages/agent/src/journal/journal.ts';
import { CloudLogBackend } from '../packages/agent/src/logging/cloud-backend.ts';
import { MqttLogBackend } from '../packages/agent/src/logging/mqtt-backend.ts';
import type { Feed, Level } from '../packages/agent/src/logging/types.ts';
import { type CloudLine, startTestCloud, type TestCloud } from './support/cloud.ts';
import { captureLog } from './support/log.ts';
import { startTcpProxy } from './support/tcp-proxy.ts';
import { tempDir } from './support/tmp.ts';
import { until } from './support/wait.ts';

const uuid = 'device-with-a-small-disk';
const apiKey = 'a-device-key-for-tests';
const backoff = { minMs: 20, maxMs: 100 };
const total = 20_000;
const maxBytes = 130_000;

vi.setConfig({ testTimeout: 120_000 });

interface Backend extends AsyncDisposable {
  connect(): Promise<void>;
  readonly state: { lag: number };
}

const levelOf = (n: number): Level =>
  n % 20 === 0 ? 'error' : n % 20 === 10 ? 'warn' : n % 2 ? 'debug' : 'info';

async function shedAndDeliver(
  target: (cloud: TestCloud) => number,
  open: (port: number, feed: Feed) => Backend,
): Promise<void> {
  await using dir = await tempDir();
  await using cloud = await startTestCloud();
  await cloud.register(uuid, apiKey);
  await using proxy = await startTcpProxy({ port: target(cloud) });
  const disk = new FolderDisk(`${dir.path}/journal`);
  await using journal = new Journal({ disk, maxBytes, maxFileBytes: 15_000, recentLines: 100 });
  const feed = journal.cursor('far');
  proxy.cut();
  await using backend = open(proxy.port, feed);
  const connecting = backend.connect();
  for (let n = 1; n <= total; n++) {
    const message = `GET /items/${n} ${(n * 7919) % 1000} ms for ${(n * 104_729) % 100_003}`;
    journal.append({ message, serviceName: 'web', timestamp: 1.7e12 + n, level: levelOf(n) });
    if (n % 500 === 0) await journal.flush();
  }
  await until(() => journal.stats().diskBytes <= maxBytes, { what: 'the journal to be within its budget' });
  const { shed } = journal.stats();
  expect(shed[0]).toBeGreaterThan(total / 4);
  expect(shed.slice(2)).toEqual([0, 0]);

  proxy.open();
  await connecting;
  await until(() => backend.state.lag === 0, { timeoutMs: 60_000, what: () => `lag ${backend.state.lag}` });
  const lines = await cloud.linesOf('web');
  const byLevel = (level: Level) => lines.filter((line) => line.level === level).length;
  expect([byLevel('warn'), byLevel('error')]).toEqual([total / 20, total / 20]);
  expect(new Set(lines.map(({ seq }) => seq)).size).toBe(lines.length);
  for (const { seq, message } of lines) expect(message).toContain(`/items/${seq} `);
  const seqs = lines.map(({ seq }) => seq as number);
  expect(seqs).toEqual(seqs.toSorted((a, b) => a - b));
  // Of info nothing went while older debug lines were left.
  if (byLevel('info') < total * 0.4) expect(byLevel('debug')).toBeLessThan(total / 10);

  const found = await cloud.get<{ logs: CloudLine[] }>('/api/v1/logs?text=lost&level=warn&limit=1000');
  const records = found.logs.filter(({ fields }) => typeof fields?.lost === 'number');
  const lost = records.reduce((sum, { fields }) => sum + Number(fields?.lost), 0);
  expect(lines.length + lost).toBe(total);
  expect(records.length).toBeLessThan(20);
  expect(records[0]?.message).toMatch(
    /^lost \d+ lines \(debug(, info)?\), seq \d+–\d+: journal full \(on the way to far\)$/,
  );
}

test('a journal that is full sheds debug, then info; the rest arrives, and the losses are on record in the cloud (HTTP)', async () => {
  const { log } = captureLog();
  await shedAndDeliver(
    (cloud) => Number(new URL(cloud.url).port),
    (port, feed) =>
      new CloudLogBackend({
        ...{ cloudEndpoint: `http://127.0.0.1:${port}`, deviceUuid: uuid, apiKey, feed, log, backoff },
      }),
  );
});

test('a journal that is full sheds debug, then info; the rest arrives, and the losses are on record in the cloud (MQTT, acknowledged by the cloud)', async () => {
  const { log } = captureLog();
  await shedAndDeliver(
    (cloud) => cloud.mqttPort,
    (port, feed) =>
      new MqttLogBackend({
        ...{ brokerUrl: `mqtt://127.0.0.1:${port}`, clientOptions: { username: uuid, password: apiKey } },
        ...{ baseTopic: 'device/logs', ack: 'cloud', deviceUuid: uuid, feed, log, backoff },
      }),
  );
});
