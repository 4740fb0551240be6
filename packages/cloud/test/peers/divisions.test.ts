import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { Ownership } from '../../src/peers/ownership.ts';
import type { Records } from '../../src/records/records.ts';
import { silent } from '../store/open-stores.ts';
import { openRecords, startDatabase, type TestDatabase } from '../support/databases.ts';

/*
 * While the shards of a cluster change, there are processes that know the old ones and some that know the new. Never
 * do both have devices, and whoever follows makes sure of all shards first.
 */

let database: TestDatabase;
let records: Records;
beforeAll(async () => {
  database = await startDatabase('embedded');
});
afterAll(() => database[Symbol.asyncDispose]());
beforeEach(async () => {
  records = await openRecords(await database.fresh());
  return () => records[Symbol.asyncDispose]();
});

const shards = 3;
const device = 'device-1';

class Process implements AsyncDisposable {
  readonly ownership: Ownership;
  readonly did: string[] = [];
  /** Holds up a shard. */
  gate: Promise<void> | undefined;

  constructor(name: string, division: string) {
    this.ownership = new Ownership({
      table: records.peers,
      url: `http://${name}`,
      division,
      divisionChanged: async () => void this.did.push('looked for misplaced lines'),
      lanes: Array.from({ length: shards }, (_, lane) => ({
        fence: async () => {
          if (lane === 2) await this.gate;
          this.did.push(`fenced ${lane}`);
        },
      })),
      laneOf: () => 0,
      settled: async () => undefined,
      log: silent,
      timing: { tickMs: 10, deadTicks: 50, claimWaitMs: 100 },
    });
  }

  async start(): Promise<this> {
    await this.ownership.start();
    return this;
  }

  get route(): string {
    const route = this.ownership.route(device);
    return route.to === 'peer' ? route.peer.url : route.to;
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.ownership[Symbol.asyncDispose]();
  }
}

async function ownedBy(): Promise<Map<string | null, number>> {
  const slots = await records.peers.slots();
  const peers = new Map((await records.peers.peers()).map(({ id, url }) => [id, url]));
  const of = Map.groupBy(slots, ({ owner }) => (owner === null ? null : (peers.get(owner) ?? 'gone')));
  return new Map([...of].map(([url, { length }]) => [url, length]));
}

test('who knows other shards gets no devices before the last of the others has ended', async () => {
  await using old = await new Process('old', 'two shards').start();
  await until(async () => (await ownedBy()).get('http://old') === 256);
  // The first ever to have them: there is nothing to look for.
  expect(old.did).not.toContain('looked for misplaced lines');
  await using late = await new Process('late', 'three shards').start();
  await using later = await new Process('later', 'three shards').start();
  await using older = await new Process('older', 'two shards').start();
  // The old ones share as ever.
  await until(async () => ((await ownedBy()).get('http://older') ?? 0) > 50);
  expect((await ownedBy()).get('http://late')).toBeUndefined();
  await until(() => ['http://old', 'http://older'].includes(late.route), { what: 'it to hand on' });
  await old[Symbol.asyncDispose]();
  await until(async () => (await ownedBy()).get('http://older') === 256);
  await older[Symbol.asyncDispose]();
  await until(async () => {
    const owned = await ownedBy();
    return (owned.get('http://late') ?? 0) > 50 && (owned.get('http://later') ?? 0) > 50;
  });
  for (const { did } of [late, later]) expect(did).toContain('looked for misplaced lines');
});

test('behind another division all shards are fenced before a line is admitted; else each delays its own alone', async () => {
  await using old = await new Process('old', 'two shards').start();
  await until(async () => (await ownedBy()).get('http://old') === 256);
  await old[Symbol.asyncDispose]();
  const { promise, resolve } = Promise.withResolvers<void>();
  await using late = new Process('late', 'three shards');
  late.gate = promise;
  await late.start();
  await until(() => late.route === 'here');
  await expect(late.ownership.of(device)).rejects.toMatchObject({ code: 'DEVICE_ELSEWHERE' });
  resolve();
  const claim = await until(() => late.ownership.of(device).catch(() => undefined));
  expect(claim.state).toBe('held');
  expect(late.did).toEqual(['fenced 0', 'fenced 1', 'fenced 2', 'looked for misplaced lines']);
  await late[Symbol.asyncDispose]();

  await using next = new Process('next', 'three shards');
  next.gate = new Promise(() => undefined);
  await next.start();
  await until(() => next.route === 'here');
  expect((await next.ownership.of(device)).state).toBe('held');
  expect(next.did).not.toContain('looked for misplaced lines');
});
