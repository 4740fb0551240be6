import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type CloudReader,
  startTestAgent,
  startTestCloud,
  type TestAgent,
  type TestCloud,
} from '../tests/support/cloud.ts';
import type { TestEngine } from '../tests/support/docker.ts';
import { type Mosquitto, startMosquitto } from '../tests/support/mosquitto.ts';
import { startSeveralClouds } from '../tests/support/several-clouds.ts';
import { tempDir } from '../tests/support/tmp.ts';
import { Link } from './link.ts';
import type { Way } from './options.ts';

const deviceKey = 'a-device-key-for-chaos';
/** Small files, so that a journal has several of them within seconds. */
const journalFileBytes = 64 * 1024;
const diskBytes = 32 * 1024 * 1024;

export interface SiteOptions {
  engine: TestEngine;
  /** Of loopback. */
  enginePort: number;
  /** Cloud processes. */
  clouds: number;
  /** The agent's data lies on a small disk of its own. Needs root. */
  smallDisk: boolean;
  /** The clocks of agent and cloud can be set. Needs libfaketime. */
  clocks: boolean;
}

export type Victim = 'agent' | 'cloud' | `cloud ${number}` | 'broker';

/** What has a program's life and death in its hands. */
export interface Lifecycle {
  signal(name: 'SIGSTOP' | 'SIGCONT'): void;
  end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void>;
  /** After {@link end}. */
  start(): Promise<void>;
}

/** An agent and a cloud, what is between them, and the links that connect it all. */
export interface Site extends AsyncDisposable {
  readonly way: Way;
  readonly uuid: string;
  readonly engine: TestEngine;
  readonly agent: TestAgent;
  readonly cloud: CloudReader;
  readonly programs: ReadonlyMap<Victim, Lifecycle>;
  /** Every link by what it connects. */
  readonly links: ReadonlyMap<string, Link>;
  /** From the agent to the cloud or its broker. */
  readonly uplink: Link;
  readonly journalDir: string;
  /** Where the small disk is mounted. */
  readonly diskDir: string;
  /** Sets the clock of the agent or the cloud off by so many seconds. */
  setClock(of: 'agent' | 'cloud', offsetS: number): Promise<void>;
}

/** The library that lends a program another clock, from Debian's `faketime`. */
export function fakeTimeLibrary(): string | undefined {
  for (const lib of ['/usr/lib', '/usr/lib64']) {
    for (const folder of existsSync(lib)
      ? ['.', ...readdirSync(lib).filter((name) => name.includes('-linux-'))]
      : []) {
      const path = join(lib, folder, 'faketime', 'libfaketimeMT.so.1');
      if (existsSync(path)) return path;
    }
  }
  return undefined;
}

export async function startSite(way: Way, options: SiteOptions): Promise<Site> {
  await using starting = new AsyncDisposableStack();
  const dir = starting.use(await tempDir('millrace-chaos-'));
  const uuid = `chaos-${way}`;
  const clockFile = (of: string) => join(dir.path, `${of}-clock`);
  const setClock = async (of: 'agent' | 'cloud', offsetS: number) => {
    // Renamed into place: a program that reads half a number would jump somewhere else.
    await writeFile(`${clockFile(of)}.new`, `${offsetS < 0 ? '' : '+'}${offsetS}\n`);
    await rename(`${clockFile(of)}.new`, clockFile(of));
  };
  const library = options.clocks ? fakeTimeLibrary() : undefined;
  const clockEnv = async (of: 'agent' | 'cloud'): Promise<Record<string, string>> => {
    if (!library) return {};
    await setClock(of, 0);
    return {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: clockFile(of),
      FAKETIME_CACHE_DURATION: '1',
      // Only the clock on the wall jumps; the monotonic one never does.
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    };
  };
  const links = new Map<string, Link>();
  const linkTo = async (name: string, port: number): Promise<Link> => {
    const link = starting.use(await Link.to(port));
    links.set(name, link);
    return link;
  };

  const cloudEnv = { LOG_LEVEL: 'warn', ...(await clockEnv('cloud')) };
  const site =
    options.clouds > 1
      ? await severalClouds(way, { clouds: options.clouds, env: cloudEnv, linkTo }, starting)
      : await oneCloud(way, { dir: join(dir.path, 'cloud'), env: cloudEnv, linkTo }, starting);
  const { clouds, mosquitto } = site;
  await clouds[0]?.register(uuid, deviceKey);

  const diskDir = join(dir.path, 'agent');
  await mkdir(diskDir);
  if (options.smallDisk) {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${diskBytes}`, 'tmpfs', diskDir]);
    starting.defer(() => void execFileSync('umount', ['-l', diskDir]));
  }
  const engineLink = await linkTo('engine–agent', options.enginePort);
  const uplink = await linkTo(way === 'http' ? 'agent–cloud' : 'agent–broker', site.uplinkPort);
  const agent = starting.use(
    await startTestAgent(diskDir, {
      DOCKER_HOST: `tcp://127.0.0.1:${engineLink.port}`,
      DEVICE_UUID: uuid,
      LOG_LEVEL: 'warn',
      JOURNAL_FILE_BYTES: String(journalFileBytes),
      JOURNAL_MAX_BYTES: String(diskBytes / 2),
      ...(await clockEnv('agent')),
      ...(way === 'http'
        ? { CLOUD_ENDPOINT: `http://127.0.0.1:${uplink.port}`, CLOUD_API_KEY: deviceKey }
        : {
            MQTT_BROKER: `mqtt://127.0.0.1:${uplink.port}`,
            MQTT_TOPIC: 'device/logs',
            MQTT_USERNAME: uuid,
            MQTT_PASSWORD: deviceKey,
            MQTT_ACK: 'cloud',
          }),
    }),
  );

  const programs = new Map<Victim, Lifecycle>([
    ['agent', lifeOf(agent)],
    ...clouds.map((cloud, i): [Victim, Lifecycle] => [i === 0 ? 'cloud' : `cloud ${i + 1}`, lifeOf(cloud)]),
    ...(mosquitto ? [['broker', lifeOfBroker(mosquitto)] as const] : []),
  ]);
  const running = starting.move();
  return {
    ...{ way, uuid, engine: options.engine, agent, programs, links, uplink, diskDir, setClock },
    cloud: anyOf(clouds),
    journalDir: join(diskDir, 'logs'),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

type LinkTo = (name: string, port: number) => Promise<Link>;

interface CloudSite {
  clouds: readonly TestCloud[];
  mosquitto: Mosquitto | undefined;
  /** Where the agent sends to. */
  uplinkPort: number;
}

async function oneCloud(
  way: Way,
  { dir, env, linkTo }: { dir: string; env: Record<string, string>; linkTo: LinkTo },
  starting: AsyncDisposableStack,
): Promise<CloudSite> {
  const mosquitto = way === 'mosquitto' ? starting.use(await startMosquitto()) : undefined;
  const brokerToCloud = mosquitto && (await linkTo('broker–cloud', mosquitto.port));
  const cloud = starting.use(
    await startTestCloud(dir, {
      ...env,
      ...(brokerToCloud && { CLOUD_MQTT_BROKER: `mqtt://127.0.0.1:${brokerToCloud.port}` }),
    }),
  );
  const uplinkPort = way === 'http' ? Number(new URL(cloud.url).port) : (mosquitto?.port ?? cloud.mqttPort);
  return { clouds: [cloud], mosquitto, uplinkPort };
}

async function severalClouds(
  way: Way,
  { clouds, env, linkTo }: { clouds: number; env: Record<string, string>; linkTo: LinkTo },
  starting: AsyncDisposableStack,
): Promise<CloudSite> {
  const site = starting.use(
    await startSeveralClouds({
      clouds,
      env,
      ...(way === 'mosquitto' && {
        brokerUrl: async ({ port }) => `mqtt://127.0.0.1:${(await linkTo('broker–cloud', port)).port}`,
      }),
    }),
  );
  return {
    clouds: site.clouds,
    mosquitto: way === 'mosquitto' ? site.mosquitto : undefined,
    uplinkPort: way === 'http' ? site.balancer.port : site.mosquitto.port,
  };
}

/** Asks the first that answers. */
function anyOf(clouds: readonly TestCloud[]): CloudReader {
  const ask = async <T>(question: (cloud: TestCloud) => Promise<T>): Promise<T> => {
    let failure: unknown;
    for (const cloud of clouds) {
      try {
        return await question(cloud);
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  };
  return {
    get: (path) => ask((cloud) => cloud.get(path)),
    linesOf: (service) => ask((cloud) => cloud.linesOf(service)),
    lineCount: () => ask((cloud) => cloud.lineCount()),
  };
}

function lifeOf(program: TestAgent | TestCloud): Lifecycle {
  return {
    signal: (name) => void process.kill(program.program.pid, name),
    async end(signal) {
      await program.program.end(signal);
    },
    // It has ended already: what is left of a restart is the start.
    start: () => program.restart('SIGKILL'),
  };
}

function lifeOfBroker(broker: Mosquitto): Lifecycle {
  return {
    signal: (name) => broker.signal(name),
    end: (signal) => (signal === 'SIGKILL' ? broker.kill() : broker.stop()),
    start: () => broker.start(),
  };
}
