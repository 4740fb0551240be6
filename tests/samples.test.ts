import { exec } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import mqtt from 'mqtt';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openBrowser } from './support/browser.ts';
import { startTestCloud, type TestCloud } from './support/cloud.ts';
import { startEngine, type TestEngine } from './support/docker.ts';
import { type Mosquitto, mosquittoSub, startMosquitto } from './support/mosquitto.ts';
import { type Program, repository, startProgram } from './support/programs.ts';
import { readSamples, type Sample } from './support/samples.ts';
import { until } from './support/wait.ts';

/* The code in the documentation, compiled and run as it stands there but for addresses and folders. */

const samples = await readSamples();
const typescript = samples.filter(({ language }) => ['ts', 'typescript'].includes(language));

/** In the repository, so that a sample's imports are found; `data/` is never committed. */
let folder: string;
let broker: Mosquitto;
beforeAll(async () => {
  await mkdir(join(repository, 'data'), { recursive: true });
  folder = await mkdtemp(join(repository, 'data', 'samples-'));
  broker = await startMosquitto();
});
afterAll(async () => {
  await broker[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

function sampleOf(name: string): Sample {
  const sample = samples.find((candidate) => candidate.name === name);
  if (!sample) throw new Error(`no sample "${name}" in the documentation`);
  return sample;
}

/** Runs a sample on its own, with what it names replaced by what this test has. */
async function run(
  name: string,
  replace: Record<string, string>,
  env: Record<string, string> = {},
): Promise<Program> {
  const { language, code } = sampleOf(name);
  let text = code;
  for (const [from, to] of Object.entries(replace)) {
    expect(text, `"${from}" in sample ${name}`).toContain(from);
    text = text.replaceAll(from, to);
  }
  const path = join(folder, `${name}.${language === 'js' ? 'cjs' : 'mts'}`);
  await writeFile(path, text);
  return startProgram([path], { env, cwd: folder });
}

const line = (message: string, level = 'info') =>
  JSON.stringify({ message, level, serviceName: 'web', timestamp: Date.now() });

test('every TypeScript sample compiles', async () => {
  expect(typescript.length).toBeGreaterThan(0);
  const types = join(folder, 'types');
  await mkdir(types);
  for (const [i, { file, code }] of typescript.entries()) {
    await writeFile(join(types, `sample-${i}.mts`), `// ${file}\n${code}\nexport {};\n`);
  }
  const config = { extends: join(repository, 'tsconfig.json'), include: ['*.mts'] };
  await writeFile(join(types, 'tsconfig.json'), JSON.stringify(config));
  await using tsc = startProgram([join(repository, 'node_modules/typescript/bin/tsc'), '--project', types]);
  const { code } = await tsc.ended(60_000);
  expect(tsc.stdout).toBe('');
  expect(code).toBe(0);
});

describe('the agent as a library', () => {
  let engine: TestEngine;
  beforeAll(async () => {
    engine = await startEngine();
    await engine.buildBusybox();
  });
  afterAll(async () => {
    await engine[Symbol.asyncDispose]();
  });

  test('several backends at once', async () => {
    await using subscriber = await mosquittoSub(broker, 'container-manager/logs/#');
    await using program = await run(
      'backends',
      { 'mqtt://localhost:1883': broker.url, './data/logs': join(folder, 'logs') },
      { DOCKER_HOST: engine.host },
    );
    const container = await engine.run({
      name: 'web',
      cmd: ['sh', '-c', 'echo hello; echo trouble >&2; sleep 60'],
    });
    await until(() => subscriber.messages.length >= 2, { what: () => `two messages\n${program.stdout}` });
    const topics = Object.fromEntries(
      subscriber.messages.map(({ topic, payload }) => [topic, JSON.parse(payload)]),
    );
    expect(topics).toMatchObject({
      'container-manager/logs/0/web/info/batch': {
        count: 1,
        logs: [{ message: 'hello', serviceName: 'web' }],
      },
      'container-manager/logs/0/web/error/batch': {
        count: 1,
        logs: [{ message: 'trouble', isStdErr: true }],
      },
    });
    expect(program.stdout).toContain('✅ MQTT log backend connected');
    expect((await program.end('SIGINT')).code).toBe(0);
    await container.remove({ force: true });
    // And the other backend has them in its files.
    const files = await promisify(exec)(`zcat ${join(folder, 'logs')}/*.log.gz`);
    expect(files.stdout).toContain('hello');
    expect(files.stdout).toContain('trouble');
  });
});

test('reading back', async () => {
  await using program = await run('query', {});
  expect((await program.ended()).code).toBe(0);
  expect(program.stdout).toBe('[error] web: out of memory\n');
});

describe('with a cloud', () => {
  let cloud: TestCloud;
  beforeAll(async () => {
    cloud = await startTestCloud();
  });
  afterAll(() => cloud[Symbol.asyncDispose]());

  test('straight to the cloud', async () => {
    await cloud.register('abc-123', 'a-device-key-for-tests');
    await using program = await run('cloud', {
      'https://your-cloud.com': cloud.url,
      "'secret'": "'a-device-key-for-tests'",
    });
    expect((await program.ended()).code).toBe(0);
    const lines = await cloud.linesOf('web');
    expect(lines).toMatchObject([{ message: 'hello from a library', level: 'warn', device: 'abc-123' }]);
  });

  test('the dashboard in a browser, on the broker that `npm start` runs', async () => {
    const page = sampleOf('dashboard')
      .code.replace('https://unpkg.com/mqtt/dist/mqtt.min.js', '/mqtt.min.js')
      .replace('ws://localhost:9001', `ws://localhost:${cloud.wsPort}`);
    const script = await readFile(join(repository, 'node_modules/mqtt/dist/mqtt.min.js'));
    const server = createServer(({ url }, response) => {
      response.setHeader('content-type', url === '/' ? 'text/html' : 'text/javascript');
      response.end(url === '/' ? page : script);
    });
    await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
    try {
      await using browser = await openBrowser();
      const tab = await browser.newPage();
      await tab.goto(`http://localhost:${(server.address() as AddressInfo).port}/`);
      const publisher = await mqtt.connectAsync(`mqtt://127.0.0.1:${cloud.mqttPort}`);
      const shown = tab.locator('#logs > div');
      // Until the page has subscribed, what is published passes it by.
      await until(async () => {
        await publisher.publishAsync('container-manager/logs/1/web/error', line('<b>trouble</b>', 'error'));
        return (await shown.count()) > 0;
      });
      expect(await shown.first().textContent()).toMatch(/^\[.+\] web: <b>trouble<\/b>$/);
      expect(await shown.first().getAttribute('style')).toBe('color: red;');
      for (let i = 1; i <= 120; i++) {
        await publisher.publishAsync('container-manager/logs/1/web/info', line(`line ${i}`), { qos: 1 });
      }
      await until(async () => (await shown.first().textContent())?.endsWith('web: line 120'));
      expect(await shown.count()).toBe(100);
      await publisher.endAsync();
    } finally {
      server.close();
    }
  });
});

describe('subscribers in a program', () => {
  test.each([
    ['subscriber', 'container-manager/logs/1/web/info', line('hello'), '[info] web: hello\n'],
    ['devices', 'device/abc/logs', line('one'), 'abc one\n'],
    [
      'devices',
      'device/abc/logs',
      `{"count":2,"logs":[${line('one')},${line('two')}]}`,
      'abc one\nabc two\n',
    ],
  ])('%s', async (name, topic, payload, printed) => {
    await using program = await run(name, { 'mqtt://localhost:1883': broker.url });
    const publisher = await mqtt.connectAsync(broker.url);
    await until(
      async () => {
        await publisher.publishAsync(topic, payload);
        return program.stdout.includes(printed);
      },
      { what: () => `"${printed}" in ${program.stdout}${program.stderr}` },
    );
    await publisher.endAsync();
  });
});
