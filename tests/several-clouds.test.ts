import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import mqtt from 'mqtt';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { batch, StreamClient } from '../packages/cloud/test/support/stream-client.ts';
import { compose, type FakeDevice, Targets } from '../packages/cloud/test/targets/fleet.ts';
import { adminToken, startTestAgent, type TestCloud } from './support/cloud.ts';
import { type SeveralClouds, startSeveralClouds } from './support/several-clouds.ts';
import { tempDir } from './support/tmp.ts';
import { until } from './support/wait.ts';

let site: SeveralClouds;

beforeAll(async () => {
  site = await startSeveralClouds();
  // Known to the others some seconds later: when the test about it comes.
  const [, second] = site.clouds as [TestCloud, TestCloud];
  const policy = { device: 'metered', dailyQuotaBytes: quotaBytes };
  expect((await ask(second, 'POST', '/api/v1/policies', policy)).status).toBe(201);
});
afterAll(async () => site?.[Symbol.asyncDispose]());

/** Asks the API of a process as its admin. */
async function ask(cloud: TestCloud, method: string, path: string, body?: object): Promise<Response> {
  return fetch(`${cloud.url}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${adminToken}`,
      ...(body && { 'content-type': 'application/json' }),
    },
    ...(body && { body: JSON.stringify(body) }),
  });
}

/** A file that grows by numbered lines until it is stopped. */
class Writer implements AsyncDisposable {
  readonly #path: string;
  readonly #name: string;
  readonly #timer: NodeJS.Timeout;
  #writing: Promise<void> = Promise.resolve();
  written = 0;

  constructor(path: string, name: string) {
    this.#path = path;
    this.#name = name;
    this.#timer = setInterval(() => this.#write(20), 50);
  }

  #write(count: number): void {
    const lines = Array.from({ length: count }, () => `${this.#name} ${++this.written}\n`).join('');
    this.#writing = this.#writing.then(() => appendFile(this.#path, lines));
  }

  async stop(): Promise<number> {
    clearInterval(this.#timer);
    await this.#writing;
    return this.written;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

const key = 'key-of-a-device-in-tests';
const quotaBytes = 100_000;

test('real agents, two processes that are killed and paused in turn: each line is stored once', async () => {
  const [first, second] = site.clouds as [TestCloud, TestCloud];
  await using dir = await tempDir();
  await using agents = new AsyncDisposableStack();
  const writers = new Map<string, Writer>();
  for (const [name, way] of [
    ['till', 'http'],
    ['kiosk', 'http'],
    ['pump', 'mqtt'],
  ] as const) {
    await first.register(name, key);
    const file = join(dir.path, `${name}.log`);
    await appendFile(file, '');
    agents.use(
      await startTestAgent(join(dir.path, name), {
        DOCKER_HOST: 'tcp://127.0.0.1:1',
        DEVICE_UUID: name,
        LOG_FILES: file,
        LOG_LEVEL: 'warn',
        ...(way === 'http'
          ? { CLOUD_ENDPOINT: `http://127.0.0.1:${site.balancer.port}`, CLOUD_API_KEY: key }
          : { MQTT_BROKER: site.mosquitto.url, MQTT_TOPIC: 'device/logs', MQTT_ACK: 'cloud' }),
      }),
    );
    writers.set(name, agents.use(new Writer(file, name)));
  }
  const stored = async (name: string, cloud = second) => {
    // It asks three servers, which have other things to do.
    await pause(100);
    const { devices } = await cloud.get<{ devices: { uuid: string; lines: number }[] }>('/api/v1/devices');
    return devices.find(({ uuid }) => uuid === name)?.lines ?? 0;
  };
  /** Waits until a line that is written after this moment has arrived, of some devices. */
  const goesOn = async (cloud: TestCloud, names: readonly string[] = [...writers.keys()]) => {
    for (const name of names) {
      const writer = writers.get(name) as Writer;
      const now = writer.written;
      await until(async () => (await stored(name, cloud)) > now, {
        timeoutMs: 60_000,
        what: `${name} to go on`,
      });
    }
  };
  await goesOn(second);

  await first.program.end('SIGKILL');
  await goesOn(second);
  await first.restart('SIGKILL');
  site.balancer.shuffle();
  await goesOn(first);

  // Long enough for the other to take everything over; when it comes back it still holds what it was about to store.
  process.kill(second.program.pid, 'SIGSTOP');
  site.balancer.shuffle([Number(new URL(second.url).port)]);
  // Half of the messages go to the one that sleeps, until the broker notices.
  await goesOn(first, ['till', 'kiosk']);
  process.kill(second.program.pid, 'SIGCONT');
  site.balancer.shuffle();
  await goesOn(second);

  // An orderly end hands everything over.
  expect((await first.program.end('SIGTERM')).code).toBe(0);
  await first.restart('SIGKILL');
  await goesOn(second);

  for (const [name, writer] of writers) {
    const written = await writer.stop();
    const expected = Array.from({ length: written }, (_, i) => `${name} ${i + 1}`);
    await until(async () => (await stored(name)) >= written, {
      timeoutMs: 60_000,
      what: () => `all ${written} lines of ${name}`,
    });
    const lines = await second.linesOf(name);
    expect(lines.map(({ message }) => message)).toEqual(expected);
  }
}, 300_000);

test('a watcher at one process sees each line once, whichever process got it and whichever stores it', async () => {
  const [first, second] = site.clouds as [TestCloud, TestCloud];
  const names = Array.from({ length: 8 }, (_, i) => `watched-${i}`);
  for (const name of names) await first.register(name, key);
  const gone = new AbortController();
  const watched = await fetch(`${first.url}/api/v1/logs/tail?text=watched`, {
    headers: { authorization: `Bearer ${adminToken}` },
    signal: gone.signal,
  });
  let text = '';
  const reading = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of watched.body ?? []) {
      text += decoder.decode(chunk, { stream: true });
    }
  })().catch(() => undefined);
  await until(() => text.startsWith(': tail'));
  // The same as balena shows it, device by device.
  const shown = new Map<string, string>();
  const followed = await Promise.all(
    names.map((name) =>
      fetch(`${first.url}/device/v2/${name}/logs?stream=1`, {
        headers: { authorization: `Bearer ${adminToken}` },
        signal: gone.signal,
      }),
    ),
  );
  const showing = names.map(async (name, i) => {
    const decoder = new TextDecoder();
    for await (const chunk of followed[i]?.body ?? []) {
      shown.set(name, (shown.get(name) ?? '') + decoder.decode(chunk, { stream: true }));
    }
  });
  // They end with the test, whether it comes to its end or not.
  const over = Promise.allSettled(showing);
  const seen = () => [...text.matchAll(/^data: (.*)$/gm)].map((match) => JSON.parse(match[1] ?? '').message);
  const sent: string[] = [];
  for (const [i, name] of names.entries()) {
    const message = `watched by all ${i}`;
    sent.push(message);
    const sending = fetch(`${i % 2 === 0 ? first.url : second.url}/device/v2/${name}/log-stream`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/x-ndjson' },
      body: `${JSON.stringify({ message, timestamp: Date.now() })}\n`,
    });
    await until(() => seen().includes(message), { what: () => `"${message}" among ${seen().join(', ')}` });
    expect((await sending).status).toBe(201);
  }
  expect(seen()).toEqual(sent);
  for (const [i, name] of names.entries()) {
    await until(() => shown.get(name)?.includes(`watched by all ${i}`), {
      what: () => `${name} to be shown`,
    });
  }
  gone.abort();
  await reading;
  await over;
}, 60_000);

/** An open stream of a device, with one line that was acknowledged. */
function openStream({ url }: TestCloud, uuid: string): Promise<StreamClient> {
  // While its slot changes hands, as after a start, a device is asked to come again.
  return until(async () => {
    const tried = new StreamClient({ url, uuid, key, acks: true });
    tried.send(batch('journal01', 1, 1));
    await until(() => tried.body.includes('"ack"') || tried.error || tried.response?.readableEnded);
    if (tried.body.includes('"ack"')) return tried;
    tried[Symbol.dispose]();
    return undefined;
  });
}

test('a key that is changed at one process ends what the device has open at the other, as a token does', async () => {
  const [first, second] = site.clouds as [TestCloud, TestCloud];
  // Some belong to the one process and some to the other.
  const names = Array.from({ length: 6 }, (_, i) => `rotated-${i}`);
  for (const name of names) await first.register(name, key);
  const streams: StreamClient[] = [];
  for (const uuid of names) streams.push(await openStream(second, uuid));
  const made = await ask(first, 'POST', '/api/v1/tokens', { name: 'watcher', role: 'reader' });
  const { token } = (await made.json()) as { token: string };
  const tail = await fetch(`${second.url}/api/v1/logs/tail`, {
    headers: { authorization: `Bearer ${token}` },
  });
  const watching = tail.text();
  const changedMs = performance.now();
  await Promise.all(names.map((name) => ask(first, 'POST', `/api/v1/devices/${name}/key`)));
  await until(() => streams.every((stream) => stream.response?.readableEnded), {
    what: 'all streams to end',
  });
  await ask(first, 'DELETE', '/api/v1/tokens/watcher');
  await watching;
  // Far before each process looks for itself.
  expect(performance.now() - changedMs).toBeLessThan(30_000);
  for (const stream of streams) stream[Symbol.dispose]();
}, 60_000);

test('a rollout reaches devices of either process, and goes on when the one where it was begun is killed', async () => {
  const [first, second] = site.clouds as [TestCloud, TestCloud];
  const targetsAt = ({ url, register }: TestCloud) =>
    new Targets({ url, register: (uuid) => register(uuid, key).then(() => key) }, adminToken);
  const [here, there] = [targetsAt(first), targetsAt(second)];
  await there.json('POST', '/fleets', { name: 'shops' });
  const devices = [];
  for (const name of ['shop-0', 'shop-1', 'shop-2']) {
    const device = await here.device(name, 'shops');
    expect((await device.report()).status).toBe(200);
    devices.push(device);
  }
  const [one, two, three] = devices as [FakeDevice, FakeDevice, FakeDevice];
  // Its lines may be the other process's, and its words of targets come all the same.
  const stream = await openStream(first, one.uuid);
  const broker = await mqtt.connectAsync(site.mosquitto.url);
  const retained = new Set<string>();
  broker.on('message', (topic) => retained.add(topic));
  await broker.subscribeAsync('device/+/target', { qos: 1 });

  await there.json('PUT', '/fleets/shops/target?batch=1', compose('nginx:1'));
  await until(() => stream.body.includes('{"target":'), { what: () => `a version; ${stream.body}` });
  await until(() => retained.has('device/shop-0/target'), { what: 'the target at the broker' });
  stream[Symbol.dispose]();
  await broker.endAsync(true);
  expect(await two.wanted()).toBeUndefined();
  const gone = new AbortController();
  const tail = await fetch(`${first.url}/api/v1/logs/tail?device=nobody`, {
    headers: { authorization: `Bearer ${adminToken}` },
    signal: gone.signal,
  });
  let text = '';
  const reading = (async () => {
    for await (const chunk of tail.body ?? []) text += Buffer.from(chunk).toString();
  })().catch(() => undefined);
  await until(() => text.startsWith(': tail'));
  await second.program.end('SIGKILL');
  // What it admitted last, a watcher of the other may not have seen.
  await until(() => text.includes('event: gap'), { what: 'the watcher to be told' });
  gone.abort();
  await reading;
  await one.report('done');
  const reached = async (device: FakeDevice) => (await device.wanted()) !== undefined;
  await until(() => reached(two), { what: 'the second batch' });
  await two.report('done');
  await until(() => reached(three), { what: 'the third batch' });
  await three.report('done');
  await here.rollout('shops', ({ rollout }) => rollout?.state === 'done', 'the end');
  await second.restart('SIGKILL');
}, 60_000);

test('what a device may send in a day is one amount for all processes, also when another takes over', async () => {
  const [first, second] = site.clouds as [TestCloud, TestCloud];
  const lineBytes = 1000;
  await first.register('metered', key);
  const send = async ({ url }: TestCloud, count = 10) => {
    const line = JSON.stringify({ message: 'x'.repeat(lineBytes), timestamp: Date.now() });
    const { status } = await fetch(`${url}/device/v2/metered/log-stream`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/x-ndjson' },
      body: `${line}\n`.repeat(count),
    });
    return status;
  };
  // While its slot changes hands a device is asked to come again. What is refused late may have been counted. A request
  // may go out on a connection of the process that was killed.
  const taken = (cloud: TestCloud) =>
    until(async () => (await send(cloud, 1).catch(() => undefined)) === 201, {
      timeoutMs: 60_000,
      what: 'the lines to be taken',
    });
  for (const cloud of [first, second, first, second, first, second]) await taken(cloud);
  // Whichever of them counted: the other goes on from there.
  await first.restart('SIGKILL');
  await taken(second);
  await taken(first);
  const statuses: number[] = [];
  for (let i = 0; i < 20 && statuses.at(-1) !== 429; i++) {
    statuses.push(await send(i % 2 === 0 ? first : second));
  }
  expect(statuses.at(-1)).toBe(429);
  expect([await send(first), await send(second)]).toEqual([429, 429]);
  const lines = (await first.linesOf('metered')).length;
  expect(lines).toBeLessThanOrEqual(quotaBytes / lineBytes + 10);

  // By MQTT it may be either process that gets it, and the sender is told all the same.
  const client = await mqtt.connectAsync(site.mosquitto.url);
  const told: string[] = [];
  client.on('message', (_topic, payload) => told.push(String(payload)));
  await client.subscribeAsync('device/metered/logs/ack');
  for (let i = 0; i < 4; i++)
    await client.publishAsync('device/metered/logs', '{"message":"one more"}', { qos: 1 });
  await until(() => told.length >= 4, { what: () => `four refusals among ${told.join()}` });
  expect(told.every((text) => text.includes('QUOTA_EXCEEDED'))).toBe(true);
  await client.endAsync(true);
}, 120_000);
