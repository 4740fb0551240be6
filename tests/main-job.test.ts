import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import {
  type CloudLine,
  joinKey,
  startTestAgent,
  startTestCloud,
  type TestAgent,
  type TestCloud,
} from './support/cloud.ts';
import { startEngine, type TestEngine } from './support/docker.ts';
import { startMosquitto } from './support/mosquitto.ts';
import { tempDir } from './support/tmp.ts';
import { until } from './support/wait.ts';

/*
 * Three containers print 10 000 numbered lines each, at once, on a real Docker engine. Each line must be in the
 * cloud exactly once, with its service and stream, in order, whichever way it went.
 */
const perContainer = 10_000;
const uuid = 'device-under-test';
const deviceKey = 'a-device-key-for-tests';

/** Two cores may be shared with other tests: ten times what it takes alone. */
vi.setConfig({ testTimeout: 120_000 });

/** By container: which stream line n goes to. */
const streams = {
  web: (_n: number) => 'stdout',
  worker: (_n: number) => 'stderr',
  both: (n: number) => (n % 3 === 0 ? 'stderr' : 'stdout'),
} satisfies Record<string, (n: number) => 'stdout' | 'stderr'>;

const scripts: Record<keyof typeof streams, string> = {
  web: 'echo "web $i"',
  worker: 'echo "worker $i" >&2',
  both: 'if [ $((i % 3)) = 0 ]; then echo "both $i" >&2; else echo "both $i"; fi',
};

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
  await engine.buildBusybox();
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
});

/** Runs the three containers, and removes them when the scope ends. */
async function printing(): Promise<AsyncDisposable> {
  const names = Object.keys(scripts) as (keyof typeof scripts)[];
  const containers = await Promise.all(
    names.map((name) =>
      engine.run({
        name,
        cmd: [
          'sh',
          '-c',
          `i=0; while [ $i -lt ${perContainer} ]; do i=$((i+1)); ${scripts[name]}; done; sleep 600`,
        ],
      }),
    ),
  );
  return {
    async [Symbol.asyncDispose]() {
      await Promise.all(containers.map((container) => container.remove({ force: true })));
    },
  };
}

function numbersOf(service: string, lines: CloudLine[]): number[] {
  return lines.map((line) => {
    const match = /^(\w+) (\d+)$/.exec(line.message);
    expect(match?.[1]).toBe(service);
    return Number(match?.[2]);
  });
}

async function expectEveryLineOnce(cloud: TestCloud, agent: TestAgent): Promise<void> {
  await until(async () => (await cloud.lineCount()) >= 3 * perContainer, {
    timeoutMs: 80_000,
    what: () =>
      `all lines in the cloud\n${cloud.program.stdout.slice(-3000)}\n${agent.program.stdout.slice(-3000)}`,
  });
  for (const [service, streamOf] of Object.entries(streams)) {
    const lines = await cloud.linesOf(service);
    const numbers = numbersOf(service, lines);
    expect(numbers.length, `${service}: lines`).toBe(perContainer);
    expect(new Set(numbers).size, `${service}: different lines`).toBe(perContainer);
    const wrong = lines.filter((line, i) => {
      const expected = streamOf(numbers[i] as number) === 'stderr';
      return (
        line.isStdErr !== expected || line.level !== (expected ? 'error' : 'info') || line.device !== uuid
      );
    });
    expect(wrong.slice(0, 3), `${service}: lines with a wrong stream, level or device`).toEqual([]);
    // Docker reads the two streams of a container side by side, so only within one is there an order.
    for (const stream of ['stdout', 'stderr'] as const) {
      const inStream = numbers.filter((n) => streamOf(n) === stream);
      expect(inStream, `${service}: order of ${stream}`).toEqual(inStream.toSorted((a, b) => a - b));
    }
  }
}

describe('every line is in the cloud exactly once, in order, with its service and stream', () => {
  test('by HTTP', async () => {
    await using dir = await tempDir();
    await using cloud = await startTestCloud();
    await using agent = await startTestAgent(`${dir.path}/agent`, {
      DOCKER_HOST: engine.host,
      DEVICE_UUID: uuid,
      CLOUD_ENDPOINT: cloud.url,
      JOIN_KEY: joinKey,
    });
    await using _containers = await printing();
    await expectEveryLineOnce(cloud, agent);
    // What the agent does on its way out must repeat nothing either.
    expect(await agent.program.end('SIGTERM')).toMatchObject({ code: 0 });
    await expectEveryLineOnce(cloud, agent);
  });

  test('by MQTT through the embedded broker, acknowledged by the cloud', async () => {
    await using dir = await tempDir();
    await using cloud = await startTestCloud();
    await cloud.register(uuid, deviceKey);
    await using agent = await startTestAgent(`${dir.path}/agent`, {
      DOCKER_HOST: engine.host,
      DEVICE_UUID: uuid,
      MQTT_BROKER: `mqtt://127.0.0.1:${cloud.mqttPort}`,
      MQTT_TOPIC: 'device/logs',
      MQTT_USERNAME: uuid,
      MQTT_PASSWORD: deviceKey,
      MQTT_ACK: 'cloud',
    });
    await using _containers = await printing();
    await expectEveryLineOnce(cloud, agent);
  });

  test('by MQTT through Mosquitto with TLS and passwords', async () => {
    await using dir = await tempDir();
    await using broker = await startMosquitto({
      tls: true,
      users: { [uuid]: deviceKey, cloud: 'cloud-password' },
    });
    const caFile = broker.certificates?.caFile ?? '';
    await using cloud = await startTestCloud(undefined, {
      CLOUD_MQTT_BROKER: broker.url,
      CLOUD_MQTT_USERNAME: 'cloud',
      CLOUD_MQTT_PASSWORD: 'cloud-password',
      CLOUD_MQTT_CA: caFile,
    });
    await using agent = await startTestAgent(`${dir.path}/agent`, {
      DOCKER_HOST: engine.host,
      DEVICE_UUID: uuid,
      MQTT_BROKER: broker.url,
      MQTT_TOPIC: 'device/logs',
      MQTT_USERNAME: uuid,
      MQTT_PASSWORD: deviceKey,
      MQTT_CA: caFile,
      MQTT_ACK: 'cloud',
    });
    await using _containers = await printing();
    await expectEveryLineOnce(cloud, agent);
  });

  test('by HTTP while agent and cloud are killed again and again', async () => {
    await using dir = await tempDir();
    await using cloud = await startTestCloud();
    await using agent = await startTestAgent(`${dir.path}/agent`, {
      DOCKER_HOST: engine.host,
      DEVICE_UUID: uuid,
      CLOUD_ENDPOINT: cloud.url,
      JOIN_KEY: joinKey,
    });
    await using _containers = await printing();
    await agent.restart('SIGKILL');
    await cloud.restart('SIGKILL');
    await agent.restart('SIGKILL');
    await cloud.restart('SIGKILL');
    await expectEveryLineOnce(cloud, agent);
  });
});
