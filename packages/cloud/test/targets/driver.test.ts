import pino from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { Presence } from '../../src/identity/presence.ts';
import type { Records } from '../../src/records/records.ts';
import { readApps } from '../../src/targets/given-apps.ts';
import { RolloutDriver } from '../../src/targets/rollout-driver.ts';
import { releasesFor } from '../../src/targets/set-target.ts';
import { TargetBook } from '../../src/targets/target-book.ts';
import { databaseKinds, openRecords, startDatabase, type TestDatabase } from '../support/databases.ts';
import { appOf } from './fleet.ts';

const log = pino({ level: 'silent' });

describe.each(databaseKinds)('targets in a database that is %s', (kind) => {
  let database: TestDatabase;
  let records: Records;
  /** Of another process, where there can be one. */
  let others: Records;

  beforeAll(async () => {
    database = await startDatabase(kind);
    const where = await database.fresh();
    records = await openRecords(where);
    others = kind === 'server' ? await openRecords(where) : records;
  });
  afterAll(async () => {
    await records[Symbol.asyncDispose]();
    await others[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });

  async function fleetOf(name: string, size: number): Promise<string[]> {
    await records.fleets.add({ name, description: null, createdAtMs: 1 });
    const uuids = Array.from({ length: size }, (_, i) => `${name}-${String(i).padStart(2, '0')}`);
    for (const uuid of uuids) {
      await records.devices.add({ uuid, name: null, keyHash: 'aa', createdAtMs: 1, fleet: name });
      await records.states.report(uuid, Date.now(), () => ({ state: {}, changes: {} }));
    }
    return uuids;
  }

  const begin = (fleet: string, image: string, batch: string, maxFailures = 0) =>
    records.transaction(async (tables) => {
      await tables.targetChanges.lock();
      const request = { mode: 'replace', isRetry: false, by: 'me', nowMs: Date.now() } as const;
      const { releases } = await releasesFor(tables, undefined, {
        ...request,
        apps: readApps([appOf(image)]),
      });
      const target = await tables.targets.add({ fleet }, { releases, createdAtMs: 1, createdBy: 'me' });
      const pace = { batch, maxFailures, patienceMs: 60_000 };
      await tables.rollouts.begin({ fleet, target: target.id, ...pace, startedAtMs: 1, startedBy: 'me' });
      return target;
    });

  /** A device that has its target says of it what is given. */
  async function report(uuid: string, status: string): Promise<void> {
    const target = await new TargetBook({ records }).target(uuid);
    const apps = Object.values(target?.document[uuid]?.apps ?? {}).map(({ id, releases }) => {
      const [release = ''] = Object.keys(releases);
      const services = {};
      return [
        String(id),
        { release_uuid: release, releases: { [release]: { update_status: status, services } } },
      ];
    });
    await records.transaction((tables) =>
      tables.states.report(uuid, Date.now(), () => ({
        state: { apps: Object.fromEntries(apps) },
        changes: {},
      })),
    );
  }

  /** What the drivers said, in whichever process. */
  const said: { msg: string; batch?: number; device?: string }[] = [];
  const heard = pino({ level: 'info' }, { write: (line: string) => said.push(JSON.parse(line)) });
  const driverOn = (on: Records, tickMs = 20) =>
    new RolloutDriver({
      records: on,
      presence: new Presence({ records: on, log }),
      onChange: () => undefined,
      log: heard,
      tickMs,
    });

  test('two processes that take the steps of a rollout side by side reach each device once, batch by batch', async () => {
    const uuids = await fleetOf('side', 7);
    await begin('side', 'nginx:1', '3');
    const drivers = [driverOn(records), driverOn(others), driverOn(others)];
    for (const driver of drivers) driver.start();
    let first: readonly { device: string; batchNo: number; sinceMs: number }[] = [];
    const seen = new Map<string, number>();
    await until(
      async () => {
        first = await records.rollouts.reached('side');
        for (const { device, batchNo } of first) {
          // Whoever reached it, reached it with one batch.
          expect(seen.get(device) ?? batchNo).toBe(batchNo);
          seen.set(device, batchNo);
        }
        for (const row of await records.rollouts.reached('side')) {
          if (row.state === 'updating') await report(row.device, 'done');
        }
        return (await records.rollouts.ofFleet('side'))?.rollout.state === 'done';
      },
      { what: () => `the end; ${JSON.stringify(first)}` },
    );
    await Promise.all(drivers.map((driver) => driver[Symbol.asyncDispose]()));
    // Each step was taken by one of them.
    const batches = said.filter(({ msg }) => msg === 'rollout: a batch was begun').map(({ batch }) => batch);
    expect(batches).toEqual([1, 2, 3]);
    expect(said.filter(({ msg }) => msg === 'rollout: done')).toHaveLength(1);
    expect(said.filter(({ msg }) => msg === 'rollout: a device is done')).toHaveLength(7);
    const sizes = [1, 2, 3].map((no) => [...seen.values()].filter((batchNo) => batchNo === no).length);
    expect(sizes).toEqual([3, 3, 1]);
    expect([...seen.keys()].sort()).toEqual(uuids);
    expect((await records.rollouts.ofFleet('side'))?.stable).not.toBeNull();
  });

  test('another target during a rollout leaves everybody where it is until it is reached', async () => {
    const [a = '', b = ''] = await fleetOf('mixed', 2);
    const driver = driverOn(records);
    const old = await begin('mixed', 'nginx:1', '1');
    await driver.stepAll();
    const pointers = async () => (await records.targets.pointers([a, b])).map(({ ofFleet }) => ofFleet);
    expect(await pointers()).toEqual([old.id, null]);
    const next = await begin('mixed', 'nginx:2', '1');
    expect(await pointers()).toEqual([old.id, null]);
    await driver.stepAll();
    expect(await pointers()).toEqual([next.id, null]);
    await report(a, 'rejected');
    await driver.stepAll();
    expect(await records.rollouts.ofFleet('mixed')).toMatchObject({
      stable: null,
      rollout: { state: 'stopped', target: next.id },
    });
    // Forgotten altogether, nobody has one.
    await records.rollouts.removeOfFleet('mixed');
    expect(await pointers()).toEqual([null, null]);
    await driver[Symbol.asyncDispose]();
  });

  test('an id is given to a name once, and no two have the same', async () => {
    const [one, two] = await Promise.all(
      [records, others].map((on) =>
        on.transaction(async (tables) => {
          await tables.targetChanges.lock();
          return [await tables.releases.appIdOf('first'), await tables.releases.appIdOf('second')];
        }),
      ),
    );
    expect(one).toEqual(two);
    expect(new Set(one).size).toBe(2);
    expect(await records.releases.claimAppId('third', one?.[0] ?? 0)).toEqual({
      name: 'first',
      appId: one?.[0],
    });
    expect(await records.releases.claimAppId('first', 9)).toMatchObject({ name: 'first' });
    expect(await records.releases.claimAppId('fourth', 9)).toBeUndefined();
  });

  test('changes are seen in the order in which they were made, the newest of each device', async () => {
    const note = (on: Records, devices: string[]) =>
      on.transaction(async (tables) => {
        await tables.targetChanges.lock();
        await tables.targetChanges.note(devices);
      });
    const before = await records.targetChanges.last();
    await Promise.all(
      Array.from({ length: 20 }, (_, i) => note(i % 2 ? records : others, [`c${i % 5}`, 'every'])),
    );
    expect(await records.targetChanges.last()).toBe(before + 20);
    const changes = await others.targetChanges.after(before, 100);
    expect(new Set(changes.map(({ device }) => device))).toEqual(
      new Set(['c0', 'c1', 'c2', 'c3', 'c4', 'every']),
    );
    expect(changes.at(-1)?.change).toBe(before + 20);
    expect(await others.targetChanges.of(before + 20)).toContain('every');
    // One process at a time passes them on; another does when that one is silent for long.
    expect(await records.targetChanges.claimPushing('a', 60_000)).toBe(0);
    expect(await others.targetChanges.claimPushing('b', 60_000)).toBeUndefined();
    await others.targetChanges.pushed('b', 5);
    await records.targetChanges.pushed('a', 3);
    expect(await records.targetChanges.claimPushing('a', 0)).toBe(3);
    await until(async () => (await others.targetChanges.claimPushing('b', 60_000)) === 3);
  });

  test('the last hundred targets of an owner are kept, and whatever is in force', async () => {
    const add = () =>
      records.targets.add({ device: 'keeper' }, { releases: [], createdAtMs: 1, createdBy: 'me' });
    const inForce = await add();
    await records.targets.setOfDevice('keeper', inForce.id);
    for (let i = 0; i < 104; i++) await add();
    const kept = await records.targets.history({ device: 'keeper' }, { limit: 1000 });
    expect(kept.length).toBe(101);
    expect(kept.at(-1)?.id).toBe(inForce.id);
  });
});
