import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../../../../tests/support/docker.ts';
import { startProgram } from '../../../../tests/support/programs.ts';
import { startRegistry } from '../../../../tests/support/registry.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { type AppRecord, AppStore } from '../../src/apps/target/store.ts';
import { type EngineGate, openGate } from './engine-gate.ts';
import { service } from './test-apps.ts';

const program = fileURLToPath(new URL('./manager-process.ts', import.meta.url));
const appId = 1001;

class Story {
  readonly engine: TestEngine;
  readonly gate: EngineGate;
  readonly dataDir: string;
  deaths = 0;

  constructor(parts: { engine: TestEngine; gate: EngineGate; dataDir: string }) {
    this.engine = parts.engine;
    this.gate = parts.gate;
    this.dataDir = parts.dataDir;
  }

  /** As the agent would have done, while none runs. */
  async ask(change: (before: AppRecord | undefined) => AppRecord | undefined): Promise<void> {
    const store = new AppStore({ path: join(this.dataDir, 'apps.json'), log: pino({ level: 'silent' }) });
    await store.load();
    await store.update(appId, change);
  }

  release(release: number, services: object[]): Promise<void> {
    return this.ask((before) => ({
      ...{ appId, release, outcome: 'pending', stopped: [], app: { appId, services } },
      ...(before?.good && { good: before.good }),
    }));
  }

  /** Starts one process after another, each of which is killed at its next step, until it is so. */
  async untilThrough(isSo: () => Promise<boolean>): Promise<void> {
    for (let lives = 0; lives < 60; lives++) {
      await using life = startProgram([program, this.dataDir], {
        env: { DOCKER_HOST: `unix://${this.gate.socketPath}` },
      });
      this.gate.arm(this.deaths % 2 === 0 ? 'after' : 'during', () => {
        if (life.running) process.kill(life.pid, 'SIGKILL');
      });
      await until(async () => !life.running || (await isSo()), {
        timeoutMs: 30_000,
        what: () => `a step or the end\n${life.stdout.slice(-1500)}${life.stderr}`,
      });
      if (life.running) return;
      this.deaths++;
    }
    throw new Error(`it takes more than 60 lives; asked for so far: ${this.gate.changes.join(', ')}`);
  }

  async record(): Promise<AppRecord | undefined> {
    const path = join(this.dataDir, 'apps.json');
    if (!existsSync(path)) return undefined;
    return JSON.parse(await readFile(path, 'utf8')).apps[0];
  }

  /** Names of all images but those that were there from the start. */
  async images(): Promise<string[]> {
    const all = await this.engine.docker.listImages();
    return all.flatMap(({ RepoTags }) => RepoTags ?? []).filter((name) => name.startsWith('127.0.0.1'));
  }

  /** `web_1001_2` and its state, for each container. */
  async containers(): Promise<string[]> {
    const all = await this.engine.docker.listContainers({ all: true });
    return all
      .map(({ Names: [name = ''], State }) => `${name.slice(1).replace(/_[0-9a-f]{8}/, '')} ${State}`)
      .sort();
  }
}

const web = (imageName: string, version: string, dependsOn: string[], check = 'true') =>
  service('web', {
    imageName,
    environment: { VERSION: version },
    ...{ volumes: ['data:/data'], networks: ['front', 'back'], dependsOn, stopSignal: 'SIGKILL' },
    healthcheck: { test: check, interval: '50ms', retries: 2 },
  });
const db = service('db', { networks: ['back'], stopSignal: 'SIGKILL', restart: 'on-failure' });

test('killed at each request that changes something, every process goes on where the last one was', {
  timeout: 240_000,
}, async () => {
  await using engine = await startEngine();
  await engine.buildBusybox();
  await using dir = await tempDir();
  await using gate = await openGate(engine.socketPath, join(dir.path, 'engine.sock'));
  const story = new Story({ engine, gate, dataDir: dir.path });
  const stranger = await engine.run({ name: 'stranger', cmd: ['sleep', '1000'] });
  await using registry = await startRegistry();
  await registry.push(engine, 'web', ['1', '2']);
  const image = (tag: string) => `${registry.address}/web:${tag}`;
  const isSo = (outcome: string, tag: string, ...containers: string[]) =>
    story.untilThrough(
      async () =>
        (await story.record())?.outcome === outcome &&
        String(await story.images()) === image(tag) &&
        String(await story.containers()) === String([...containers, 'stranger running'].sort()),
    );

  await story.release(1, [web(image('1'), 'one', ['db']), db]);
  await isSo('done', '1', 'db_1001_1 running', 'web_1001_1 running');
  await story.release(2, [web(image('2'), 'two', ['db']), db]);
  await isSo('done', '2', 'db_1001_1 running', 'web_1001_2 running');
  await story.release(3, [web(image('2'), 'three', [], 'false')]);
  await isSo('failed', '2', 'db_1001_2 running', 'web_1001_2 running');
  await story.ask((before) => before && { ...before, removing: { volumes: true } });
  await story.untilThrough(
    async () => (await story.record()) === undefined && (await story.images()).length === 0,
  );

  expect(await story.containers()).toEqual(['stranger running']);
  expect((await engine.docker.listVolumes()).Volumes).toEqual([]);
  expect((await engine.docker.listNetworks()).filter(({ Driver }) => Driver === 'bridge')).toEqual([]);
  expect(story.deaths).toBeGreaterThan(20);
  expect(new Set(gate.changes)).toEqual(
    new Set([
      ...['POST /networks/create', 'POST /volumes/create', 'POST /containers/create'],
      ...['POST /networks/1001_back/connect', 'POST /containers//start', 'POST /containers//stop'],
      ...['POST /containers//rename', 'DELETE /containers/', 'DELETE /networks/1001_back'],
      ...['DELETE /networks/1001_front', 'DELETE /volumes/1001_data'],
      ...['POST /images/create', ...['1', '2'].map((tag) => `DELETE /images/${image(tag)}`)],
    ]),
  );
  await stranger.remove({ force: true });
  await rm(gate.socketPath, { force: true });
});
