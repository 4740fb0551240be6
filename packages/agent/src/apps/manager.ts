import { errorText, MillraceError } from '@millrace/wire';
import { type App, type AppRelease, keepsRunning, type UnreadableRelease } from '@millrace/wire/apps';
import type { Logger } from 'pino';
import type { BackoffOptions } from '../delivery/backoff.ts';
import { EngineApi } from '../docker/api.ts';
import type { Docker } from '../docker/engine.ts';
import { type ContainerAction, type ContainerEvent, watchEngine } from '../docker/watcher.ts';
import { AppEngine } from './engine/app-engine.ts';
import { type ContainerLabels, readLabels } from './engine/labels.ts';
import { PulledImages } from './images/pulled-images.ts';
import { RegistryLogins } from './images/registry-logins.ts';
import type { ServicePlan } from './reconcile/plan.ts';
import type { PatienceOptions } from './reconcile/readiness.ts';
import { Reconciler } from './reconcile/reconciler.ts';
import { type AppView, viewOf } from './reconcile/view.ts';
import { applyTarget } from './remote/apply-target.ts';
import { isSameApp, nextRelease } from './target/releases.ts';
import type { AppRecord, AppStore, StoredApps } from './target/store.ts';

export interface AppManagerOptions {
  docker: Docker;
  store: AppStore;
  /** What the containers of this agent are marked with. */
  owner: string;
  patience: PatienceOptions;
  /** A cloud says what its apps are: nobody else changes them. */
  isFollowing?: boolean;
  /** Images that nothing needs any more stay. Default: those that the agent has pulled are removed. */
  keepImages?: boolean;
  /** File with logins at registries, see {@link RegistryLogins}. */
  registryAuthFile?: string | undefined;
  retry?: BackoffOptions;
  log: Logger;
}

const actions: readonly ContainerAction[] = ['start', 'die', 'destroy', 'oom', 'health_status'];
const answerTimeoutMs = 10_000;
const heartbeatMs = 15_000;
const maxApps = 100;

/** Runs the apps that the store holds, and changes what it holds. Watches the engine while there are any. */
export class AppManager implements AsyncDisposable {
  readonly #options: AppManagerOptions;
  readonly #api: EngineApi;
  readonly #reconciler: Reconciler;
  readonly #stopping = new AbortController();
  #running: Promise<unknown> | undefined;

  constructor(options: AppManagerOptions) {
    this.#options = options;
    this.#api = new EngineApi({ docker: options.docker, answerTimeoutMs });
    const engine = new AppEngine({ api: this.#api, owner: options.owner });
    const { store, log, keepImages: keep = false } = options;
    this.#reconciler = new Reconciler({
      ...options,
      ...{ api: this.#api, engine },
      images: new PulledImages({ engine, store, keep, log }),
      logins: new RegistryLogins(options.registryAuthFile),
    });
    if (store.apps.length > 0 || store.pulled.length > 0) this.#watch();
  }

  list(): AppView[] {
    return this.#options.store.apps.map((record) => viewOf(record, this.#reconciler));
  }

  /** @throws MillraceError `NOT_FOUND` */
  get(appId: number): AppView & { target: unknown } {
    const record = this.#record(appId);
    return { ...viewOf(record, this.#reconciler), target: record.app };
  }

  /**
   * Asks for an app. The same as it is already changes nothing, unless `retry` says to try a failed release again.
   *
   * @param given what `app` was read from
   * @throws MillraceError `APP_INVALID`, `APP_OF_CLOUD`, `APPS_NOT_SAVED`
   */
  async deploy(
    given: unknown,
    app: App,
    { retry = false } = {},
  ): Promise<{ isChanged: boolean; view: AppView }> {
    const { appId } = app;
    let isChanged = false;
    const record = await this.#changeHere(appId, (before, { apps }) => {
      if (!before && apps.size >= maxApps) {
        throw new MillraceError('APP_INVALID', `there are ${maxApps} apps already`);
      }
      if (before && isSameApp(before, app) && !(retry && before.outcome === 'failed')) return before;
      isChanged = true;
      return nextRelease(before, { appId, given });
    });
    if (isChanged) this.#asked(appId);
    return { isChanged, view: viewOf(record, this.#reconciler) };
  }

  /**
   * Takes over a target of the cloud, as a whole.
   *
   * @throws MillraceError `APPS_NOT_SAVED`, and then nothing has changed
   */
  async follow(version: string, releases: readonly (AppRelease | UnreadableRelease)[]): Promise<void> {
    const { store, log } = this.#options;
    let changed: number[] = [];
    const { cloud } = await store.updateAll((before) => {
      const applied = applyTarget(before, version, releases, maxApps);
      changed = applied.changed;
      return applied.stored;
    });
    log.info({ version, apps: releases.length }, `The cloud's target ${version} is taken over`);
    for (const { appId, error } of cloud?.refused ?? []) {
      log.error(
        { appId, version, code: error.code },
        `App ${appId} of the target is refused: ${error.detail}`,
      );
    }
    for (const appId of changed) this.#asked(appId);
  }

  /** Of the target that was taken over last: its version, and what of it could not be read. */
  get cloud(): StoredApps['cloud'] {
    return this.#options.store.cloud;
  }

  /** Stops and removes all of an app; its volumes only if asked. */
  async remove(appId: number, { volumes }: { volumes: boolean }): Promise<AppView> {
    const record = await this.#changeHere(appId, (before) => ({
      ...(before ?? this.#record(appId)),
      removing: { volumes },
    }));
    this.#asked(appId);
    return viewOf(record, this.#reconciler);
  }

  /** Services that are stopped stay so, over restarts and reboots, until they are started or another release comes. */
  async stop(appId: number, serviceName?: string): Promise<AppView> {
    const names = this.#services(appId, serviceName);
    return this.#setStopped(appId, (stopped) => new Set([...stopped, ...names]));
  }

  /** One that has done its work runs once more. */
  async start(appId: number, serviceName?: string): Promise<AppView> {
    const names = this.#services(appId, serviceName);
    const view = await this.#setStopped(appId, (stopped) => new Set(stopped).difference(new Set(names)));
    await this.#take(
      'start',
      appId,
      names,
      ({ phase, service }) => (phase === 'exited' || phase === 'stopped') && !keepsRunning(service),
    );
    return view;
  }

  /** Resolves when they are started again. */
  async restart(appId: number, serviceName?: string): Promise<AppView> {
    const names = this.#services(appId, serviceName);
    await this.#take('restart', appId, names, ({ phase }) =>
      ['running', 'restarting', 'exited'].includes(phase),
    );
    return viewOf(this.#record(appId), this.#reconciler);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  /**
   * Changes what an app shall be because somebody here says so. A target of the cloud that is no longer followed is not
   * in force any more then: should it be again, it is taken over anew.
   */
  async #changeHere(
    appId: number,
    change: (before: AppRecord | undefined, stored: StoredApps) => AppRecord,
  ): Promise<AppRecord> {
    const { store, isFollowing = false } = this.#options;
    let record: AppRecord | undefined;
    await store.updateAll((stored) => {
      const before = stored.apps.get(appId);
      const isClouds = before?.releaseUuid !== undefined;
      if (isClouds && isFollowing) {
        throw new MillraceError('APP_OF_CLOUD', `app ${appId} was deployed from the cloud`);
      }
      record = change(before, stored);
      if (record === before) return stored;
      const apps = new Map(stored.apps).set(appId, record);
      return { ...stored, apps, ...(isClouds && { cloud: undefined }) };
    });
    return record as AppRecord;
  }

  /** Says what was asked for of an app, and begins. */
  #asked(appId: number): void {
    const { store, log } = this.#options;
    const record = store.get(appId);
    if (record?.removing) log.info({ appId, ...record.removing }, `App ${appId} is to be removed`);
    else if (record?.outcome === 'pending') {
      const { release } = record;
      log.info({ appId, release }, `App ${appId}: release ${release} is to be deployed`);
    }
    this.#changed(appId);
  }

  #record(appId: number): AppRecord {
    const record = this.#options.store.get(appId);
    if (!record) throw new MillraceError('NOT_FOUND', `there is no app ${appId}`);
    return record;
  }

  #services(appId: number, serviceName: string | undefined): string[] {
    const all = viewOf(this.#record(appId), this.#reconciler).services.map((service) => service.serviceName);
    if (serviceName === undefined) return all;
    if (all.includes(serviceName)) return [serviceName];
    throw new MillraceError('NOT_FOUND', `app ${appId} has no service ${serviceName}`);
  }

  async #setStopped(appId: number, change: (stopped: readonly string[]) => Set<string>): Promise<AppView> {
    const record = await this.#options.store.update(appId, (before) => {
      if (!before || before.removing)
        throw new MillraceError('NOT_FOUND', `there is no app ${appId} any more`);
      const stopped = [...change(before.stopped)].sort();
      return stopped.join() === before.stopped.join() ? before : { ...before, stopped };
    });
    this.#changed(appId);
    return viewOf(record as AppRecord, this.#reconciler);
  }

  async #take(
    kind: 'start' | 'restart',
    appId: number,
    names: readonly string[],
    isMeant: (service: ServicePlan) => boolean,
  ): Promise<void> {
    const plan = this.#reconciler.planOf(this.#record(appId));
    const meant = plan?.services.filter(
      (service) => names.includes(service.service.serviceName) && isMeant(service),
    );
    await Promise.all(
      (meant ?? []).map(async ({ current, service }) => {
        const key = `${appId}/${service.serviceName}`;
        if (current) await this.#reconciler.takeNow({ kind, key, appId, container: current });
      }),
    );
  }

  #changed(appId: number): void {
    this.#reconciler.refresh(appId);
    if (!this.#running) this.#watch();
  }

  #watch(): void {
    const { log } = this.#options;
    const { signal } = this.#stopping;
    const watching = watchEngine(
      {
        api: this.#api,
        retry: { minMs: 500, maxMs: 30_000 },
        heartbeatMs,
        actions,
        onConnected: (_containers, session) => {
          this.#reconciler.connected(session);
        },
        onEvent: (event) => this.#handle(event),
        onFailed: (error) => {
          const reason = errorText(error);
          if (reason !== this.#reconciler.failure) {
            log.warn({ error: reason }, 'the apps wait for the Docker engine');
          }
          this.#reconciler.disconnected(reason);
        },
        log,
      },
      signal,
    );
    this.#running = Promise.all([watching, this.#reconciler.run(signal)]);
  }

  #handle({ action, container }: ContainerEvent): void {
    const labels = readLabels(container.labels, container.name, this.#options.owner);
    if (!labels) return;
    if (action === 'oom') this.#ranOutOfMemory(labels);
    if (action === 'die') this.#died(labels, container.id, Number(container.labels.exitCode));
    this.#reconciler.wake();
  }

  /** Which of its processes was killed for it nobody says: its first, and then it ends, or another. */
  #ranOutOfMemory({ appId, service }: ContainerLabels): void {
    this.#options.log.error({ appId, service }, `Service ${service} ran out of memory: a process was killed`);
  }

  #died({ appId, service }: ContainerLabels, id: string, exitCode: number): void {
    const step = this.#reconciler.flight(`${appId}/${service}`)?.step;
    const isOurs = (step?.kind === 'stop' || step?.kind === 'restart') && step.container.id === id;
    const text = `Service ${service} ${isOurs ? 'stopped' : 'exited'} with code ${exitCode}`;
    const level = exitCode === 0 || isOurs ? 'info' : 'warn';
    this.#options.log[level]({ appId, service, exitCode }, text);
  }
}
