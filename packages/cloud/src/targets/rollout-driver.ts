import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import type { Presence } from '../identity/presence.ts';
import type { Records, RecordTables } from '../records/records.ts';
import type { RolloutRecord } from '../records/rollouts.ts';
import { allOf, progressOf } from './progress.ts';
import { nextStep, type RolloutDevice } from './rollout.ts';
import { appUuidOf } from './target-book.ts';

export interface RolloutDriverOptions {
  records: Records;
  presence: Presence;
  /** Called when targets of devices have changed. */
  onChange: () => void;
  log: Logger;
  /** Between two looks at the rollouts when nothing was heard. */
  tickMs?: number;
  now?: () => number;
}

/** After something was heard, so that many reports at once are looked at once. */
const gatherMs = 250;

/** Takes the steps of rollouts (see `rollout.ts`). Any number of processes may do so side by side. */
export class RolloutDriver implements AsyncDisposable {
  readonly #options: RolloutDriverOptions;
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #wake: () => void = () => undefined;
  #isAwake = false;
  #hasRollouts = false;
  #tookMs = 0;

  constructor(options: RolloutDriverOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** A rollout was begun. */
  begun(): void {
    this.#hasRollouts = true;
    this.#wakeUp();
  }

  /** A device has reported, or was put into a fleet: it may be one of a rollout. */
  heard(): void {
    if (this.#hasRollouts) this.#wakeUp();
  }

  #wakeUp(): void {
    this.#isAwake = true;
    this.#wake();
  }

  async #run(): Promise<void> {
    const { log, tickMs = 5000 } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      this.#isAwake = false;
      const startedMs = performance.now();
      try {
        await this.stepAll();
      } catch (error) {
        log.warn({ error: errorText(error) }, 'rollouts could not be looked at; trying again');
        await this.#pause(tickMs, false);
      }
      this.#tookMs = performance.now() - startedMs;
      await this.#pause(tickMs, true);
      // A large fleet must not keep the database busy with looking at it.
      await this.#pause(Math.max(gatherMs, 4 * this.#tookMs), false);
    }
  }

  #pause(ms: number, isUntilHeard: boolean): Promise<void> {
    const { signal } = this.#stopping;
    if (signal.aborted || (isUntilHeard && this.#isAwake)) return Promise.resolve();
    return new Promise((resolve) => {
      const go = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', go);
        this.#wake = () => undefined;
        resolve();
      };
      const timer = setTimeout(go, ms);
      signal.addEventListener('abort', go, { once: true });
      if (isUntilHeard) this.#wake = go;
    });
  }

  /** Takes the steps that are due of every rollout. */
  async stepAll(): Promise<void> {
    const fleets = await this.#options.records.rollouts.running();
    this.#hasRollouts = fleets.length > 0;
    for (const fleet of fleets) {
      while (!this.#stopping.signal.aborted && (await this.#step(fleet)));
    }
  }

  /** Returns whether anything has changed, from which more may follow. */
  async #step(fleet: string): Promise<boolean> {
    const { records, onChange, log, now = Date.now } = this.#options;
    const taken = await records.transaction(async (tables) => {
      await tables.targetChanges.lock();
      const rollout = (await tables.rollouts.ofFleet(fleet))?.rollout;
      if (rollout?.state !== 'running') return undefined;
      const nowMs = now();
      const devices = await this.#devicesOf(tables, rollout);
      const step = nextStep(rollout, devices, nowMs);
      if (step.changed.length === 0 && step.reach.length === 0 && !step.end) return undefined;
      await save(tables, { rollout, devices, step, nowMs });
      return { rollout, step };
    });
    if (!taken) return false;
    const { rollout, step } = taken;
    const about = { fleet, rollout: rollout.id };
    for (const { uuid, state, error } of step.changed) {
      log.info({ ...about, device: uuid, ...(error !== null && { error }) }, `rollout: a device is ${state}`);
    }
    if (step.reach.length > 0) {
      log.info({ ...about, batch: step.batchNo, devices: step.reach.length }, 'rollout: a batch was begun');
    }
    if (step.end?.state === 'stopped') log.warn({ ...about, reason: step.end.reason }, 'rollout: stopped');
    else if (step.end) log.info(about, 'rollout: done');
    if (step.reach.length > 0 || step.end) onChange();
    return !step.end;
  }

  async #devicesOf(tables: RecordTables, rollout: RolloutRecord): Promise<RolloutDevice[]> {
    const uuids = await tables.devices.inFleets([rollout.fleet]);
    const reached = new Map((await tables.rollouts.reached(rollout.fleet)).map((row) => [row.device, row]));
    const [reports, said, wanted] = [
      await tables.states.inShort(uuids),
      new Map((await tables.presence.list({ uuids })).map((state) => [state.uuid, state])),
      await wantedOfEach(tables, rollout.target, uuids),
    ];
    return uuids.map((uuid) => {
      const report = reports.get(uuid);
      const online = this.#options.presence.of(uuid, {
        said: said.get(uuid),
        reportedAtMs: report?.reportedAtMs,
      });
      const row = reached.get(uuid);
      return {
        uuid,
        isOnline: online?.online ?? false,
        ...(row?.rollout === rollout.id && { reached: row }),
        report: allOf((wanted.get(uuid) ?? []).map((release) => progressOf(report?.apps, release))),
      };
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }
}

/** The releases that each device is to have from the fleet's target: those of apps that it has no own release of. */
async function wantedOfEach(tables: RecordTables, target: number, uuids: readonly string[]) {
  const pointers = await tables.targets.pointers(uuids);
  const own = pointers.flatMap(({ own: id }) => id ?? []);
  const targets = await tables.targets.byIds([...new Set([target, ...own])]);
  const releases = await tables.releases.byIds([
    ...new Set([...targets.values()].flatMap((one) => one.releases)),
  ]);
  const of = (id: number | null) =>
    (id === null ? [] : (targets.get(id)?.releases ?? [])).flatMap((release) => releases.get(release) ?? []);
  const fleets = of(target).map(({ appId, uuid }) => ({
    appId,
    appUuid: appUuidOf(appId),
    releaseUuid: uuid,
  }));
  return new Map(
    pointers.map(({ uuid, own: id }) => {
      const overridden = new Set(of(id).map(({ appId }) => appId));
      return [uuid, fleets.filter(({ appId }) => !overridden.has(appId))];
    }),
  );
}

interface TakenStep {
  rollout: RolloutRecord;
  devices: readonly RolloutDevice[];
  step: ReturnType<typeof nextStep>;
  nowMs: number;
}

async function save(tables: RecordTables, { rollout, devices, step, nowMs }: TakenStep): Promise<void> {
  const { id, fleet, target } = rollout;
  const before = new Map(devices.map((device) => [device.uuid, device.reached]));
  await tables.rollouts.saveReached(fleet, [
    ...step.changed.map(({ uuid, state, error }) => ({
      ...{ device: uuid, target, rollout: id, state, error },
      batchNo: before.get(uuid)?.batchNo ?? 0,
      sinceMs: nowMs,
    })),
    ...step.reach.map((device) => ({
      ...{ device, target, rollout: id, batchNo: step.batchNo, sinceMs: nowMs },
      state: 'updating' as const,
      error: null,
    })),
  ]);
  const end = step.end && {
    state: step.end.state,
    endedAtMs: nowMs,
    reason: step.end.state === 'stopped' ? step.end.reason : null,
  };
  await tables.rollouts.change(id, { batchNo: step.batchNo, ...end });
  if (step.end?.state === 'done') {
    await tables.rollouts.settle(fleet, target);
    const later = devices.filter(({ reached }) => !reached).map(({ uuid }) => uuid);
    await tables.targetChanges.note([...later, ...step.reach]);
  } else await tables.targetChanges.note(step.reach);
}
