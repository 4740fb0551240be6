import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import pino from 'pino';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { copyNewRecords } from '../../../../tests/support/cloud-template.ts';
import { memoryDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { cliTokenFile, Identity, joinKeyFile } from '../../src/identity/identity.ts';
import { Presence } from '../../src/identity/presence.ts';
import { hashSecret, sameHash } from '../../src/identity/secrets.ts';
import { Records } from '../../src/records/records.ts';

const log = pino({ level: 'silent' });
let dir: Awaited<ReturnType<typeof memoryDir>>;
let records: Records;

beforeAll(async () => {
  dir = await memoryDir();
  await copyNewRecords(dir.path);
  records = await Records.open({ dataDir: dir.path, log });
});

afterAll(async () => {
  await records[Symbol.asyncDispose]();
  await dir[Symbol.asyncDispose]();
});

const open = (more: { adminToken?: string; joinKey?: string } = {}) =>
  Identity.open({ records, dataDir: dir.path, ...more });

test('the admin token is made once, is kept only as a hash, and gives way to one that is set', async () => {
  const first = await open();
  const made = first.newAdminToken as string;
  expect(made).toMatch(/^[\w-]{43}$/);
  expect(await first.isAdmin(made)).toBe(true);
  const second = await open();
  expect(second.newAdminToken).toBeUndefined();
  expect(await second.isAdmin(made)).toBe(true);
  expect((await records.tokens.get('admin'))?.hash).toBe(hashSecret(made));

  const third = await open({ adminToken: 'a token of my own' });
  expect(third.newAdminToken).toBeUndefined();
  expect(await third.isAdmin('a token of my own')).toBe(true);
  expect(await third.isAdmin(made)).toBe(false);
  // What was set stays when it is no longer given.
  expect(await (await open()).isAdmin('a token of my own')).toBe(true);
  for (const wrong of [
    undefined,
    '',
    'a token of my ow',
    'a token of my own ',
    hashSecret('a token of my own'),
  ]) {
    expect(await third.isAdmin(wrong)).toBe(false);
  }
});

test('each start leaves the command line a fresh token that only the owner can read', async () => {
  const path = join(dir.path, cliTokenFile);
  await open();
  const before = (await readFile(path, 'utf8')).trim();
  await chmod(path, 0o644);
  // A start that was killed while writing left this.
  await writeFile(`${path}.new`, 'half', { mode: 0o666 });
  const identity = await open();
  const after = (await readFile(path, 'utf8')).trim();
  expect(after).not.toBe(before);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await identity.isAdmin(after)).toBe(true);
  expect(await identity.isAdmin(before)).toBe(false);
});

test('the join key is made once and kept, or taken as given', async () => {
  const { joinKey } = await open();
  expect((await open()).joinKey).toBe(joinKey);
  expect((await readFile(join(dir.path, joinKeyFile), 'utf8')).trim()).toBe(joinKey);
  expect((await stat(join(dir.path, joinKeyFile))).mode & 0o777).toBe(0o600);
  const given = await open({ joinKey: 'from outside' });
  expect(await given.joining('from outside')).toEqual({ by: 'join key', fleet: null });
  expect(await given.joining(joinKey)).toBeUndefined();
  expect(await given.joining(undefined)).toBeUndefined();
});

test('a device registers once, again with the same key, and never with another', async () => {
  const identity = await open();
  const key = 'k'.repeat(16);
  expect(await identity.register({ uuid: 'dev-1', apiKey: key })).toEqual({
    uuid: 'dev-1',
    apiKey: key,
    created: true,
  });
  expect(await identity.register({ uuid: 'dev-1', apiKey: key })).toMatchObject({ created: false });
  await expect(identity.register({ uuid: 'dev-1', apiKey: 'x'.repeat(16) })).rejects.toMatchObject({
    code: 'CONFLICT',
  });
  await expect(identity.register({ uuid: 'dev-1' })).rejects.toMatchObject({ code: 'CONFLICT' });
  expect(await identity.isDevice('dev-1', key)).toBe(true);

  const made = await identity.register({ uuid: 'dev-2' });
  expect(made.apiKey.length).toBeGreaterThan(40);
  expect(await identity.isDevice('dev-2', made.apiKey)).toBe(true);
  expect(await identity.isDevice('dev-2', key)).toBe(false);
  expect(await identity.isDevice('dev-1', made.apiKey)).toBe(false);
  expect(await identity.isDevice('unknown', key)).toBe(false);
});

test.each(['', 'a/b', 'a+', '#', 'ä', 'x'.repeat(65), 'a b', '../..', 'admin', 'a\u0000'])(
  'the uuid %j is refused',
  async (uuid) => {
    const identity = await open();
    await expect(identity.register({ uuid })).rejects.toMatchObject({ code: 'BODY_INVALID' });
  },
);

test('a key under 16 characters is refused', async () => {
  const identity = await open();
  await expect(identity.register({ uuid: 'short', apiKey: 'k'.repeat(15) })).rejects.toThrow(/api_key/);
});

test('two registrations at once give one device', async () => {
  const identity = await open();
  const results = await Promise.allSettled([
    identity.register({ uuid: 'race', apiKey: 'a'.repeat(16) }),
    identity.register({ uuid: 'race', apiKey: 'b'.repeat(16) }),
  ]);
  expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
});

test('hashes of different length are different', () => {
  expect(sameHash('aa', 'aabb')).toBe(false);
  expect(sameHash(hashSecret('x'), hashSecret('x'))).toBe(true);
});

test('a status is saved, whatever is none is left alone, and an open stream counts as online', async () => {
  {
    await using presence = new Presence({ records, log });
    presence.status('p1', Buffer.from('{"online":true,"since":1}'));
    presence.status('p2', Buffer.from('online'));
    presence.status('p1', Buffer.from('{"online":false}'));
    for (const wrong of ['', '{', '[]', 'null', '"online"', '{"online":"yes"}', 'x'.repeat(70_000)]) {
      presence.status('p3', Buffer.from(wrong));
    }
    presence.status('p/4', Buffer.from('online'));
    const saved = () =>
      records.presence.list().then((rows) => rows.map(({ uuid, online }) => `${uuid} ${online}`).sort());
    await until(async () => (await saved()).length === 2, { what: 'both to be saved' });
    expect(await saved()).toEqual(['p1 false', 'p2 true']);
    presence.status('p2', Buffer.from('offline'));
    const one = presence.streaming('s');
    using _two = presence.streaming('s');
    one[Symbol.dispose]();
    one[Symbol.dispose]();
    expect(presence.of('s', {})?.online).toBe(true);
  }
  // What was still to be written when it closed, is.
  expect(await records.presence.list()).toMatchObject([{ online: false }, { online: false }]);
});

test('online is who streams, says so or has reported lately, and since when is known', () => {
  vi.useFakeTimers({ now: 1_000_000 });
  onTestFinished(() => void vi.useRealTimers());
  const presence = new Presence({ records: {} as Records, log });
  expect(presence.of('a', {})).toBeUndefined();
  // The longest of what holds, and the last of what ended.
  const said = (online: boolean, changedAtMs: number) => ({ said: { online, changedAtMs } });
  expect(presence.of('a', said(true, 5000))).toEqual({ online: true, changedAtMs: 5000 });
  expect(presence.of('a', said(false, 5000))).toEqual({ online: false, changedAtMs: 5000 });
  expect(presence.of('a', { ...said(false, 5000), reportedAtMs: 900_000 })).toEqual({
    online: true,
    changedAtMs: 900_000,
  });
  const stream = presence.streaming('a');
  expect(presence.of('a', { reportedAtMs: 5000 })).toEqual({ online: true, changedAtMs: 1_000_000 });
  vi.advanceTimersByTime(500);
  stream[Symbol.dispose]();
  expect(presence.of('a', said(false, 5000))).toEqual({ online: false, changedAtMs: 1_000_500 });
  expect(presence.of('a', said(true, 5000))).toEqual({ online: true, changedAtMs: 5000 });
  // A report holds for eleven minutes.
  expect(presence.of('b', { reportedAtMs: 1_000_500 - 660_000 + 1 })?.online).toBe(true);
  expect(presence.of('b', { reportedAtMs: 1_000_500 - 660_000 })).toEqual({
    online: false,
    changedAtMs: 1_000_500,
  });
});
