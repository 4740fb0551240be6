import { keepsRunning } from '@millrace/wire/apps';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isUp } from '../../src/apps/engine/observed.ts';
import { hasFinished, planApp, planRemoval, type WantedApp } from '../../src/apps/reconcile/plan.ts';
import type { Step } from '../../src/apps/reconcile/steps.ts';
import { wantedOf } from '../../src/apps/reconcile/wanted.ts';
import type { AppRecord } from '../../src/apps/target/store.ts';
import { ModelEngine } from './model-engine.ts';

const appId = 1001;
const names = ['a', 'b', 'c'];

/** Services may need only those before them, so that none needs itself. */
const serviceAt = (i: number) =>
  fc.record({
    serviceName: fc.constant(names[i] as string),
    imageName: fc.constantFrom('one:1', 'two:2'),
    environment: fc.record({ V: fc.constantFrom('1', '2') }),
    networks: fc.subarray(['n', 'm'], { minLength: 1 }),
    volumes: fc.subarray(['d:/d', 'e:/e']),
    restart: fc.constantFrom('always', 'no', 'on-failure'),
    dependsOn: fc.subarray(names.slice(0, i)),
  });

const services = fc
  .tuple(serviceAt(0), serviceAt(1), serviceAt(2), fc.subarray(names, { minLength: 1 }))
  .map(([a, b, c, chosen]) =>
    [a, b, c]
      .filter(({ serviceName }) => chosen.includes(serviceName))
      .map((service) => ({
        ...service,
        dependsOn: service.dependsOn.filter((name) => chosen.includes(name)),
      })),
  );

type Services = typeof services extends fc.Arbitrary<infer T> ? T : never;

/** What happens to a device: releases that end well or badly, hands that interfere, crashes in the middle. */
const happening = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('deploy' as const), services }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('fail' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('succeed' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('prune' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('stop' as const), name: fc.constantFrom(...names) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('meddle' as const),
      which: fc.nat(),
      how: fc.constantFrom('kill', 'remove', 'start', 'die dead'),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('steps' as const),
      count: fc.integer({ min: 0, max: 6 }),
      pick: fc.nat(),
    }),
  },
);
type Happening = typeof happening extends fc.Arbitrary<infer T> ? T : never;

class Device {
  readonly engine = new ModelEngine();
  record: AppRecord | undefined;

  happen(event: Happening): void {
    const { record } = this;
    switch (event.kind) {
      case 'deploy':
        this.record = {
          ...{ appId, release: (record?.release ?? 0) + 1, outcome: 'pending', stopped: [] },
          app: { appId, services: event.services },
          ...(record?.good && { good: record.good }),
        };
        return;
      case 'fail':
        if (record?.outcome === 'pending') this.record = { ...record, outcome: 'failed' };
        return;
      case 'succeed':
        if (record?.outcome !== 'pending') return;
        this.record = { ...record, outcome: 'done', good: { release: record.release, app: record.app } };
        return;
      case 'stop':
        if (record) this.record = { ...record, stopped: [event.name] };
        return;
      case 'prune':
        this.engine.images.clear();
        return;
      case 'meddle': {
        const { containers } = this.engine;
        const container = containers[event.which % Math.max(1, containers.length)];
        if (!container) return;
        if (event.how === 'remove')
          this.engine.containers = containers.filter((other) => other !== container);
        else if (event.how === 'start') container.state = 'running';
        else Object.assign(container, { state: event.how === 'kill' ? 'exited' : 'dead', exitCode: 137 });
        return;
      }
      case 'steps':
        for (let i = 0; i < event.count; i++) {
          const steps = this.plan();
          const step = steps[(event.pick + i) % Math.max(1, steps.length)];
          if (step) this.take(step);
        }
    }
  }

  plan(): Step[] {
    return this.record ? planApp(wantedOf(this.record), this.engine.see()).steps : [];
  }

  take(step: Step): void {
    if (this.record) checkStep(step, wantedOf(this.record), this.engine);
    this.engine.take(step);
  }

  /** Takes steps until there are none. As often as not the first of them, so that orders differ. */
  settle(): void {
    for (let count = 0; count < 200; count++) {
      const steps = this.plan();
      if (steps.length === 0) return;
      this.take(steps[count % steps.length] as Step);
    }
    throw new Error(`it goes on for ever: ${JSON.stringify(this.plan().map(({ kind }) => kind))}`);
  }
}

/** What no step may ever do, whatever state it was planned in. */
function checkStep(step: Step, wanted: WantedApp, engine: ModelEngine): void {
  if (!('container' in step)) return;
  const { container, kind } = step;
  expect(container.appId, 'a container of another app').toBe(appId);
  const service = wanted.app.services.find(({ serviceName }) => serviceName === container.service);
  const isWanted = wanted.configs.get(container.service) === container.config;
  if (kind === 'start') {
    expect(isWanted, 'what is started is what is wanted').toBe(true);
    const twins = engine.containers.filter(
      (other) => other.appId === appId && other.service === container.service && isUp(other),
    );
    expect(twins, 'two of a service at once').toEqual([]);
    for (const { serviceName } of service?.dependsOn ?? []) {
      const needed = engine.containers.filter(
        (other) => other.appId === appId && other.service === serviceName,
      );
      expect(
        needed.some((other) => isUp(other) || other.state === 'exited'),
        `${serviceName} first`,
      ).toBe(true);
    }
  }
  if (kind === 'stop' && !wanted.stopped.has(container.service) && !isWanted) {
    const lacking = wanted.app.services.filter(
      ({ serviceName, imageName }) =>
        !wanted.stopped.has(serviceName) &&
        !engine.images.has(imageName) &&
        !engine.containers.some(
          (c) => c.service === serviceName && c.config === wanted.configs.get(serviceName),
        ),
    );
    expect(lacking, 'stopped before its replacement could be made').toEqual([]);
  }
  if (kind === 'remove' && wanted.isPending && container.state !== 'dead') {
    expect(wanted.kept.has(`${container.service} ${container.config}`), 'the way back is removed').toBe(
      false,
    );
  }
}

const plain: Services[number] = {
  ...{ serviceName: 'a', imageName: 'one:1', environment: { V: '1' }, networks: ['n'], volumes: [] },
  ...{ restart: 'always', dependsOn: [] },
};

const foreign = {
  appId: 7,
  service: 'a',
  release: 1,
  config: 'x',
  dependsOn: [],
  isRetired: false,
  id: 'foreign',
  name: 'a_7_1_x',
};

test('whatever happened and wherever it was interrupted, the end is what was asked for, and then nothing is done', () => {
  fc.assert(
    fc.property(fc.array(happening, { maxLength: 25 }), services, (events, last) => {
      const device = new Device();
      const other = {
        ...foreign,
        ...{
          state: 'running' as const,
          exitCode: 0,
          restarts: 0,
          isOutOfMemory: false,
          runningMs: 0,
          networks: [],
        },
      };
      device.engine.containers.push(other);
      for (const event of events) device.happen(event);
      if (device.engine.containers.every(({ id }) => id !== 'foreign')) device.engine.containers.push(other);
      device.happen({ kind: 'deploy', services: last });
      device.settle();
      device.happen({ kind: 'succeed' });
      device.settle();

      const wanted = wantedOf(device.record as AppRecord);
      const mine = device.engine.containers.filter((container) => container.appId === appId);
      expect(mine.map(({ service }) => service).sort()).toEqual(
        last.map(({ serviceName }) => serviceName).sort(),
      );
      for (const container of mine) {
        const service = wanted.app.services.find(({ serviceName }) => serviceName === container.service);
        expect(container.config).toBe(wanted.configs.get(container.service));
        expect(isUp(container) || (service && hasFinished(container, service))).toBe(true);
        expect(container.networks.sort()).toEqual(
          service?.networks?.map((name) => `${appId}_${name}`).sort(),
        );
      }
      const networks = new Set(last.flatMap((service) => service.networks.map((name) => `${appId}_${name}`)));
      expect(new Set([...device.engine.networks.keys()])).toEqual(networks);
      expect(device.engine.containers.filter((container) => container.appId === 7)).toEqual([other]);

      for (let count = 0, steps: Step[] = []; ; count++) {
        steps = planRemoval(appId, true, device.engine.see());
        if (steps.length === 0) break;
        expect(count).toBeLessThan(100);
        device.engine.take(steps[count % steps.length] as Step);
      }
      expect(device.engine.see()).toMatchObject({
        containers: [other],
        networks: new Map(),
        volumes: new Map(),
      });
    }),
    { numRuns: 300 },
  );
});

test('a release that fails is undone: what ran before runs again, in the very same containers', () => {
  fc.assert(
    fc.property(services, services, fc.nat(30), (before, after, stepsTaken) => {
      const device = new Device();
      device.happen({ kind: 'deploy', services: before });
      device.settle();
      device.happen({ kind: 'succeed' });
      device.settle();
      const running = device.engine.see().containers;
      device.happen({ kind: 'deploy', services: after });
      device.happen({ kind: 'steps', count: stepsTaken, pick: stepsTaken });
      device.happen({ kind: 'fail' });
      device.settle();
      const { containers } = device.engine;
      expect(containers.map(({ service, config }) => `${service} ${config}`).sort()).toEqual(
        running.map(({ service, config }) => `${service} ${config}`).sort(),
      );
      const wanted = wantedOf(device.record as AppRecord);
      for (const container of containers) {
        expect(isUp(container)).toBe(true);
        const service = wanted.app.services.find(({ serviceName }) => serviceName === container.service);
        if (service && keepsRunning(service)) expect(running.map(({ id }) => id)).toContain(container.id);
      }
    }),
    { numRuns: 200 },
  );
});

test('containers of different releases that need each other in a circle are stopped all the same', () => {
  const engine = new ModelEngine();
  const one = {
    ...foreign,
    appId,
    state: 'running' as const,
    exitCode: 0,
    restarts: 0,
    isOutOfMemory: false,
  };
  engine.containers.push(
    { ...one, id: 'c1', service: 'a', dependsOn: ['b'], runningMs: 0, networks: [] },
    { ...one, id: 'c2', service: 'b', dependsOn: ['a'], runningMs: 0, networks: [] },
    { ...one, id: 'c3', service: 'c', dependsOn: ['b'], runningMs: 0, networks: [] },
  );
  const first = planRemoval(appId, false, engine.see());
  expect(first.map((step) => 'container' in step && step.container.service)).toEqual(['c']);
  for (const step of first) engine.take(step);
  const second = planRemoval(appId, false, engine.see());
  expect(second.map(({ kind }) => kind).sort()).toEqual(['remove', 'stop', 'stop']);
});

test('what runs is left alone while an image of its app is missing, though its own successor is there', () => {
  const device = new Device();
  const app = (version: '1' | '2') =>
    ['a', 'b'].map((serviceName) => ({ ...plain, serviceName, environment: { V: version } }));
  device.happen({ kind: 'deploy', services: app('1') });
  device.settle();
  device.happen({ kind: 'succeed' });
  device.happen({ kind: 'deploy', services: app('2') });
  while (!device.engine.containers.some(({ service, release }) => service === 'a' && release === 2)) {
    device.take(device.plan().find(({ key }) => key === `${appId}/a`) as Step);
  }
  device.engine.images.clear();
  expect(device.plan().map(({ kind, key }) => `${kind} ${key}`)).toEqual([`pull ${appId}/b`]);
});
