import { pino } from 'pino';
import { afterEach, expect, test, vi } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { type DeviceApi, serveDeviceApi } from '../../src/device-api/server.ts';
import { LocalLogBackend } from '../../src/logging/local-backend.ts';
import type { LogMessage } from '../../src/logging/types.ts';
import { agentState } from '../metrics/agent-state.ts';

const log = pino({ level: 'silent' });
let open: AsyncDisposable[] = [];

afterEach(async () => {
  for (const thing of open.reverse()) await thing[Symbol.asyncDispose]();
  open = [];
  vi.useRealTimers();
});

async function start(): Promise<{ local: LocalLogBackend; api: DeviceApi; url: string }> {
  const local = new LocalLogBackend();
  const ports = [
    { variable: 'DEVICE_API_PORT', port: 0 },
    { variable: 'API_PORT', port: 0 },
  ];
  const api = await serveDeviceApi({
    local,
    ...{ uuid: 'u1', state: () => agentState },
    host: '127.0.0.1',
    ports,
    log,
  });
  open.push(local, api);
  return { local, api, url: `http://127.0.0.1:${api.ports[0]}` };
}

async function logs(url: string, query = ''): Promise<LogMessage[]> {
  const response = await fetch(`${url}/v1/logs${query}`);
  const body = await response.json();
  expect(response.status, JSON.stringify(body)).toBe(200);
  expect(body.count).toBe(body.logs.length);
  return body.logs;
}

test('GET /v1/logs answers with every filter, on both ports', async () => {
  const { local, api, url } = await start();
  const now = Date.now();
  local.log({ message: 'Hello', serviceName: 'web', containerId: 'a'.repeat(64), timestamp: now - 3000 });
  local.log({ message: 'failed', serviceName: 'web', isStdErr: true, timestamp: now - 2000 });
  local.log({ message: 'hello again', serviceName: 'db', level: 'warn', timestamp: now - 1000 });
  const messages = async (query: string) => (await logs(url, query)).map((line) => line.message);

  expect(await messages('')).toEqual(['Hello', 'failed', 'hello again']);
  expect(await messages('?serviceName=web')).toEqual(['Hello', 'failed']);
  expect(await messages('?containerId=aaaaaaaaaaaa')).toEqual(['Hello']);
  expect(await messages('?level=error')).toEqual(['failed']);
  expect(await messages('?level=warn%2B')).toEqual(['failed', 'hello again']);
  expect(await messages('?stream=stderr')).toEqual(['failed']);
  expect(await messages('?contains=HELLO')).toEqual(['Hello', 'hello again']);
  expect(await messages(`?since=${now - 2000}&until=${now - 1000}`)).toEqual(['failed']);
  expect(await messages(`?since=${new Date(now - 2500).toISOString()}`)).toEqual(['failed', 'hello again']);
  expect(await messages('?since=10m&limit=1')).toEqual(['hello again']);
  expect(await messages('?order=desc&limit=2')).toEqual(['hello again', 'failed']);
  const other = await logs(`http://127.0.0.1:${api.ports[1]}`);
  expect(other.length).toBe(3);
  expect(other[0]).toMatchObject({ source: { type: 'container', name: 'web' }, isStdErr: false, seq: 1 });
});

test('every answer has its date, which the API writes itself', async () => {
  const { url } = await start();
  const stop = new AbortController();
  // Node's own date would be the true one.
  vi.useFakeTimers({ toFake: ['Date'], now: Date.UTC(2031, 1, 3, 4, 5, 6) });
  for (const path of ['/ping', '/v1/device', '/v1/logs', '/v1/logs?follow=1', '/v1/logs?limit=x', '/none']) {
    const { headers } = await fetch(`${url}${path}`, { signal: stop.signal });
    expect(headers.get('date'), path).toBe('Mon, 03 Feb 2031 04:05:06 GMT');
  }
  stop.abort();
});

test.each([
  ['level=loud', 'level must be'],
  ['stream=stdin', 'stream must be'],
  ['since=yesterday', 'since must be'],
  ['until=later', 'until must be'],
  ['limit=-1', 'limit must be'],
  ['limit=1e3', 'limit must be'],
  ['order=random', 'order must be'],
  ['follow=maybe', 'follow must be'],
  ['follow=1&order=desc', 'order must be asc'],
  ['service=web', 'service is not known'],
  ['limit=1&limit=2', 'limit is given more than once'],
  ['__proto__=1', '__proto__ is not known'],
])('the parameter %s is refused by name', async (query, reason) => {
  const { url } = await start();
  const response = await fetch(`${url}/v1/logs?${query}`);
  expect(response.status).toBe(400);
  expect(response.headers.get('content-type')).toContain('application/problem+json');
  expect(await response.json()).toMatchObject({
    code: 'PARAMETER_INVALID',
    detail: expect.stringContaining(reason),
  });
});

test('follow=1 gives what is there, then each line once as it comes, and ends with the server', async () => {
  const { local, api, url } = await start();
  for (let n = 1; n <= 3; n++) local.log({ message: `line ${n}`, serviceName: 'web' });
  const response = await fetch(`${url}/v1/logs?follow=1&serviceName=web&limit=2`);
  expect(response.headers.get('content-type')).toBe('application/x-ndjson');
  let text = '';
  const reading = (async () => {
    for await (const chunk of response.body as ReadableStream<Uint8Array>)
      text += Buffer.from(chunk).toString();
  })();
  const seen = () =>
    text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line).message);
  await until(() => seen().length === 2);
  local.log({ message: 'line 4', serviceName: 'web' });
  local.log({ message: 'line 5', serviceName: 'other' });
  local.log({ message: 'line 6', serviceName: 'web' });
  await until(() => seen().length === 4);
  expect(seen()).toEqual(['line 2', 'line 3', 'line 4', 'line 6']);
  await api.close();
  await reading.catch(() => {});
});

test('a follower that hangs up is forgotten', async () => {
  const { local, url } = await start();
  const stop = new AbortController();
  await fetch(`${url}/v1/logs?follow=1`, { signal: stop.signal });
  await until(() => local.journal.watchers === 1);
  stop.abort();
  await until(() => local.journal.watchers === 0);
});

test('a name other than localhost is refused: a web page may not read the device', async () => {
  const { api } = await start();
  const { request } = await import('node:http');
  const status = await new Promise((resolve) => {
    request(
      { host: '127.0.0.1', port: api.ports[0], path: '/v1/logs', headers: { host: 'evil.example' } },
      (response) => {
        response.resume();
        resolve(response.statusCode);
      },
    ).end();
  });
  expect(status).toBe(403);
});

test('unknown addresses are problems too; ping, health and device answer', async () => {
  const { url } = await start();
  const missing = await fetch(`${url}/v1/nothing`);
  expect(missing.status).toBe(404);
  expect(await missing.json()).toMatchObject({ code: 'NOT_FOUND' });
  expect(await (await fetch(`${url}/ping`)).text()).toBe('OK');
  expect(await (await fetch(`${url}/v1/healthy`)).text()).toBe('OK');
  expect(await (await fetch(`${url}/v1/device`)).json()).toEqual({ uuid: 'u1', ...agentState });
});

test('a taken port is an error that names the variable', async () => {
  const { local, api } = await start();
  const ports = [{ variable: 'API_PORT', port: api.ports[0] as number }];
  await expect(
    serveDeviceApi({ local, ...{ uuid: 'u1', state: () => agentState }, host: '127.0.0.1', ports, log }),
  ).rejects.toThrow(`PORT_TAKEN: API_PORT ${api.ports[0]} is taken`);
});
