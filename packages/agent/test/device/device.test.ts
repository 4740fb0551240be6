import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { MillraceError, readSettings } from '@millrace/wire';
import { pino } from 'pino';
import { expect, onTestFinished, test, vi } from 'vitest';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { agentSettings } from '../../src/config.ts';
import { lockFolder } from '../../src/device/folder-lock.ts';
import { loadIdentity } from '../../src/device/identity.ts';
import { OwnLog } from '../../src/device/own-log.ts';
import { register } from '../../src/device/registration.ts';
import type { LogInput } from '../../src/logging/types.ts';

test('an identity is made once, kept for its owner alone, and DEVICE_UUID wins', async () => {
  await using dir = await tempDir();
  const made = loadIdentity(dir.path);
  expect(made.uuid).toMatch(/^[0-9a-f]{32}$/);
  expect(loadIdentity(dir.path)).toEqual(made);
  expect(statSync(join(dir.path, 'device.json')).mode & 0o777).toBe(0o600);
  expect(loadIdentity(dir.path, { uuid: 'kitchen-pi' })).toEqual({ uuid: 'kitchen-pi', apiKey: made.apiKey });
  expect(loadIdentity(dir.path).uuid).toBe('kitchen-pi');
});

test('a damaged identity is said, not replaced', async () => {
  await using dir = await tempDir();
  writeFileSync(join(dir.path, 'device.json'), '{"uuid":');
  expect(() => loadIdentity(dir.path)).toThrow(/DATA_DIR_UNUSABLE.*device.json is damaged/);
  expect(readFileSync(join(dir.path, 'device.json'), 'utf8')).toBe('{"uuid":');
});

test.each(['short', 'x'.repeat(120)])('a second agent is kept out of the folder (%s)', async (name) => {
  await using dir = await tempDir();
  const path = join(dir.path, name);
  mkdirSync(path);
  {
    await using _held = await lockFolder(path);
    await expect(lockFolder(path)).rejects.toThrow('DATA_DIR_UNUSABLE');
  }
  await using _again = await lockFolder(path);
});

test('a lock that a crash left behind does not block', async () => {
  await using dir = await tempDir();
  writeFileSync(join(dir.path, 'agent.lock'), '');
  await using _held = await lockFolder(dir.path);
});

test('one of the two places for the lock is enough, and none is not', async () => {
  await using dir = await tempDir();
  vi.stubEnv('TMPDIR', join(dir.path, 'nowhere'));
  onTestFinished(() => void vi.unstubAllEnvs());
  await using _held = await lockFolder(dir.path);
  await expect(lockFolder(dir.path)).rejects.toThrow('is used by another running agent');
  await expect(lockFolder(join(dir.path, 'nowhere'))).rejects.toThrow(/DATA_DIR_UNUSABLE.*cannot be locked/);
});

test('the own log is shown, and shipped as manager lines from info up, early ones included', () => {
  const shown: string[] = [];
  const own = new OwnLog(
    pino({ level: 'debug' }, { write: (line) => void shown.push(JSON.parse(line).msg) }),
  );
  own.log.info({ port: 1 }, 'early');
  const taken: LogInput[] = [];
  let full = false;
  own.attach({ append: (line) => taken.push(line), ready: () => (full ? Promise.resolve() : undefined) });
  own.log.debug('detail');
  own.log.error('bad');
  full = true;
  own.log.info('dropped');
  full = false;
  own.log.warn('after');
  expect(shown).toEqual(['early', 'detail', 'bad', 'dropped', 'after']);
  expect(taken.map((line) => [line.level, line.message])).toEqual([
    ['info', 'early'],
    ['error', 'bad'],
    ['warn', "1 lines of the agent's own log were dropped: the journal was full"],
    ['warn', 'after'],
  ]);
  expect(taken[0]).toMatchObject({ source: { type: 'manager', name: 'agent' }, fields: { port: 1 } });
});

test('registering is repeated until the cloud answers, with the join key and a key of its own', async () => {
  const seen: { authorization?: string; body: unknown }[] = [];
  const answers = [503, 201];
  const server = createServer((request, response) => {
    let text = '';
    request.on('data', (chunk) => {
      text += chunk;
    });
    request.on('end', () => {
      seen.push({ authorization: request.headers.authorization, body: JSON.parse(text) });
      response.writeHead(answers.shift() ?? 500).end();
    });
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  try {
    const done = await register({
      endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      joinKey: 'join-me',
      identity: { uuid: 'u1', apiKey: 'k'.repeat(32) },
      log: pino({ level: 'silent' }),
      signal: new AbortController().signal,
    });
    expect(done).toBe(true);
    expect(seen).toEqual(
      Array(2).fill({ authorization: 'Bearer join-me', body: { uuid: 'u1', api_key: 'k'.repeat(32) } }),
    );
  } finally {
    server.close();
  }
});

test.each([
  ['MQTT_BROKER', 'broker:1883', 'must be a URL that starts with mqtt://'],
  ['MQTT_QOS', '3', 'must be a whole number from 0 to 2'],
  ['MQTT_BATCH', 'maybe', 'must be true or false'],
  ['MQTT_BATCH_INTERVAL', 'soon', 'must be a whole number'],
  ['MQTT_ACK', 'nobody', 'must be broker or cloud'],
  ['DEVICE_UUID', 'a/b', 'must be 1 to 64 letters'],
  ['DEVICE_API_PORT', '70000', 'must be a port number'],
  ['CLOUD_ENDPOINT', 'ftp://x', 'must be a URL'],
  ['LOG_LEVEL', 'loud', 'must be trace'],
])('%s=%s is refused by name and value', (name, value, reason) => {
  const read = () => readSettings(agentSettings, { [name]: value });
  expect(read).toThrow(MillraceError);
  expect(read).toThrow(`CONFIG_INVALID: ${name}="${value}": ${reason}`);
});

test('the defaults are the documented ones', () => {
  expect(readSettings(agentSettings, {})).toMatchObject({
    dataDir: './data',
    deviceApiPort: 48484,
    apiPort: 3000,
    mqttTopic: 'container-manager/logs',
    mqttQos: 1,
    mqttBatch: false,
    mqttBatchInterval: 1000,
    mqttBatchSize: 50,
  });
});
