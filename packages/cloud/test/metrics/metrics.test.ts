import { gzipSync } from 'node:zlib';
import mqtt from 'mqtt';
import pino from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { Ingest } from '../../src/ingest/index.ts';
import type { IngestStore } from '../../src/ingest/ingest.ts';
import { CloudMetrics } from '../../src/metrics/cloud-metrics.ts';
import { adminToken, joinKey, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { batch, StreamClient } from '../support/stream-client.ts';

let cloud: TestCloud;
beforeAll(async () => {
  cloud = await startTestCloud();
});
afterAll(() => cloud[Symbol.asyncDispose]());

const scrape = (token?: string) =>
  fetch(`${cloud.url}/metrics`, { headers: token ? { authorization: `Bearer ${token}` } : {} });

/** Samples by name and labels, without the prefix. */
async function figures(): Promise<Map<string, number>> {
  const response = await scrape(adminToken);
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
  const samples = new Map<string, number>();
  for (const line of (await response.text()).split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const at = line.lastIndexOf(' ');
    samples.set(line.slice('millrace_cloud_'.length, at), Number(line.slice(at + 1)));
  }
  return samples;
}

async function makeToken(role: string): Promise<string> {
  const response = await fetch(`${cloud.url}/api/v1/tokens`, {
    method: 'POST',
    headers: { authorization: `Bearer ${adminToken}`, 'content-type': 'application/json' },
    body: JSON.stringify({ name: role, role }),
  });
  return ((await response.json()) as { token: string }).token;
}

test('what comes in, what is new of it and what becomes of it is counted', async () => {
  const key = await cloud.register('d1');
  const tailing = new AbortController();
  await fetch(`${cloud.url}/api/v1/logs/tail`, {
    headers: { authorization: `Bearer ${adminToken}` },
    signal: tailing.signal,
  });
  using stream = new StreamClient({ url: cloud.url, uuid: 'd1', key, acks: true });
  const one = batch('journal01', 1, 10);
  stream.send(one);
  stream.send(batch('journal01', 6, 10));
  await stream.acked(15);
  const device = await mqtt.connectAsync(cloud.mqttUrl, { username: 'd1', password: key });
  const two = batch('journal02', 1, 7);
  await device.publishAsync('device/d1/logs', gzipSync(two), { qos: 1 });
  await device.publishAsync('device/d1/logs', Buffer.from([0x1f, 0x8b, 1, 2, 3]), { qos: 1 });
  expect((await fetch(`${cloud.url}/api/v1/logs`)).status).toBe(401);
  using refused = new StreamClient({ url: cloud.url, uuid: 'd1', key: 'a wrong key' });
  expect(await refused.status()).toBe(401);

  const found = await figures();
  expect(Object.fromEntries(found)).toMatchObject({
    'received_lines_total{protocol="http"}': 20,
    'received_lines_total{protocol="mqtt"}': 7,
    'received_bytes_total{protocol="mqtt"}': Buffer.byteLength(two),
    'acks_total{protocol="mqtt"}': 1,
    admitted_lines_total: 22,
    duplicate_lines_total: 5,
    committed_lines_total: 22,
    'refused_payloads_total{reason="damaged"}': 1,
    mqtt_payloads_set_aside_total: 1,
    'http_refusals_total{code="UNAUTHORIZED"}': 2,
    streams: 1,
    tail_watchers: 1,
    mqtt_clients: 1,
    store_rows: 22,
    waiting_bytes: 0,
    'up{part="store"}': 1,
    'up{part="records"}': 1,
    'up{part="broker"}': 1,
  });
  const positive = ['store_bytes', 'store_parts', 'process_cpu_seconds_total', 'process_resident_bytes'];
  for (const name of positive) expect(found.get(name), name).toBeGreaterThan(0);
  expect(found.get('acks_total{protocol="http"}')).toBeGreaterThan(0);
  expect(found.get('insert_duration_seconds_count')).toBeGreaterThan(0);
  expect(found.get('insert_duration_seconds_bucket{le="+Inf"}')).toBe(
    found.get('insert_duration_seconds_count'),
  );
  tailing.abort();
  await device.endAsync();
  await until(async () => {
    const now = await figures();
    return now.get('tail_watchers') === 0 && now.get('mqtt_clients') === 0;
  });
});

test('it takes a token of the role metrics, which opens nothing else', async () => {
  const token = await makeToken('metrics');
  expect((await scrape(token)).status).toBe(200);
  const elsewhere = await fetch(`${cloud.url}/api/v1/logs`, {
    headers: { authorization: `Bearer ${token}` },
  });
  expect(elsewhere.status).toBe(403);
  expect((await scrape()).status).toBe(401);
  expect((await scrape(joinKey)).status).toBe(401);
  expect((await scrape(await makeToken('reader'))).status).toBe(403);
});

test('a part that does not work is shown as such, and the others all the same', async () => {
  using metrics = new CloudMetrics({ log: pino({ level: 'silent' }) });
  const broken = async () => {
    throw new Error('gone');
  };
  const text = await metrics.render({
    ingest: () => new Ingest({ store: {} as IngestStore, log: pino({ level: 'silent' }) }).stats(),
    tails: () => ({ watchers: 0, skippedLines: 0 }),
    setAside: () => 0,
    storeSize: broken,
    retention: () => ({
      sweeper: {
        diskBytes: 0,
        dropped: { expired: { count: 0, lines: 0 }, 'disk-cap': { count: 0, lines: 0 } },
        overCap: false,
      },
      quotas: { refusals: 0, dropped: 0, droppedBytes: 0 },
    }),
    checks: { store: broken, records: async () => undefined },
  });
  expect(text).toContain('millrace_cloud_up{part="store"} 0');
  expect(text).toContain('millrace_cloud_up{part="records"} 1');
  expect(text).toContain('millrace_cloud_admitted_lines_total 0');
  expect(text).not.toContain('store_rows');
});
