import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { adminToken, startTestAgent, type TestCloud } from './support/cloud.ts';
import { type SeveralClouds, startSeveralClouds } from './support/several-clouds.ts';
import { tempDir } from './support/tmp.ts';
import { until } from './support/wait.ts';

let site: SeveralClouds;

beforeAll(async () => {
  site = await startSeveralClouds();
});
afterAll(async () => site?.[Symbol.asyncDispose]());

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
  await first.restart('SIGTERM');
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
  gone.abort();
  await reading;
}, 60_000);
