import { expect, test } from 'vitest';
import { captureLog } from '../../../../tests/support/log.ts';
import { mosquittoSub, startMosquitto } from '../../../../tests/support/mosquitto.ts';
import { startTcpProxy } from '../../../../tests/support/tcp-proxy.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { FolderDisk } from '../../src/journal/disk.ts';
import { Journal } from '../../src/journal/journal.ts';
import { CloudLogBackend } from '../../src/logging/cloud-backend.ts';
import { MqttLogBackend } from '../../src/logging/mqtt-backend.ts';
import { startTestCloud } from '../cloud-backend/test-cloud.ts';

test('two backends read one journal, each at its own pace, and go on where they were after a restart', async () => {
  await using folder = await tempDir();
  await using broker = await startMosquitto();
  await using proxy = await startTcpProxy({ port: broker.port });
  await using cloud = await startTestCloud();
  await using watcher = await mosquittoSub(broker, 'container-manager/logs/#');
  const total = 9000;
  let logged = 0;
  for (let life = 1; life <= 3; life++) {
    const { log } = captureLog();
    await using journal = new Journal({ disk: new FolderDisk(folder.path) });
    await using mqtt = new MqttLogBackend({
      ...{ brokerUrl: `mqtt://127.0.0.1:${proxy.port}`, log, feed: journal.cursor('mqtt') },
      ...{ enableBatching: true, batchInterval: 50, backoff: { minMs: 20, maxMs: 50 } },
    });
    await using https = new CloudLogBackend({
      ...{ cloudEndpoint: cloud.url, deviceUuid: 'd1', apiKey: 'k', log, feed: journal.cursor('cloud') },
    });
    // The broker is away during the second life; the cloud does not notice.
    if (life === 2) proxy.cut();
    else proxy.open();
    await Promise.all([mqtt.connect(), https.connect()]);
    for (let i = 0; i < total / 3; i++) {
      journal.append({ message: `line ${++logged}`, serviceName: `s${i % 4}` });
    }
    await until(() => https.state.lag === 0 && (life === 2 || mqtt.state.lag === 0));
    if (life === 2) expect(mqtt.state.lag).toBe(total / 3);
  }
  const seqs = Array.from({ length: total }, (_, i) => i + 1);
  expect(cloud.lines.map(({ seq }) => seq)).toEqual(seqs);
  expect(cloud.repeated).toBe(0);
  const published = () => watcher.messages.flatMap(({ payload }) => JSON.parse(payload).logs);
  await until(() => published().length === total);
  const arrived: number[] = published().map(({ seq }: { seq: number }) => seq);
  expect(arrived.toSorted((a, b) => a - b)).toEqual(seqs);
});
