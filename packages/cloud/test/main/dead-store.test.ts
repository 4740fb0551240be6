import { gzipSync } from 'node:zlib';
import mqtt from 'mqtt';
import { expect, test } from 'vitest';
import { startClickHouse } from '../../../../tests/support/clickhouse.ts';
import { until } from '../../../../tests/support/wait.ts';
import { startTestCloud } from '../support/cloud.ts';
import { batch, StreamClient } from '../support/stream-client.ts';

test('while the store is away nothing is confirmed; when it is back everything is; and a stop waits for it in vain at most 5 s', async () => {
  await using clickHouse = await startClickHouse();
  await using cloud = await startTestCloud({ env: { CLICKHOUSE_URL: clickHouse.url } });
  const key = await cloud.register('d1');
  using stream = new StreamClient({ url: cloud.url, uuid: 'd1', key, acks: true });
  stream.send(batch('journal01', 1, 10));
  await stream.acked(10);

  await clickHouse.kill();
  await until(async () => (await fetch(`${cloud.url}/healthz`)).status === 503, {
    what: 'the cloud to notice',
  });
  const health = await (await fetch(`${cloud.url}/healthz`)).json();
  expect(health).toMatchObject({ status: 'failing', checks: { store: 'failing', broker: 'ok' } });
  const search = await cloud.get('/api/v1/logs');
  expect(search.status).toBe(503);
  expect(await search.json()).toMatchObject({ code: 'STORE_FAILED' });
  stream.send(batch('journal01', 11, 10));
  const device = await mqtt.connectAsync(cloud.mqttUrl, {
    username: 'd1',
    password: key,
    reconnectPeriod: 0,
  });
  device.on('error', () => undefined);
  let confirmed = false;
  const publishing = device
    .publishAsync('device/d1/logs', gzipSync(batch('journal02', 1, 10)), { qos: 1 })
    .then(
      () => {
        confirmed = true;
      },
      () => undefined,
    );
  const isFailing = () =>
    cloud.logged.some((line) => line.includes('"part":"ingest"') && line.includes('"level":40'));
  await until(isFailing, { what: 'an insert to fail' });
  expect(stream.acks.at(-1)?.through).toBe(10);
  expect(confirmed).toBe(false);

  await clickHouse.start();
  await stream.acked(20);
  await publishing;
  expect(confirmed).toBe(true);
  expect(await cloud.allLines('d1')).toHaveLength(30);

  // Not dead this time, but without a word.
  clickHouse.signal('SIGSTOP');
  stream.send(batch('journal01', 21, 10));
  const last = device.publishAsync('device/d1/logs', gzipSync(batch('journal02', 11, 10)), { qos: 1 }).then(
    () => 'confirmed',
    () => 'not confirmed',
  );
  const started = performance.now();
  await cloud.cloud.stop();
  // It waits 4.5 s at most; without that limit it would wait for as long as the store is away.
  expect(performance.now() - started).toBeLessThan(20_000);
  await device.endAsync(true);
  expect(await last).toBe('not confirmed');
  expect(stream.acks.at(-1)?.through).toBe(20);
}, 90_000);
