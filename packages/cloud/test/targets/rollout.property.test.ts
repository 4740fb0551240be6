import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { batchSize, nextStep, type Rollout, type RolloutDevice } from '../../src/targets/rollout.ts';

/** A fleet that does what it is drawn to do, and a rollout that is stepped through it. */
interface Drawn {
  batch: string;
  maxFailures: number;
  devices: { fails: boolean; isSilent: boolean; onlineAt: number; takesSteps: number }[];
}

const drawn: fc.Arbitrary<Drawn> = fc.record({
  batch: fc.constantFrom('1', '2', '5', '25%', '100%'),
  maxFailures: fc.nat({ max: 3 }),
  devices: fc.array(
    fc.record({
      fails: fc.boolean(),
      isSilent: fc.boolean(),
      onlineAt: fc.constantFrom(0, 0, 0, 3, 9, 1000),
      takesSteps: fc.nat({ max: 4 }),
    }),
    { maxLength: 12 },
  ),
});

const patienceMs = 20;
const lastStep = 200;

function run({ batch, maxFailures, devices }: Drawn) {
  const rollout: Rollout = { batch, maxFailures, patienceMs, batchNo: 0 };
  const fleet = devices.map(
    (_, i): RolloutDevice => ({ uuid: `d${i}`, isOnline: false, report: { state: 'pending' } }),
  );
  const history: { nowMs: number; batchNo: number; reach: string[]; updating: number }[] = [];
  for (let nowMs = 0; nowMs < lastStep; nowMs++) {
    for (const [i, device] of fleet.entries()) {
      const plan = devices[i] as Drawn['devices'][number];
      device.isOnline = nowMs >= plan.onlineAt;
      const isThrough = device.reached && nowMs - device.reached.sinceMs >= plan.takesSteps;
      if (isThrough && !plan.isSilent)
        device.report = plan.fails ? { state: 'failed', error: 'no' } : { state: 'done' };
    }
    const step = nextStep(rollout, fleet, nowMs);
    // The same look at the same things: nothing but what was written would make it another one.
    expect(nextStep(rollout, fleet, nowMs)).toEqual(step);
    for (const { uuid, state, error } of step.changed) {
      const device = fleet.find((one) => one.uuid === uuid);
      if (device?.reached) device.reached = { ...device.reached, state, error };
    }
    const updating = fleet.filter(({ reached }) => reached?.state === 'updating').length;
    history.push({ nowMs, batchNo: step.batchNo, reach: step.reach, updating });
    for (const uuid of step.reach) {
      const device = fleet.find((one) => one.uuid === uuid) as RolloutDevice;
      device.reached = { batchNo: step.batchNo, sinceMs: nowMs, state: 'updating', error: null };
    }
    rollout.batchNo = step.batchNo;
    if (step.end) return { end: step.end, fleet, history };
  }
  return { end: undefined, fleet, history };
}

describe('a rollout', () => {
  test('ends, in small steps, and not over more failures than may be', () => {
    fc.assert(
      fc.property(drawn, (plan) => {
        const { end, fleet, history } = run(plan);
        const size = batchSize(plan.batch, fleet.length);
        const members = new Map<number, number>();
        for (const { batchNo, reach } of history)
          members.set(batchNo, (members.get(batchNo) ?? 0) + reach.length);
        for (const [, count] of members) expect(count).toBeLessThanOrEqual(size);
        // A new batch begins only when nobody of the one before is updating.
        for (const [i, { batchNo, updating }] of history.entries()) {
          if (i > 0 && batchNo > (history[i - 1]?.batchNo ?? 0)) expect(updating).toBe(0);
        }
        const count = (state: string) => fleet.filter(({ reached }) => reached?.state === state).length;
        const reachable = plan.devices.filter(({ onlineAt }) => onlineAt < lastStep).length;
        if (end?.state === 'done') {
          expect(count('failed')).toBeLessThanOrEqual(plan.maxFailures);
          expect(count('updating')).toBe(0);
          expect(fleet.length === 0 || count('done') > 0).toBe(true);
        } else if (end) {
          expect(count('failed') > plan.maxFailures || count('done') === 0).toBe(true);
          expect(end.reason).toMatch(/device(s)? failed.*; d\d+: (no|no result after 0 min)/);
        } else expect(reachable).toBe(0);
      }),
    );
  });

  const online = (uuid: string, more: Partial<RolloutDevice> = {}): RolloutDevice => ({
    uuid,
    isOnline: true,
    report: { state: 'pending' },
    ...more,
  });
  const reached = (state: 'updating' | 'done' | 'failed', batchNo = 1) => ({
    reached: { batchNo, sinceMs: 0, state, error: state === 'failed' ? 'why' : null },
  });
  const rollout: Rollout = { batch: '2', maxFailures: 1, patienceMs: 1000, batchNo: 1 };

  test.each([
    ['nobody in the fleet: done', { ...rollout, batchNo: 0 }, [], { end: { state: 'done' } }],
    ['all offline: it waits', rollout, [online('a', { isOnline: false })], { reach: [], changed: [] }],
    [
      'the first batch',
      { ...rollout, batchNo: 0 },
      [online('b'), online('a'), online('c')],
      { batchNo: 1, reach: ['a', 'b'] },
    ],
    [
      'one of a batch is updating: no other batch',
      rollout,
      [online('a', reached('updating')), online('b', reached('done')), online('c')],
      { reach: [] },
    ],
    [
      'room in the batch: who came online joins it',
      rollout,
      [online('a', reached('updating')), online('b')],
      { batchNo: 1, reach: ['b'] },
    ],
    [
      'all of it done: the next',
      rollout,
      [
        online('a', reached('done')),
        online('b', { ...reached('updating'), report: { state: 'done' } }),
        online('c'),
      ],
      { batchNo: 2, reach: ['c'], changed: [{ uuid: 'b', state: 'done', error: null }] },
    ],
    [
      'a failure that may be',
      rollout,
      [online('a', { ...reached('updating'), report: { state: 'failed', error: 'x' } }), online('b')],
      { batchNo: 2, reach: ['b'] },
    ],
    [
      'one more than may be',
      rollout,
      [
        online('a', reached('failed')),
        online('b', { ...reached('updating'), report: { state: 'failed', error: 'x' } }),
      ],
      { end: { state: 'stopped', reason: '2 devices failed, and at most 1 may; a: why' } },
    ],
    [
      'all that tried failed, and the rest is offline',
      rollout,
      [online('a', reached('failed')), online('b', { isOnline: false })],
      { end: { state: 'stopped', reason: '1 device failed and none is done; a: why' } },
    ],
    [
      'the rest is offline: done',
      rollout,
      [online('a', reached('done')), online('b', { isOnline: false })],
      { end: { state: 'done' } },
    ],
    [
      'late, but done after all',
      rollout,
      [online('a', { ...reached('failed'), report: { state: 'done' } })],
      { changed: [{ uuid: 'a', state: 'done', error: null }], end: { state: 'done' } },
    ],
  ] as const)('%s', (_what, given, devices, step) => {
    expect(nextStep(given, devices, 500)).toMatchObject(step);
  });

  test('who is silent for too long counts as failed', () => {
    const devices = [online('a', { ...reached('updating'), isOnline: false })];
    expect(nextStep(rollout, devices, 1000).changed).toEqual([]);
    const late = nextStep({ ...rollout, patienceMs: 60_000 * 5 }, devices, 60_000 * 5 + 1);
    expect(late.changed).toEqual([{ uuid: 'a', state: 'failed', error: 'no result after 5 min' }]);
  });

  test.each([
    ['1', 10, 1],
    ['25%', 10, 3],
    ['1%', 10, 1],
    ['100%', 0, 1],
    ['7', 3, 7],
  ])('a batch of %s of %i devices is %i', (batch, devices, size) => {
    expect(batchSize(batch, devices)).toBe(size);
  });
});
