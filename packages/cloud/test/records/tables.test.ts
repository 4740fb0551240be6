import { join } from 'node:path';
import { sql } from 'drizzle-orm';
import pino from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openEmbedded, openServer } from '../../src/records/database.ts';
import { migrate } from '../../src/records/migrations.ts';
import type { Records } from '../../src/records/records.ts';
import { databaseKinds, openRecords, startDatabase, type TestDatabase } from '../support/databases.ts';

// The same on both databases: no behaviour may depend on which one it is.
describe.each(databaseKinds)('records in a database that is %s', (kind) => {
  let database: TestDatabase;
  let where: { dataDir: string; databaseUrl?: string };
  let records: Records;

  beforeAll(async () => {
    database = await startDatabase(kind);
    where = await database.fresh();
    records = await openRecords(where);
  });
  afterAll(async () => {
    await records[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });

  const device = (uuid: string, more: { name?: string; fleet?: string } = {}) =>
    records.devices.add({ uuid, name: null, keyHash: 'aa', createdAtMs: 5, ...more });
  const uuids = async (...filter: Parameters<Records['devices']['list']>) =>
    (await records.devices.list(...filter)).map(({ uuid }) => uuid);

  test('a device is added once, and what was said of it before it came stays', async () => {
    expect(await device('once')).toBe(true);
    expect(await device('once', { name: 'again' })).toBe(false);
    expect(await records.devices.get('once')).toMatchObject({ name: null, keyHash: 'aa' });
    await records.fleets.add({ name: 'foreseen', description: null, createdAtMs: 1 });
    await records.devices.change('later', { name: 'Hall', fleet: 'foreseen', tags: { site: 'x' } });
    expect(await records.devices.get('later')).toMatchObject({ keyHash: null });
    expect(await device('later', { name: 'its own' })).toBe(true);
    expect((await records.devices.list({ uuids: ['later'] }))[0]).toMatchObject({
      name: 'Hall',
      fleet: 'foreseen',
      keyHash: 'aa',
      tags: { site: 'x' },
    });
    expect(await device('later')).toBe(false);
    await records.devices.remove('once');
    await records.devices.remove('later');
  });

  test('devices are found by fleet and tags, in the order of bytes, a page at a time', async () => {
    await records.fleets.add({ name: 'f1', description: null, createdAtMs: 1 });
    for (const uuid of ['a_1', 'B', 'a', 'Ä', '_']) await device(uuid, { fleet: 'f1' });
    await device('outside');
    await records.devices.change('a', { tags: { site: 'north', ring: '1' } });
    await records.devices.change('B', { tags: { site: 'north' } });
    const ordered = ['B', '_', 'a', 'a_1', 'Ä'];
    expect(await uuids({ fleet: 'f1' })).toEqual(ordered);
    const paged: string[] = [];
    for (let after: string | undefined; ; after = paged.at(-1)) {
      const [next] = await uuids({ fleet: 'f1', after, limit: 1 });
      if (next === undefined) break;
      paged.push(next);
    }
    expect(paged).toEqual(ordered);
    expect(await uuids({ tags: [['site', 'north']] })).toEqual(['B', 'a']);
    const both = [
      ['site', 'north'],
      ['ring', '1'],
    ] as const;
    expect(await uuids({ tags: both })).toEqual(['a']);
    expect(await uuids({ uuids: ['a', 'nobody', 'outside'] })).toEqual(['a', 'outside']);
    expect((await records.devices.groupValues({ kind: 'fleet' })).sort()).toEqual(['f1']);
    expect(await records.devices.groupValues({ kind: 'tag', key: 'site' })).toEqual(['north']);
    expect(await records.devices.inGroup({ kind: 'tag', key: 'site' }, ['north'])).toHaveLength(2);
    expect(await records.devices.inGroup({ kind: 'fleet' }, [])).toEqual([]);
    expect((await records.devices.fleetOfEach()).get('a_1')).toBe('f1');
    expect(await records.fleets.get('f1')).toMatchObject({ devices: 5 });
    // All tags are given at once: what is left out is gone.
    await records.devices.change('a', { tags: { ring: '2' } });
    expect((await records.devices.list({ uuids: ['a'] }))[0]?.tags).toEqual({ ring: '2' });
    await records.devices.change('a', { name: 'A' });
    expect((await records.devices.list({ uuids: ['a'] }))[0]?.tags).toEqual({ ring: '2' });
    await records.devices.remove('a');
    expect(await records.devices.groupValues({ kind: 'tag', key: 'ring' })).toEqual([]);
  });

  test('a fleet that is removed leaves its devices, and opens nothing to those who could read it', async () => {
    await records.fleets.add({ name: 'gone', description: 'x', createdAtMs: 1 });
    await device('left', { fleet: 'gone' });
    const token = (name: string, role: 'reader' | 'join', fleets: string[]) =>
      records.tokens.add({ name, role, hash: name, fleets });
    await token('r', 'reader', ['gone']);
    await token('r2', 'reader', ['gone', 'f1']);
    await token('j', 'join', ['gone']);
    expect(await records.transaction((tables) => tables.fleets.remove('gone'))).toBe(true);
    expect(await records.transaction((tables) => tables.fleets.remove('gone'))).toBe(false);
    expect(await records.devices.get('left')).toMatchObject({ fleet: null });
    // Limited to nothing, which is not the same as not limited.
    expect((await records.tokens.get('r'))?.fleets).toEqual([]);
    expect((await records.tokens.get('r2'))?.fleets).toEqual(['f1']);
    expect(await records.tokens.get('j')).toBeUndefined();
  });

  test('a token has its name alone, and is found by its hash', async () => {
    expect(await records.tokens.add({ name: 't', role: 'reader', hash: '01', devices: ['x'] })).toBe(true);
    expect(await records.tokens.add({ name: 't', role: 'reader', hash: '02' })).toBe(false);
    expect(await records.tokens.byHash('01')).toMatchObject({ name: 't', devices: ['x'], fleets: null });
    await records.tokens.save({ name: 't', role: 'admin', hash: '03' });
    // In place of the one before, limits included.
    expect(await records.tokens.byHash('03')).toMatchObject({ role: 'admin', devices: null });
    expect(await records.tokens.byHash('01')).toBeUndefined();
    expect(await records.tokens.remove('t')).toBe(true);
    expect(await records.tokens.remove('t')).toBe(false);
  });

  test('an entry of the audit is there exactly if what it tells of is', async () => {
    const entry = { actor: 'me', action: 'fleet.create', subject: 'audited', detail: { a: [1, { b: 'ä' }] } };
    const add = () =>
      records.audited(entry, async (tables) => {
        const added = await tables.fleets.add({ name: 'audited', description: null, createdAtMs: 1 });
        if (!added) throw new Error('there is one');
      });
    await add();
    await expect(add()).rejects.toThrow('there is one');
    const found = await records.audit.list({ subject: 'audited', limit: 10 });
    expect(found).toEqual([{ id: expect.any(Number), atMs: expect.any(Number), ...entry }]);
    const rollback = records.audited({ ...entry, subject: 'undone' }, async (tables) => {
      await tables.fleets.add({ name: 'undone', description: null, createdAtMs: 1 });
      throw new Error('no');
    });
    await expect(rollback).rejects.toThrow('no');
    expect(await records.fleets.get('undone')).toBeUndefined();
    expect(await records.audit.list({ subject: 'undone', limit: 10 })).toEqual([]);
  });

  test('the audit is read backwards a page at a time, and is filtered', async () => {
    for (let i = 0; i < 5; i++) {
      await records.audit.append({ actor: `a${i % 2}`, action: 'x.y', subject: 's', detail: { i } });
    }
    const seen: unknown[] = [];
    for (let before: number | undefined; ; ) {
      const page = await records.audit.list({ subject: 's', before, limit: 2 });
      seen.push(...page.map(({ detail }) => detail.i));
      before = page.at(-1)?.id;
      if (before === undefined) break;
    }
    expect(seen).toEqual([4, 3, 2, 1, 0]);
    expect(await records.audit.list({ actor: 'a1', action: 'x.y', limit: 10 })).toHaveLength(2);
    const [newest] = await records.audit.list({ subject: 's', limit: 1 });
    const at = newest?.atMs as number;
    expect(await records.audit.list({ subject: 's', since: at + 1, limit: 10 })).toEqual([]);
    expect(await records.audit.list({ subject: 's', until: at + 1, limit: 10 })).toHaveLength(5);
  });

  test('saved searches have their names alone', async () => {
    const search = (id: string, name: string, createdBy = 'me') =>
      records.searches.add({
        ...{ id, name, createdBy, query: `it's "x" \\ %`, since: '1h', until: null },
        ...{ createdAtMs: 1, changedAtMs: 1 },
      });
    expect(await search('1', 'b')).toBe(true);
    expect(await search('2', 'a', 'you')).toBe(true);
    expect(await search('3', 'a')).toBe(false);
    const names = async (page: { after?: string; createdBy?: string } = {}) =>
      (await records.searches.list({ limit: 10, ...page })).map(({ name }) => name);
    expect(await names()).toEqual(['a', 'b']);
    expect(await names({ after: 'a' })).toEqual(['b']);
    expect(await names({ createdBy: 'you' })).toEqual(['a']);
    expect(await records.searches.change('1', { name: 'a' })).toBe('taken');
    expect(await records.searches.change('1', { name: 'b', since: null })).toBe('changed');
    expect(await records.searches.change('9', { name: 'z' })).toBe('unknown');
    expect(await records.searches.get('1')).toMatchObject({ query: `it's "x" \\ %`, since: null });
    expect(await records.searches.remove('1')).toBe(true);
    expect(await records.searches.remove('1')).toBe(false);
  });

  test('presence is kept by uuid, and forgotten as a whole', async () => {
    await records.presence.save({ uuid: 'p2', online: true, changedAtMs: 1_700_000_000_000 });
    await records.presence.save({ uuid: 'p1', online: true, changedAtMs: 1 });
    await records.presence.save({ uuid: 'p1', online: false, changedAtMs: 2 });
    expect(await records.presence.list({ limit: 1 })).toEqual([
      { uuid: 'p1', online: false, changedAtMs: 2 },
    ]);
    expect(await records.presence.list({ after: 'p1' })).toMatchObject([{ uuid: 'p2', online: true }]);
    await records.presence.forget();
    expect(await records.presence.list({ uuids: ['p2'] })).toMatchObject([{ online: false }]);
    await records.presence.remove('p2');
    expect(await records.presence.list()).toHaveLength(1);
  });

  test('the database itself keeps the audit from being changed', async () => {
    const opened = where.databaseUrl
      ? await openServer(where.databaseUrl, pino({ level: 'silent' }))
      : undefined;
    // The embedded one takes one opener at a time.
    if (!opened) await records[Symbol.asyncDispose]();
    const raw = opened ?? (await openEmbedded(join(where.dataDir, 'records')));
    for (const statement of ['UPDATE audit SET actor = $$x$$', 'DELETE FROM audit', 'TRUNCATE audit']) {
      const changed = Promise.resolve(raw.database.execute(sql.raw(statement)));
      await expect(changed).rejects.toMatchObject({ cause: { message: 'the audit is append-only' } });
    }
    await raw.close();
    if (!opened) records = await openRecords(where);
    expect(await records.audit.list({ subject: 's', limit: 10 })).toHaveLength(5);
  });

  test('records of the first version become those of this one, with all that they held', async () => {
    const old = await database.fresh();
    const raw = old.databaseUrl
      ? await openServer(old.databaseUrl, pino({ level: 'silent' }))
      : await openEmbedded(join(old.dataDir, 'records'));
    await migrate(raw.database, 1);
    await raw.database.execute(sql`INSERT INTO devices VALUES ('d', 'Hall', 'hh', 7)`);
    await raw.database.execute(sql`INSERT INTO tokens VALUES ('admin', 'admin', 'ff', 8)`);
    await raw.close();
    await using upgraded = await openRecords(old);
    expect(await upgraded.devices.list()).toEqual([
      { uuid: 'd', name: 'Hall', keyHash: 'hh', createdAtMs: 7, fleet: null, tags: {} },
    ]);
    expect(await upgraded.tokens.byHash('ff')).toMatchObject({ role: 'admin', fleets: null, devices: null });
  });

  test('what the database refuses is said without the statement and its values', async () => {
    const wrong = records.devices.change('x', { fleet: 'no such fleet', name: 'a name to keep quiet about' });
    await expect(wrong).rejects.toMatchObject({ code: 'RECORDS_FAILED' });
    await expect(wrong).rejects.not.toThrow(/quiet|insert into/i);
  });
});
