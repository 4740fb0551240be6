import type { LogMessage } from '@millrace/wire';
import pino, { type Logger } from 'pino';
import { copyNewCloud } from '../../../../tests/support/cloud-template.ts';
import { memoryDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import type { HttpTuning } from '../../src/http/server.ts';
import { type Cloud, startCloud } from '../../src/main.ts';

export const adminToken = 'the-admin-token-of-the-tests';
export const joinKey = 'the-join-key-of-the-tests';

export interface Line extends LogMessage {
  device: string;
  receivedAt: number;
}

/** A cloud in this process, on free ports and a folder of its own, and what tests ask of it. */
export interface TestCloud extends AsyncDisposable {
  cloud: Cloud;
  url: string;
  mqttUrl: string;
  dataDir: string;
  /** What the program logged, one JSON text each. */
  logged: string[];
  /** GET with the admin token. */
  get(path: string): Promise<Response>;
  search(query?: string): Promise<Line[]>;
  /** Every line of a device, oldest first. */
  allLines(device: string): Promise<Line[]>;
  /** Waits until a device has this many lines, and returns them oldest first. */
  lines(device: string, count: number): Promise<Line[]>;
  /** Registers a device and returns its key. */
  register(uuid: string): Promise<string>;
  /** Stops it and starts it again on the same folder, on other ports. */
  restart(): Promise<void>;
}

export interface TestCloudOptions {
  /** A data folder that is there already, and stays. */
  dataDir?: string;
  env?: Record<string, string>;
  tuning?: HttpTuning;
}

export async function startTestCloud({ dataDir, env, tuning }: TestCloudOptions = {}): Promise<TestCloud> {
  const dir =
    dataDir === undefined
      ? await memoryDir()
      : { path: dataDir, [Symbol.asyncDispose]: async () => undefined };
  if (dataDir === undefined) await copyNewCloud(dir.path);
  const logged: string[] = [];
  const log: Logger = pino({ level: 'debug' }, { write: (line: string) => logged.push(line) });
  const start = () =>
    startCloud({
      env: {
        DATA_DIR: dir.path,
        CLOUD_HOST: '127.0.0.1',
        CLOUD_PORT: '0',
        MQTT_PORT: '0',
        MQTT_WS_PORT: '0',
        ADMIN_TOKEN: adminToken,
        JOIN_KEY: joinKey,
        ...env,
      },
      log,
      tuning,
    });
  let cloud = await start();
  const get = (path: string) =>
    fetch(`${cloud.url}${path}`, { headers: { authorization: `Bearer ${adminToken}` } });
  const search = async (query = '') => {
    const response = await get(`/api/v1/logs?${query}`);
    if (!response.ok) throw new Error(`search: ${response.status} ${await response.text()}`);
    return ((await response.json()) as { logs: Line[] }).logs;
  };
  return {
    get cloud() {
      return cloud;
    },
    get url() {
      return cloud.url;
    },
    get mqttUrl() {
      return `mqtt://127.0.0.1:${cloud.mqttPort}`;
    },
    dataDir: dir.path,
    logged,
    get,
    search,
    async allLines(device) {
      const lines: Line[] = [];
      let cursor: string | undefined;
      do {
        const response = await get(
          `/api/v1/logs?device=${device}&order=asc&limit=10000${cursor ? `&cursor=${cursor}` : ''}`,
        );
        const page = (await response.json()) as { logs: Line[]; cursor?: string };
        lines.push(...page.logs);
        cursor = page.cursor;
      } while (cursor !== undefined);
      return lines;
    },
    async lines(device, count) {
      let found: Line[] = [];
      await until(
        async () => {
          found = await search(`device=${device}&order=asc&limit=10000`);
          return found.length >= count;
        },
        { what: () => `${count} lines of ${device}; there are ${found.length}` },
      );
      return found;
    },
    async register(uuid) {
      const response = await fetch(`${cloud.url}/device/register`, {
        method: 'POST',
        headers: { authorization: `Bearer ${joinKey}`, 'content-type': 'application/json' },
        body: JSON.stringify({ uuid, api_key: `key-of-the-device-${uuid}` }),
      });
      if (!response.ok) throw new Error(`register: ${response.status} ${await response.text()}`);
      return ((await response.json()) as { api_key: string }).api_key;
    },
    async restart() {
      await cloud.stop();
      cloud = await start();
    },
    async [Symbol.asyncDispose]() {
      await cloud.stop();
      await dir[Symbol.asyncDispose]();
    },
  };
}
