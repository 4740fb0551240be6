/*
 * The devices of bench/cloud.ts, in a process of their own. Batches are made and compressed before the clock starts, as
 * it is the cloud that is measured; each device sends over a connection of its own and goes on as the cloud confirms.
 *
 * The parent sends where to. The first batch of each device goes out and is confirmed before anything is measured: on
 * first contact the cloud asks its store what it has of a device. Then comes a SenderReady, `go` starts the rest, and a
 * SenderResult ends it.
 */
import { request } from 'node:http';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import mqtt from 'mqtt';
import { deviceTopic } from '../packages/wire/src/index.ts';
import { batchesOf, deviceKey, deviceName, encodeBatch } from './cloud-lines.ts';

export interface SenderStart {
  protocol: 'http' | 'mqtt';
  url: string;
  mqttPort: number;
  lines: number;
}

export interface SenderReady {
  /** Lines sent and confirmed by now. */
  lines: number;
  /** What that took, all devices at a time. */
  seconds: number;
}

export interface SenderResult {
  seconds: number;
  cpuSeconds: number;
  wireBytes: number;
}

interface Device {
  name: string;
  key: string;
  batches: { bytes: Buffer; lastSeq: number }[];
}

/** Batches that a device has under way without a confirmation: of an agent's 20 000 lines, a few. */
const maxUnconfirmed = 16;
const compress = promisify(gzip);

process.once('message', async (start: SenderStart) => {
  const devices = new Map<number, Device>();
  let wireBytes = 0;
  for (const batch of batchesOf(start.lines)) {
    const { device, firstSeq, count } = batch;
    const bytes = await compress(encodeBatch(batch));
    wireBytes += bytes.length;
    const own = devices.get(device) ?? { name: deviceName(device), key: deviceKey(device), batches: [] };
    own.batches.push({ bytes, lastSeq: firstSeq + count - 1 });
    devices.set(device, own);
  }
  const open = start.protocol === 'http' ? openStream : openClient;
  const senders = await Promise.all([...devices.values()].map((device) => open(device, start)));
  const firstMs = performance.now();
  await Promise.all(senders.map((send) => send('first')));
  const firstSeconds = (performance.now() - firstMs) / 1000;
  process.once('message', async () => {
    const startMs = performance.now();
    const cpu = process.cpuUsage();
    await Promise.all(senders.map((send) => send('rest')));
    const seconds = (performance.now() - startMs) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    process.send?.({ seconds, cpuSeconds: (user + system) / 1e6, wireBytes } satisfies SenderResult);
  });
  const firstLines = [...devices.values()].reduce((sum, { batches }) => sum + (batches[0]?.lastSeq ?? 0), 0);
  process.send?.({ lines: firstLines, seconds: firstSeconds } satisfies SenderReady);
});

type Send = (which: 'first' | 'rest') => Promise<void>;

/** Sends a device's first batch or all others, never more than it may have under way; resolves once all is confirmed. */
async function sendBatches(
  { batches }: Device,
  which: 'first' | 'rest',
  confirmed: Confirmed,
  send: (bytes: Buffer) => Promise<void> | void,
): Promise<void> {
  const some = which === 'first' ? batches.slice(0, 1) : batches.slice(1);
  for (const [i, { bytes }] of some.entries()) {
    const before = some[i - maxUnconfirmed];
    if (before) await confirmed.reaches(before.lastSeq);
    await send(bytes);
  }
  await confirmed.reaches(some.at(-1)?.lastSeq ?? 0);
}

/** How far a device is confirmed, and whoever waits for that. */
class Confirmed {
  #through = 0;
  #wake: (() => void) | undefined;
  #failed: Error | undefined;

  advance(through: number): void {
    this.#through = Math.max(this.#through, through);
    this.#wake?.();
  }

  fail(error: Error): void {
    this.#failed ??= error;
    this.#wake?.();
  }

  async reaches(seq: number): Promise<void> {
    while (this.#through < seq) {
      if (this.#failed) throw this.#failed;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

async function openStream(device: Device, { url }: SenderStart): Promise<Send> {
  const { name, key } = device;
  const confirmed = new Confirmed();
  const stream = request(`${url}/device/v2/${name}/log-stream`, {
    method: 'POST',
    agent: false,
    headers: {
      'content-type': 'application/x-ndjson',
      'content-encoding': 'gzip',
      authorization: `Bearer ${key}`,
      'millrace-acks': 'stream',
    },
  });
  stream.on('error', (error) => confirmed.fail(error));
  stream.flushHeaders();
  stream.on('response', (response) => {
    let rest = '';
    response.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        if (line === '') continue;
        const { ack, error } = JSON.parse(line);
        if (ack) confirmed.advance(ack.through);
        else confirmed.fail(new Error(`${name}: ${JSON.stringify(error)}`));
      }
    });
    response.on('end', () => confirmed.fail(new Error(`${name}: the cloud ended the stream`)));
  });
  return async (which) => {
    await sendBatches(device, which, confirmed, async (bytes) => {
      if (!stream.write(bytes)) await new Promise<void>((resolve) => stream.once('drain', resolve));
    });
    if (which === 'rest') stream.end();
  };
}

async function openClient(device: Device, { mqttPort }: SenderStart): Promise<Send> {
  const { name, key } = device;
  const confirmed = new Confirmed();
  const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${mqttPort}`, {
    clientId: name,
    username: name,
    password: key,
    reconnectPeriod: 0,
  });
  client.on('error', (error) => confirmed.fail(error));
  client.on('close', () => confirmed.fail(new Error(`${name}: the broker closed the connection`)));
  client.on('message', (_topic, payload) => {
    // Over MQTT lines arrive in the order of sending here: one connection, no broker in between.
    confirmed.advance(JSON.parse(payload.toString()).ack.through);
  });
  await client.subscribeAsync(deviceTopic(name, 'logs/ack'), { qos: 0 });
  const topic = deviceTopic(name, 'logs');
  return async (which) => {
    await sendBatches(device, which, confirmed, (bytes) => {
      client.publish(topic, bytes, { qos: 1 }, (error) => error && confirmed.fail(error));
    });
    if (which === 'rest') client.end(true);
  };
}
