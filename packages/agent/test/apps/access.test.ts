import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { startAgent } from '../../src/main.ts';

const log = pino({ level: 'silent' });
const key = 'a-long-random-text';
const path = process.env.PATH;
afterEach(() => {
  process.env.PATH = path;
});

/** An agent without an engine: nothing here gets as far as that. */
async function start(env: Record<string, string> = {}) {
  const parts = new AsyncDisposableStack();
  const dir = parts.use(await tempDir());
  const agent = parts.use(
    await startAgent({
      env: {
        ...{
          DATA_DIR: dir.path,
          DOCKER_HOST: `unix://${dir.path}/none.sock`,
          DEVICE_API_PORT: '0',
          API_PORT: '0',
        },
        ...env,
      },
      log,
    }),
  );
  const [devicePort, appPort] = agent.ports;
  return {
    dir: dir.path,
    devicePort,
    appPort,
    async ask(method: string, url: string, init: RequestInit = {}) {
      const port = url.startsWith('/api') ? appPort : devicePort;
      const response = await fetch(`http://127.0.0.1:${port}${url}`, { method, ...init });
      const text = await response.text();
      return { status: response.status, body: text.startsWith('{') ? JSON.parse(text) : text };
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

const app = JSON.stringify({ services: [{ serviceName: 'web', imageName: 'nginx:alpine' }] });

describe('what the app API refuses', () => {
  let agent: Awaited<ReturnType<typeof start>>;
  beforeAll(async () => {
    agent = await start();
  });
  afterAll(() => agent[Symbol.asyncDispose]());

  test.each([
    ['POST', '/api/v1/apps/1', 400, 'BODY_INVALID', 'the body is empty', ''],
    ['POST', '/api/v1/apps/1', 400, 'BODY_INVALID', 'the body is not JSON', '{"services":'],
    ['POST', '/api/v1/apps/1', 400, 'APP_INVALID', 'appId is 2, but the address says 1', '{"appId":2}'],
    ['POST', '/api/v1/apps/1', 400, 'APP_INVALID', 'the app must be an object', '[]'],
    ['POST', '/api/v1/apps/shop', 400, 'PARAMETER_INVALID', 'the app id in the address', app],
    ['POST', '/api/v1/apps/1?retry=maybe', 400, 'PARAMETER_INVALID', 'retry must be true or false', app],
    ['POST', '/api/v1/apps/1?force=1', 400, 'PARAMETER_INVALID', 'force is not known', app],
    ['POST', '/api/v1/apps/1', 413, 'BODY_TOO_LARGE', '', ' '.repeat(2 ** 20 + 1)],
    ['POST', '/api/v1/apps/1/start', 404, 'NOT_FOUND', 'there is no app 1', undefined],
    ['GET', '/v1/apps/1', 404, 'NOT_FOUND', 'there is no app 1', undefined],
    ['GET', '/v1/apps?limit=1', 400, 'PARAMETER_INVALID', 'limit is not known', undefined],
    ['DELETE', '/v1/apps/1', 404, 'NOT_FOUND', 'there is no app 1', undefined],
    [
      'GET',
      '/v1/apps/1/services/web/logs?levl=warn',
      400,
      'PARAMETER_INVALID',
      'levl is not known',
      undefined,
    ],
    [
      'POST',
      '/api/v1/apps/1/compose',
      400,
      'APP_INVALID',
      'services.web.build',
      'services: {web: {build: .}}',
    ],
    ['GET', '/v1/apps/1/services/web/logs?follow=1', 400, 'PARAMETER_INVALID', 'follow', undefined],
  ] as const)('%s %s: %i %s %s', async (method, url, status, code, detail, body) => {
    const answer = await agent.ask(method, url, body === undefined ? {} : { body });
    expect(answer).toMatchObject({ status, body: { code, detail: expect.stringContaining(detail) } });
    expect((await agent.ask('GET', '/api/v1/apps')).body).toEqual({ apps: [] });
  });
});

describe('the app API', () => {
  test('keeps an app while there is no engine, and says what it waits for; both ports show the same', async () => {
    await using agent = await start();
    expect((await agent.ask('POST', '/api/v1/apps/1', { body: app })).status).toBe(202);
    const seen = await agent.ask('GET', '/v1/apps');
    expect(seen.body.apps).toMatchObject([
      { appId: 1, release: 1, state: 'deploying', services: [{ status: 'unknown' }] },
    ]);
    expect(await agent.ask('GET', '/api/v1/apps')).toEqual(seen);
    expect(JSON.parse(await readFile(join(agent.dir, 'apps.json'), 'utf8')).apps).toHaveLength(1);
  });

  test('cannot be used by a page that a browser on the device shows', async () => {
    await using agent = await start();
    const from = (origin: string) => agent.ask('POST', '/api/v1/apps/1', { body: app, headers: { origin } });
    for (const origin of ['http://evil.example', 'http://127.0.0.1:8080', 'null']) {
      expect(await from(origin)).toMatchObject({ status: 403, body: { code: 'FORBIDDEN' } });
    }
    expect((await from(`http://127.0.0.1:${agent.appPort}`)).status).toBe(202);
  });
});

describe('beyond loopback', () => {
  test('the API does not start without a key', async () => {
    await expect(start({ DEVICE_API_HOST: '0.0.0.0' })).rejects.toThrow(
      'CONFIG_INVALID: DEVICE_API_HOST="0.0.0.0" can be reached from elsewhere, but DEVICE_API_KEY is not set',
    );
    await expect(start({ DEVICE_API_KEY: 'short' })).rejects.toThrow('DEVICE_API_KEY: must have at least 16');
  });

  test('everything but ping and health wants the key', async () => {
    await using agent = await start({ DEVICE_API_HOST: '0.0.0.0', DEVICE_API_KEY: key });
    const asked = [
      '/v1/device',
      '/v1/logs',
      '/metrics',
      '/v1/apps',
      '/api/v1/apps',
      '/nothing',
      '/v1/healthy/x',
    ];
    for (const url of asked) {
      expect(await agent.ask('GET', url)).toMatchObject({ status: 401, body: { code: 'UNAUTHORIZED' } });
      const wrong = { authorization: `Bearer ${key}x` };
      expect((await agent.ask('GET', url, { headers: wrong })).status).toBe(401);
    }
    expect((await agent.ask('POST', '/api/v1/apps/1', { body: app })).status).toBe(401);
    for (const url of ['/ping', '/v1/healthy', '/api/v1/healthy']) {
      expect((await agent.ask('GET', url)).status).toBe(200);
    }
    const headers = { authorization: `Bearer ${key}` };
    expect((await agent.ask('GET', '/api/v1/apps', { headers })).status).toBe(200);
  });
});

describe('reboot and shutdown', () => {
  test('are refused unless the settings allow them', async () => {
    await using agent = await start();
    for (const action of ['reboot', 'shutdown']) {
      expect(await agent.ask('POST', `/v1/${action}`)).toMatchObject({
        status: 403,
        body: { code: 'FORBIDDEN' },
      });
    }
  });

  test('call systemctl, and tell why it would not', async () => {
    await using agent = await start({ DEVICE_POWER: 'true' });
    const bin = join(agent.dir, 'bin');
    const systemctl = async (lines: string) => {
      await mkdir(bin, { recursive: true });
      await writeFile(join(bin, 'systemctl'), `#!/bin/sh\n${lines}\n`);
      await chmod(join(bin, 'systemctl'), 0o755);
    };
    await systemctl(`echo "$@" >> ${bin}/asked`);
    // Nothing else: the real one would take the machine with it.
    process.env.PATH = bin;
    expect((await agent.ask('POST', '/v1/reboot', { body: '{}' })).status).toBe(202);
    expect((await agent.ask('POST', '/api/v1/shutdown')).status).toBe(202);
    expect(await readFile(join(bin, 'asked'), 'utf8')).toBe('reboot\npoweroff\n');
    await systemctl('echo no rights >&2; exit 1');
    expect(await agent.ask('POST', '/v1/reboot')).toMatchObject({
      ...{ status: 500, body: { code: 'POWER_FAILED', detail: 'systemctl: no rights' } },
    });
  });
});
