import { setTimeout as pause } from 'node:timers/promises';
import { pino } from 'pino';
import { busyboxImage, type TestEngine } from '../../../../tests/support/docker.ts';
import { until } from '../../../../tests/support/wait.ts';
import type { AppView } from '../../src/apps/reconcile/view.ts';
import { type Agent, startAgent } from '../../src/main.ts';

const silent = pino({ level: 'info' }, { write: () => undefined });

/** A service of busybox that says hello and stays, and ends at once when it is asked to. */
export function service(serviceName: string, fields: object = {}): object {
  return {
    serviceName,
    imageName: busyboxImage,
    command: ['sh', '-c', 'trap "exit 0" TERM; echo hello; sleep 100000 & wait'],
    ...fields,
  };
}

/** An agent with an engine of its own, and its app API. */
export class TestApps implements AsyncDisposable {
  readonly engine: TestEngine;
  readonly agent: Agent;
  readonly url: string;

  private constructor(engine: TestEngine, agent: Agent) {
    this.engine = engine;
    this.agent = agent;
    this.url = `http://localhost:${agent.ports[1]}/api/v1`;
  }

  static async start(
    engine: TestEngine,
    dataDir: string,
    env: Record<string, string> = {},
  ): Promise<TestApps> {
    const agent = await startAgent({
      env: {
        ...{ DATA_DIR: dataDir, DOCKER_HOST: engine.host, DEVICE_API_PORT: '0', API_PORT: '0' },
        ...{ APPS_STABLE_MS: '300', APPS_HEALTHY_MS: '120000', LOG_LEVEL: 'info', DEVICE_UUID: 'd1' },
        ...env,
      },
      log: silent,
    });
    return new TestApps(engine, agent);
  }

  async ask(
    method: string,
    path: string,
    body?: object | string,
  ): Promise<{ status: number; body: unknown }> {
    const response = await fetch(`${this.url}${path}`, {
      method,
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    return { status: response.status, body: await response.json() };
  }

  async deploy(appId: number, services: object[]): Promise<number> {
    return (await this.ask('POST', `/apps/${appId}`, { appId, services })).status;
  }

  async view(appId: number): Promise<AppView> {
    return (await this.ask('GET', `/apps/${appId}`)).body as AppView;
  }

  /** Waits until an app looks as it should. */
  async until(appId: number, isSo: (app: AppView) => unknown, timeoutMs = 40_000): Promise<AppView> {
    let last: AppView | undefined;
    await until(
      async () => {
        last = await this.view(appId);
        if (last.services && isSo(last)) return true;
        // Nothing is gained by asking as fast as it answers.
        await pause(20);
        return false;
      },
      { timeoutMs, what: () => `the app to be so, which is\n${JSON.stringify(last, undefined, 1)}` },
    );
    return last as AppView;
  }

  running(appId: number): Promise<AppView> {
    return this.until(appId, ({ state }) => state === 'running');
  }

  async gone(appId: number): Promise<void> {
    await until(async () => (await this.ask('GET', `/apps/${appId}`)).status === 404, {
      what: 'the app to be gone',
    });
  }

  /** What the agent says of its own work. */
  async told(): Promise<string[]> {
    const { body } = await this.ask('GET', '/logs?serviceName=manager&limit=5000');
    return (body as { logs: { message: string }[] }).logs.map(({ message }) => message);
  }

  /** Names of all containers, running or not. */
  async containers(): Promise<string[]> {
    const all = await this.engine.docker.listContainers({ all: true });
    return all.map(({ Names: [name = ''] }) => name.slice(1)).sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.agent.stop();
  }
}
