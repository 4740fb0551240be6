import { type App, type Dependency, keepsRunning, type Service } from '@millrace/wire/apps';
import { taggedImage } from '../engine/create-body.ts';
import { networksOf, volumesOf } from '../engine/labels.ts';
import { isUp, type Observed, type OwnedContainer } from '../engine/observed.ts';
import type { Step } from './steps.ts';

/*
 * What is to be done next, from what shall be and what is. Nothing here asks or changes anything.
 *
 * Of each service there is at most one *current* container: one made from just this configuration. All others of its
 * name are *others*. A service comes to its end state in this order, one step at a time:
 *
 *   image pulled → networks and volumes made → current created → connected → needed services up
 *     → others stopped → current started → (release done) → others removed
 *
 * One that is not needed again is retired before it is stopped: given another name, by which it is never current again.
 * Else one that runs once only and was stopped for its successor would look, should the release fail, as if it had done
 * its work.
 *
 * So what runs is stopped only when all that replaces it is there. While a release is pending, the containers of the
 * release to fall back on are stopped but not removed.
 */

/** An app as it shall be now; of a release that failed, the one before. */
export interface WantedApp {
  app: App;
  release: number;
  /** By service: the fingerprint of its configuration. */
  configs: ReadonlyMap<string, string>;
  /** Services that shall not run. */
  stopped: ReadonlySet<string>;
  /** Containers, as {@link keptName}, that may be needed again. */
  kept: ReadonlySet<string>;
  /** It is not known yet whether the release is any good. */
  isPending: boolean;
}

export type Phase =
  | 'pulling'
  | 'creating'
  | 'waiting'
  | 'starting'
  | 'running'
  | 'restarting'
  | 'stopping'
  | 'stopped'
  | 'exited'
  | 'removing';

export interface ServicePlan {
  service: Service;
  phase: Phase;
  current?: OwnedContainer;
  /** What a waiting service waits for. */
  waitsFor?: string;
}

export interface AppPlan {
  steps: Step[];
  services: ServicePlan[];
  /** All images of what shall run are there: from here on it is a matter of a moment. */
  isPrepared: boolean;
}

export function keptName(service: string, config: string): string {
  return `${service} ${config}`;
}

/** What a container for these services may be made from, so that the engine can be asked whether it is there. */
export function imagesOf({ services }: App): string[] {
  return services.map(({ imageName }) => taggedImage(imageName));
}

export function planApp(wanted: WantedApp, seen: Observed): AppPlan {
  const { app, stopped } = wanted;
  const mine = seen.containers.filter(({ appId }) => appId === app.appId);
  const currents = new Map(
    app.services.map(({ serviceName }) => [serviceName, currentOf(serviceName, wanted, mine)]),
  );
  const isPrepared = app.services.every(
    (service) =>
      stopped.has(service.serviceName) ||
      currents.get(service.serviceName) !== undefined ||
      seen.images.has(taggedImage(service.imageName)),
  );
  const context: Context = { ...wanted, seen, mine, currents, isPrepared };
  const planned = app.services.map((service) => planService(service, context));
  const steps = [...planned.flatMap((plan) => plan.steps), ...planGone(context)];
  if (!wanted.isPending) steps.push(...planUnusedNetworks(context));
  return { steps: uniqueByKey(steps), services: planned.map(({ plan }) => plan), isPrepared };
}

/** An app that is to go: its containers, those that need others first, then its networks, and its volumes if asked. */
export function planRemoval(appId: number, withVolumes: boolean, seen: Observed): Step[] {
  const mine = seen.containers.filter((container) => container.appId === appId);
  if (mine.length === 0) {
    return [
      ...ownedBy(appId, seen.networks).map((name): Step => networkStep('remove-network', appId, name)),
      ...(withVolumes ? ownedBy(appId, seen.volumes) : []).map(
        (name): Step => ({ kind: 'remove-volume', key: `${appId} volume ${name}`, appId, name }),
      ),
    ];
  }
  const up = mine.filter(isUp);
  const needed = new Set(up.flatMap(({ dependsOn }) => dependsOn));
  const free = up.filter(({ service }) => !needed.has(service));
  // Containers of different releases may need each other in a circle.
  const next = [...(free.length > 0 ? free : up), ...mine.filter((container) => !isUp(container))];
  return uniqueByKey(next.flatMap((container) => endStep(container)));
}

interface Context extends WantedApp {
  seen: Observed;
  mine: readonly OwnedContainer[];
  currents: ReadonlyMap<string, OwnedContainer | undefined>;
  isPrepared: boolean;
}

function currentOf(
  serviceName: string,
  { configs }: WantedApp,
  mine: readonly OwnedContainer[],
): OwnedContainer | undefined {
  const config = configs.get(serviceName);
  return mine
    .filter((container) => container.service === serviceName && container.config === config)
    .filter(({ state, isRetired }) => state !== 'dead' && state !== 'removing' && !isRetired)
    .sort((a, b) => Number(isUp(b)) - Number(isUp(a)) || b.release - a.release || (a.id < b.id ? -1 : 1))[0];
}

function planService(service: Service, context: Context): { plan: ServicePlan; steps: Step[] } {
  const { serviceName } = service;
  const current = context.currents.get(serviceName);
  const others = context.mine.filter((other) => other.service === serviceName && other !== current);
  const idle = others.filter((other) => !isUp(other) && !isKept(other, context));
  const alive = others.filter(isUp);
  const result = (phase: Phase, steps: Step[], waitsFor?: string) => ({
    plan: { service, phase, ...(current && { current }), ...(waitsFor !== undefined && { waitsFor }) },
    steps,
  });
  const removals = idle.flatMap(endStep);
  const replacements = alive.flatMap((other) => replaceStep(other, context));

  if (context.stopped.has(serviceName)) {
    const ends = [...(current && isUp(current) ? endStep(current) : []), ...replacements];
    return ends.length > 0 ? result('stopping', ends) : result('stopped', removals);
  }
  const dead = others.filter(({ state }) => state === 'dead');
  // It may hold the name that the next one gets.
  if (!current && dead.length > 0) return result('creating', dead.flatMap(endStep));
  if (!current) return planCreation(service, context, alive.length > 0, result);
  if (isUp(current)) {
    const phase = current.state === 'restarting' ? 'restarting' : 'running';
    return result(phase, [...replacements, ...removals]);
  }
  if (hasFinished(current, service)) return result('exited', [...replacements, ...removals]);

  const { appId } = context.app;
  const [unconnected] = networksOf(appId, service).filter((name) => !current.networks.includes(name));
  if (unconnected !== undefined) {
    const network = context.seen.networks.has(unconnected)
      ? ({ kind: 'connect', key: keyOf(current), appId, container: current, network: unconnected } as const)
      : networkStep('create-network', appId, unconnected);
    return result('creating', [network]);
  }
  const unmet = service.dependsOn?.find((dependency) => !isMet(dependency, context));
  if (unmet) return result('waiting', removals, `service ${unmet.serviceName} (${unmet.condition})`);
  if (!context.isPrepared && alive.length > 0) return result('waiting', removals, "the app's other images");
  if (alive.length > 0) return result('stopping', replacements);
  return result('starting', [{ kind: 'start', key: keyOf(current), appId, container: current }]);
}

function planCreation(
  service: Service,
  { app, release, configs, seen, isPrepared }: Context,
  isReplacing: boolean,
  result: (phase: Phase, steps: Step[], waitsFor?: string) => { plan: ServicePlan; steps: Step[] },
) {
  const { appId } = app;
  const { serviceName } = service;
  const key = `${appId}/${serviceName}`;
  const image = taggedImage(service.imageName);
  if (!seen.images.has(image)) return result('pulling', [{ kind: 'pull', key, appId, image, serviceName }]);
  if (isReplacing && !isPrepared) return result('waiting', [], "the app's other images");
  const missing: Step[] = [
    ...networksOf(appId, service)
      .filter((name) => !seen.networks.has(name))
      .map((name) => networkStep('create-network', appId, name)),
    ...volumesOf(appId, service)
      .filter((name) => !seen.volumes.has(name))
      .map((name): Step => ({ kind: 'create-volume', key: `${appId} volume ${name}`, appId, name })),
  ];
  if (missing.length > 0) return result('creating', missing);
  const config = configs.get(serviceName) ?? '';
  return result('creating', [{ kind: 'create', key, appId, service, release, config }]);
}

/** Containers of services that the app no longer has. */
function planGone({ app, mine, kept, isPrepared }: Context): Step[] {
  const names = new Set(app.services.map(({ serviceName }) => serviceName));
  return mine
    .filter(({ service }) => !names.has(service))
    .filter((container) => isPrepared || !isUp(container))
    .filter((container) => isUp(container) || !isKept(container, { kept }))
    .flatMap((container) => replaceStep(container, { kept }));
}

function planUnusedNetworks({ app, mine, seen }: Context): Step[] {
  const used = new Set([
    ...app.services.flatMap((service) => networksOf(app.appId, service)),
    ...mine.flatMap(({ networks }) => networks),
  ]);
  return ownedBy(app.appId, seen.networks)
    .filter((name) => !used.has(name))
    .map((name) => networkStep('remove-network', app.appId, name));
}

/** It has ended, and is not to be started again. */
export function hasFinished(container: OwnedContainer, service: Service): boolean {
  if (container.state !== 'exited' || keepsRunning(service)) return false;
  const { name, maxRetries = 0 } = service.restart ?? {};
  if (name !== 'on-failure' || container.exitCode === 0) return true;
  return maxRetries > 0 && container.restarts >= maxRetries;
}

function isMet({ serviceName, condition }: Dependency, { app, currents }: Context): boolean {
  const current = currents.get(serviceName);
  const service = app.services.find((candidate) => candidate.serviceName === serviceName);
  if (!current || !service) return false;
  const finished = hasFinished(current, service);
  if (condition === 'service_completed_successfully') return finished && current.exitCode === 0;
  if (condition === 'service_healthy') return isUp(current) && current.health === 'healthy';
  return isUp(current) || finished;
}

/** Nothing can be done with a dead one but to remove it. */
function isKept(container: OwnedContainer, { kept }: Pick<WantedApp, 'kept'>): boolean {
  const { service, config, state, isRetired } = container;
  return state !== 'dead' && !isRetired && kept.has(keptName(service, config));
}

/** The next step for one that is in the way of its successor, or has none. */
function replaceStep(container: OwnedContainer, wanted: Pick<WantedApp, 'kept'>): Step[] {
  if (!isUp(container) || container.isRetired || isKept(container, wanted)) return endStep(container);
  return [{ kind: 'retire', key: keyOf(container), appId: container.appId, container }];
}

/** The next step on a container's way out. */
function endStep(container: OwnedContainer): Step[] {
  const { appId, state } = container;
  if (state === 'removing') return [];
  const kind = isUp(container) ? 'stop' : 'remove';
  return [{ kind, key: keyOf(container), appId, container }];
}

function keyOf({ appId, service }: OwnedContainer): string {
  return `${appId}/${service}`;
}

function networkStep(kind: 'create-network' | 'remove-network', appId: number, name: string): Step {
  return { kind, key: `${appId} network ${name}`, appId, name };
}

function ownedBy(appId: number, owners: ReadonlyMap<string, number | undefined>): string[] {
  return [...owners].flatMap(([name, owner]) => (owner === appId ? [name] : []));
}

/** One step for each key: the first. The others come when that is done. */
function uniqueByKey(steps: readonly Step[]): Step[] {
  const byKey = new Map<string, Step>();
  for (const step of steps) if (!byKey.has(step.key)) byKey.set(step.key, step);
  return [...byKey.values()];
}
