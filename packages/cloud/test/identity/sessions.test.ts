import mqtt from 'mqtt';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { type PostgresServer, startPostgres } from '../../../../tests/support/postgres.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { hashSecret } from '../../src/identity/secrets.ts';
import type { Records } from '../../src/records/records.ts';
import { startTestCloud, type TestCloud } from '../support/cloud.ts';
import { openRecords } from '../support/databases.ts';
import { batch, StreamClient } from '../support/stream-client.ts';

let server: PostgresServer;
let cloud: TestCloud;
/** As another process of the same cloud has them. */
let elsewhere: Records;

beforeAll(async () => {
  server = await startPostgres();
  const databaseUrl = await server.database();
  cloud = await startTestCloud({ env: { DATABASE_URL: databaseUrl }, tuning: { tailRecheckMs: 600_000 } });
  const dir = await tempDir();
  elsewhere = await openRecords({ dataDir: dir.path, databaseUrl });
  return async () => {
    await elsewhere[Symbol.asyncDispose]();
    await dir[Symbol.asyncDispose]();
  };
});
afterAll(async () => {
  await cloud?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

async function connected(username: string, password: string) {
  const client = await mqtt.connectAsync(cloud.mqttUrl, { username, password, reconnectPeriod: 0 });
  client.on('error', () => undefined);
  onTestFinished(() => client.endAsync(true));
  return client;
}

async function streaming(uuid: string, key: string) {
  const stream = new StreamClient({ url: cloud.url, uuid, key, acks: true });
  onTestFinished(() => stream[Symbol.dispose]());
  stream.send(batch('journal01', 1, 1));
  await stream.acked(1);
  return stream;
}

/** Follows an address until the end of its answer. */
async function following(path: string, token: string) {
  const response = await fetch(`${cloud.url}${path}`, { headers: { authorization: `Bearer ${token}` } });
  expect(response.status).toBe(200);
  const following = { ended: false };
  void response.text().then(() => {
    following.ended = true;
  });
  return following;
}

const asAdmin = (name: string, secret: string) =>
  elsewhere.tokens.add({ name, role: 'admin', hash: hashSecret(secret) });

test('another process gives a device another key: what it has open here ends, and nothing else', async () => {
  const keys = { changed: await cloud.register('changed'), same: await cloud.register('same') };
  const open = [await streaming('changed', keys.changed), await streaming('same', keys.same)];
  const clients = [await connected('changed', keys.changed), await connected('same', keys.same)];
  await elsewhere.devices.setKey('changed', hashSecret('another key of the device'));
  await until(() => open[0]?.response?.readableEnded && !clients[0]?.connected, { what: 'both to end' });
  expect(clients[1]?.connected).toBe(true);
  open[1]?.send(batch('journal01', 2, 1));
  await open[1]?.acked(2);
});

test('another process revokes a token: its tails, streams and MQTT connections end', async () => {
  await cloud.register('seen');
  await asAdmin('revoked', 'a-token-that-is-revoked');
  await asAdmin('kept', 'a-token-that-is-kept');
  const [tail, stream, other] = await Promise.all([
    following('/api/v1/logs/tail', 'a-token-that-is-revoked'),
    following('/device/v2/seen/logs?stream=1', 'a-token-that-is-revoked'),
    following('/api/v1/logs/tail', 'a-token-that-is-kept'),
  ]);
  const client = await connected('admin', 'a-token-that-is-revoked');
  await elsewhere.tokens.remove('revoked');
  await until(() => tail.ended && stream.ended && !client.connected, { what: 'all to end' });
  expect(other.ended).toBe(false);
});

test('what changed while the database was not heard is seen when it is', async () => {
  const key = await cloud.register('unheard');
  const stream = await streaming('unheard', key);
  await server.kill();
  await server.start();
  await until(() => elsewhere.devices.setKey('unheard', hashSecret('yet another key')).catch(() => false));
  await until(() => stream.response?.readableEnded, { what: 'the stream to end' });
  // And it is heard again from then on.
  await asAdmin('late', 'a-token-for-a-moment');
  const tail = await following('/api/v1/logs/tail', 'a-token-for-a-moment');
  await elsewhere.tokens.remove('late');
  await until(() => tail.ended, { what: 'the tail to end' });
});
