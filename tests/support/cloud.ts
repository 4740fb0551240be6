import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { LogMessage } from '@millrace/wire';
import { copyNewCloud, copyNewRecords } from './cloud-template.ts';
import { freePort } from './ports.ts';
import { millrace, nodeFlags, type Program, startProgram } from './programs.ts';
import { memoryDir } from './tmp.ts';
import { until } from './wait.ts';

export interface CloudLine extends LogMessage {
  device: string;
}

export const adminToken = 'an-admin-token-for-tests';
export const joinKey = 'a-join-key-for-tests';

/** A start takes a second or two; a machine that runs much else beside may need far longer. */
const startMs = 120_000;

/** A cloud that runs as a process of its own, and its API. */
export interface TestCloud extends AsyncDisposable {
  readonly program: Program;
  readonly url: string;
  readonly mqttPort: number;
  readonly wsPort: number;
  get<T>(path: string): Promise<T>;
  /** Every stored line of a service, in the order the API gives them, oldest first. */
  linesOf(service: string): Promise<CloudLine[]>;
  /** Number of lines stored of all devices. */
  lineCount(): Promise<number>;
  /** Lets a device in, as it would itself. */
  register(uuid: string, apiKey: string): Promise<void>;
  /** Ends it with a signal and starts it again on the same data and ports. */
  restart(signal: NodeJS.Signals): Promise<void>;
}

/** What is asked of the API of one cloud process or several. */
export type CloudReader = Pick<TestCloud, 'get' | 'linesOf' | 'lineCount'>;

/** Starts `millrace cloud` on free ports of loopback, with its data in `dataDir` or else in a folder of its own. */
export async function startTestCloud(dataDir?: string, env: Record<string, string> = {}): Promise<TestCloud> {
  await using starting = new AsyncDisposableStack();
  const folder = dataDir ?? starting.use(await memoryDir()).path;
  if (!env.DATABASE_URL && !existsSync(join(folder, 'records'))) {
    await (env.CLICKHOUSE_URL ? copyNewRecords(folder) : copyNewCloud(folder));
  }
  const [mqttPort, wsPort] = [await freePort(), await freePort()];
  const httpPort = env.CLOUD_PORT ?? String(await freePort());
  const settings = {
    DATA_DIR: folder,
    CLOUD_HOST: '127.0.0.1',
    CLOUD_PORT: httpPort,
    MQTT_PORT: String(mqttPort),
    MQTT_WS_PORT: String(wsPort),
    ADMIN_TOKEN: adminToken,
    JOIN_KEY: joinKey,
    ...env,
  };
  const url = `http://127.0.0.1:${httpPort}`;
  const start = async () => {
    const started = startProgram([...nodeFlags, ...millrace('cloud')], { env: settings });
    await started.says('The cloud is running.', startMs);
    return started;
  };
  let program = await start();
  const folders = starting.move();

  const get = async <T>(path: string): Promise<T> => {
    const response = await fetch(`${url}${path}`, { headers: { authorization: `Bearer ${adminToken}` } });
    if (!response.ok) throw new Error(`GET ${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as T;
  };
  return {
    get program() {
      return program;
    },
    url,
    mqttPort,
    wsPort,
    get,
    async linesOf(service) {
      const lines: CloudLine[] = [];
      let cursor: string | undefined;
      do {
        const query = new URLSearchParams({
          service,
          order: 'asc',
          limit: '10000',
          ...(cursor && { cursor }),
        });
        const page = await get<{ logs: CloudLine[]; cursor?: string }>(`/api/v1/logs?${query}`);
        lines.push(...page.logs);
        cursor = page.cursor;
      } while (cursor !== undefined);
      return lines;
    },
    async lineCount() {
      let lines = 0;
      let cursor: string | undefined;
      do {
        const query = cursor === undefined ? '' : `?cursor=${cursor}`;
        const page = await get<{ devices: { lines: number }[]; cursor?: string }>(`/api/v1/devices${query}`);
        lines += page.devices.reduce((sum, device) => sum + device.lines, 0);
        cursor = page.cursor;
      } while (cursor !== undefined);
      return lines;
    },
    async register(uuid, apiKey) {
      const response = await fetch(`${url}/device/register`, {
        method: 'POST',
        headers: { authorization: `Bearer ${joinKey}`, 'content-type': 'application/json' },
        body: JSON.stringify({ uuid, api_key: apiKey }),
      });
      if (!response.ok) throw new Error(`register ${uuid}: ${response.status} ${await response.text()}`);
    },
    async restart(signal) {
      await program.end(signal);
      program = await start();
    },
    async [Symbol.asyncDispose]() {
      await program[Symbol.asyncDispose]();
      await folders.disposeAsync();
    },
  };
}

/** An agent that runs as a process of its own. */
export interface TestAgent extends AsyncDisposable {
  readonly program: Program;
  /** Of the device API. */
  readonly url: string;
  restart(signal: NodeJS.Signals): Promise<void>;
}

/** Starts `millrace agent` on free ports of loopback. */
export async function startTestAgent(dataDir: string, env: Record<string, string>): Promise<TestAgent> {
  const [port, apiPort] = [await freePort(), await freePort()];
  const settings = { DATA_DIR: dataDir, DEVICE_API_PORT: String(port), API_PORT: String(apiPort), ...env };
  const url = `http://127.0.0.1:${port}`;
  const start = async () => {
    const started = startProgram(millrace('agent'), { env: settings });
    const answers = () =>
      fetch(`${url}/v1/logs?limit=1`).then(
        (response) => response.ok,
        () => false,
      );
    await until(async () => !started.running || (await answers()), {
      timeoutMs: startMs,
      what: 'the device API to answer',
    });
    if (!started.running) throw new Error(`the agent ended:\n${started.stdout}${started.stderr}`);
    return started;
  };
  let program = await start();
  return {
    get program() {
      return program;
    },
    url,
    async restart(signal) {
      await program.end(signal);
      program = await start();
    },
    async [Symbol.asyncDispose]() {
      await program[Symbol.asyncDispose]();
    },
  };
}
