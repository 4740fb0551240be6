import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import type { BackoffOptions } from '../../delivery/backoff.ts';
import type { EngineApi } from '../../docker/api.ts';
import type { EngineSession } from '../../docker/watcher.ts';
import type { AppEngine } from '../engine/app-engine.ts';
import type { Observed } from '../engine/observed.ts';
import type { PulledImages } from '../images/pulled-images.ts';
import type { RegistryLogins } from '../images/registry-logins.ts';
import type { AppRecord, AppStore } from '../target/store.ts';
import { takeStep } from './executor.ts';
import { asStepError } from './failures.ts';
import { Holds } from './holds.ts';
import { type AppPlan, imagesOf, planApp, planRemoval, type WantedApp } from './plan.ts';
import { judge, type PatienceOptions, patienceMs, type Unwell } from './readiness.ts';
import { type Step, stepText } from './steps.ts';
import { releaseInPlace, wantedOf } from './wanted.ts';

export interface ReconcilerOptions {
  api: EngineApi;
  engine: AppEngine;
  store: AppStore;
  images: PulledImages;
  logins: RegistryLogins;
  patience: PatienceOptions;
  /** Waits between attempts at the same step. Default 1 s to 5 min. */
  retry?: BackoffOptions;
  log: Logger;
}

/** A step under way. */
export interface Flight {
  step: Step;
  /** Of a pull. */
  percent?: number;
  done: Promise<void>;
}

// Events tell of all that changes; this is for what they might have missed.
const checkMs = 60_000;
const saveRetryMs = 5_000;

/**
 * Drives the engine to what the store holds, step by step: look, plan, take what may be taken, look again whenever a
 * step is done, an event came, a time is up or something was asked for. Nothing of it has to survive this process.
 */
export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #holds: Holds;
  readonly #flights = new Map<string, Flight>();
  readonly #plans = new Map<number, { record: AppRecord; plan: AppPlan; error?: MillraceError }>();
  /** When all images of a pending release were there, by app. */
  readonly #prepared = new Map<number, { release: number; atMs: number }>();
  /** Keys of steps that were under way at some moment since the last look began: it may not show what they did. */
  #touched = new Set<string>();
  #session: EngineSession | undefined;
  #failure: string | undefined;
  #wake = Promise.withResolvers<void>();

  constructor(options: ReconcilerOptions) {
    this.#options = options;
    this.#holds = new Holds({ minMs: 1_000, maxMs: 300_000, ...options.retry });
  }

  /** Why the engine cannot be reached. */
  get failure(): string | undefined {
    return this.#failure;
  }

  connected(session: EngineSession): void {
    this.#session = session;
    this.#failure = undefined;
    this.wake();
  }

  disconnected(failure: string): void {
    this.#session = undefined;
    this.#failure = failure;
  }

  /** What is to be done for an app, as of the last look; `undefined` until there was one since its release changed. */
  planOf(record: AppRecord): AppPlan | undefined {
    const known = this.#plans.get(record.appId);
    return known && releaseInPlace(known.record) === releaseInPlace(record) ? known.plan : undefined;
  }

  /** Set for an app that a program which knew more has saved: it is left as it is. */
  unreadable(appId: number): MillraceError | undefined {
    return this.#plans.get(appId)?.error;
  }

  flight(key: string): Flight | undefined {
    return this.#flights.get(key);
  }

  error(step: Step): MillraceError | undefined {
    return this.#holds.error(step.key, stepText(step));
  }

  /** Something may have changed. */
  wake(): void {
    this.#wake.resolve();
  }

  /** An app was asked for anew: what failed before is tried at once. */
  refresh(appId: number): void {
    this.#holds.forget(appId);
    this.wake();
  }

  /** Goes on until the signal is aborted and every step under way has ended. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => this.wake(), { once: true });
    while (!signal.aborted) {
      this.#wake = Promise.withResolvers();
      const waitMs = await this.#pass(signal);
      const timer = setTimeout(() => this.wake(), Math.max(10, waitMs));
      await this.#wake.promise;
      clearTimeout(timer);
    }
    const flights = [...this.#flights.values()].map(({ done }) => done);
    await Promise.allSettled([...flights, this.#options.images.idle()]);
  }

  /** Takes a step that somebody asked for by hand, after the one of its key that may be under way. */
  async takeNow(step: Step): Promise<void> {
    for (let other = this.#flights.get(step.key); other; other = this.#flights.get(step.key))
      await other.done;
    const session = this.#session;
    if (!session) throw new MillraceError('ENGINE_UNREACHABLE', this.#failure ?? 'not asked yet');
    const error = await this.#fly(step, session);
    if (error) throw error;
  }

  /** @returns how long nothing is to be done, in ms, unless something happens */
  async #pass(signal: AbortSignal): Promise<number> {
    const session = this.#session;
    if (!session || signal.aborted) return checkMs;
    const wanted = this.#readWanted();
    const images = wanted.flatMap(({ app }) => (app instanceof MillraceError ? [] : imagesOf(app.app)));
    this.#touched = new Set(this.#flights.keys());
    let seen: Observed;
    try {
      seen = await this.#options.engine.observe(images, session.signal);
    } catch (error) {
      if (!session.signal.aborted) {
        this.#options.log.warn({ error: errorText(error) }, 'the engine cannot be looked at; trying again');
      }
      return 1_000;
    }
    let waitMs = checkMs;
    for (const { record, app } of wanted) {
      // Changed while we looked: the next pass is due already.
      if (this.#options.store.get(record.appId) !== record) continue;
      const steps = record.removing
        ? await this.#planRemoval(record, seen)
        : app instanceof MillraceError
          ? []
          : this.#planApp(record, app, seen);
      if (record.outcome !== 'done' && !record.removing && !(app instanceof MillraceError)) {
        waitMs = Math.min(waitMs, await this.#judge(record, app));
      }
      if (this.#options.store.get(record.appId) !== record) continue;
      for (const step of steps) waitMs = Math.min(waitMs, this.#take(step, session));
    }
    this.#options.images.sweep({
      isPulling: (image) => this.#isPulling(image),
      again: () => this.wake(),
      signal: session.signal,
    });
    return waitMs;
  }

  #isPulling(image: string): boolean {
    return [...this.#flights.values()].some(({ step }) => step.kind === 'pull' && step.image === image);
  }

  #readWanted(): { record: AppRecord; app: WantedApp | MillraceError }[] {
    return this.#options.store.apps.map((record) => {
      try {
        return { record, app: wantedOf(record) };
      } catch (error) {
        if (!(error instanceof MillraceError)) throw error;
        if (this.#plans.get(record.appId)?.record !== record) {
          const plan: AppPlan = { steps: [], services: [], isPrepared: false };
          this.#plans.set(record.appId, { record, plan, error });
          this.#options.log.error(
            { appId: record.appId, error: error.message },
            'an app cannot be understood',
          );
        }
        return { record, app: error };
      }
    });
  }

  #planApp(record: AppRecord, app: WantedApp, seen: Observed): Step[] {
    const plan = planApp(app, seen);
    this.#plans.set(record.appId, { record, plan });
    return plan.steps;
  }

  async #planRemoval(record: AppRecord, seen: Observed): Promise<Step[]> {
    const { appId, removing } = record;
    const steps = planRemoval(appId, removing?.volumes ?? false, seen);
    this.#plans.set(appId, { record, plan: { steps, services: [], isPrepared: true } });
    const isBusy = [...this.#touched].some((key) => Number.parseInt(key, 10) === appId);
    if (steps.length > 0 || isBusy) return steps;
    if (!(await this.#save(appId, (before) => (before === record ? undefined : before)))) return [];
    this.#plans.delete(appId);
    this.#options.log.info({ appId }, `App ${appId} is removed`);
    return [];
  }

  /** Decides about a release, if it can be told already. Gives the time until it can, in ms. */
  async #judge(record: AppRecord, app: WantedApp): Promise<number> {
    const { patience } = this.#options;
    const plan = this.planOf(record);
    if (!plan) return checkMs;
    const verdict = judge(plan.services, patience);
    if (verdict.is === 'ready') {
      // One that failed is well after all, and there was nothing to go back to.
      if (record.outcome === 'pending' || !record.good)
        return (await this.#succeeded(record)) ? 0 : saveRetryMs;
      return checkMs;
    }
    const inMs = verdict.is === 'undecided' ? (verdict.inMs ?? checkMs) : checkMs;
    if (record.outcome === 'failed') return inMs;
    if (!plan.isPrepared) return checkMs;
    const known = this.#prepared.get(record.appId);
    const sinceMs = known?.release === record.release ? known.atMs : performance.now();
    this.#prepared.set(record.appId, { release: record.release, atMs: sinceMs });
    const leftMs = sinceMs + patienceMs(app.app, patience) - performance.now();
    if (verdict.is === 'failed' || leftMs <= 0) {
      return (await this.#failed(record, verdict.why, plan)) ? 0 : saveRetryMs;
    }
    return Math.min(leftMs, inMs);
  }

  async #succeeded(record: AppRecord): Promise<boolean> {
    const { appId, release, app, releaseUuid } = record;
    const { error: _, ...rest } = record;
    const good = { release, app, ...(releaseUuid !== undefined && { releaseUuid }) };
    const done: AppRecord = { ...rest, outcome: 'done', good };
    if (!(await this.#save(appId, (before) => (before === record ? done : before)))) return false;
    this.#prepared.delete(appId);
    this.#options.log.info({ appId, release }, `App ${appId}: release ${release} is up`);
    return true;
  }

  async #failed(record: AppRecord, why: Unwell, plan: AppPlan): Promise<boolean> {
    const { appId, release, good } = record;
    const cause = plan.steps.map((step) => this.error(step)).find((error) => error !== undefined);
    const error = {
      code: cause?.code ?? 'SERVICE_UNWELL',
      detail: cause?.detail ?? `service ${why.serviceName} ${why.detail}`,
    };
    const failed: AppRecord = { ...record, outcome: 'failed', error };
    if (!(await this.#save(appId, (before) => (before === record ? failed : before)))) return false;
    this.#prepared.delete(appId);
    this.#holds.forget(appId);
    const then = good ? `going back to release ${good.release}` : 'there is no release to go back to';
    this.#options.log.error(
      { appId, release, service: why.serviceName },
      `App ${appId}: release ${release} failed: ${error.detail}; ${then}`,
    );
    return true;
  }

  async #save(
    appId: number,
    change: (before: AppRecord | undefined) => AppRecord | undefined,
  ): Promise<boolean> {
    try {
      await this.#options.store.update(appId, change);
      this.wake();
      return true;
    } catch (error) {
      // The next look comes to the same end.
      this.#options.log.error({ appId, error: errorText(error) }, 'the state of an app could not be saved');
      return false;
    }
  }

  #take(step: Step, session: EngineSession): number {
    if (this.#touched.has(step.key) || session.signal.aborted) return checkMs;
    const waitMs = this.#holds.waitMs(step.key, stepText(step));
    if (waitMs > 0) return waitMs;
    void this.#fly(step, session);
    return checkMs;
  }

  /** Never rejects. */
  #fly(step: Step, session: EngineSession): Promise<MillraceError | undefined> {
    const landed = Promise.withResolvers<void>();
    const flight: Flight = { step, done: landed.promise };
    this.#flights.set(step.key, flight);
    this.#touched.add(step.key);
    const onProgress = (percent: number) => {
      flight.percent = percent;
    };
    return takeStep(step, this.#options, onProgress, session.signal)
      .then(
        () => void this.#holds.taken(step.key, stepText(step)),
        (error: unknown) => this.#stepFailed(step, error, session),
      )
      .then((error) => error ?? undefined)
      .finally(() => {
        this.#flights.delete(step.key);
        landed.resolve();
        this.wake();
      });
  }

  #stepFailed(step: Step, cause: unknown, session: EngineSession): MillraceError {
    const error = asStepError(cause);
    // The connection went, not the step: it is taken again as soon as there is one.
    if (session.signal.aborted) return error;
    const waitMs = this.#holds.taken(step.key, stepText(step), error);
    const again = `trying again in ${Math.ceil(waitMs / 1000)} s`;
    this.#options.log.error({ appId: step.appId, code: error.code }, `${error.detail}; ${again}`);
    return error;
  }
}
