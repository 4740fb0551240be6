/*
 * A rollout brings a target to the devices of a fleet, batch by batch.
 *
 *   running ── every device that is online has it, one at least is done ──► done: offline devices get it as they come
 *      ├────── more devices than `maxFailures` failed ──────────────────► stopped, with the reason
 *      └────── another target is given to the fleet, or none ───────────► replaced
 *
 *   a device:  waiting ── reached with a batch ──► updating ──► done
 *                                                     ├── it says so (rejected, aborted) ──► failed
 *                                                     └── no result for `patienceMs` ──────► failed, or done after all
 *
 * - Only devices that are online are reached. One that comes online joins the batch that is under way if there is room
 *   in it, or a later one; when the rollout is through, it gets the target without any batch. An offline device thus
 *   never holds up the others. As long as nobody was there to try it, the rollout waits.
 * - The next batch begins when no device of the one before is updating any more. A device that falls silent after it
 *   was reached counts as failed when its time is up, since a release that cuts devices off is the worst kind.
 * - When it is stopped, nothing is taken back: devices go back by themselves, and those not reached keep what they have.
 *
 * All of it is in the records. A step is one transaction under the one lock of `target_clock`: it reads how everything
 * is and writes what follows. So it does not matter which process takes it, or which was ended in between.
 */

export interface Rollout {
  batch: string;
  maxFailures: number;
  patienceMs: number;
  batchNo: number;
}

export interface RolloutDevice {
  uuid: string;
  isOnline: boolean;
  /** Set once this rollout has reached it. */
  reached?: DeviceProgress & { batchNo: number; sinceMs: number };
  /** What it reports of the target. */
  report: { state: 'pending' | 'updating' | 'done' | 'failed'; error?: string };
}

export interface DeviceProgress {
  state: 'updating' | 'done' | 'failed';
  error: string | null;
}

export interface RolloutStep {
  batchNo: number;
  /** Devices that are in another state now. */
  changed: (DeviceProgress & { uuid: string })[];
  /** Devices that get the target now, with `batchNo`. */
  reach: string[];
  end?: { state: 'done' } | { state: 'stopped'; reason: string };
}

/** What follows from how things are. */
export function nextStep(rollout: Rollout, devices: readonly RolloutDevice[], nowMs: number): RolloutStep {
  const now = new Map<string, DeviceProgress>();
  const changed: RolloutStep['changed'] = [];
  for (const { uuid, reached, report } of devices) {
    if (!reached) continue;
    const progress = progressNow(reached, report, nowMs - reached.sinceMs > rollout.patienceMs, rollout);
    now.set(uuid, progress);
    if (progress.state !== reached.state || progress.error !== reached.error)
      changed.push({ uuid, ...progress });
  }
  const count = (state: DeviceProgress['state']) =>
    [...now.values()].filter((progress) => progress.state === state).length;
  const failed = count('failed');
  const step = { batchNo: rollout.batchNo, changed, reach: [] };
  if (failed > rollout.maxFailures)
    return { ...step, end: { state: 'stopped', reason: reasonOf(rollout, now) } };

  const isUpdating = count('updating') > 0;
  const waiting = devices.filter(({ reached, isOnline }) => !reached && isOnline).map(({ uuid }) => uuid);
  if (waiting.length === 0) {
    if (isUpdating) return step;
    if (devices.length === 0 || count('done') > 0) return { ...step, end: { state: 'done' } };
    if (failed === 0) return step;
    return { ...step, end: { state: 'stopped', reason: reasonOf(rollout, now) } };
  }
  const batchNo = isUpdating ? rollout.batchNo : rollout.batchNo + 1;
  const inBatch = devices.filter(({ reached }) => reached?.batchNo === batchNo).length;
  const room = Math.max(0, batchSize(rollout.batch, devices.length) - inBatch);
  return { ...step, batchNo: room > 0 ? batchNo : rollout.batchNo, reach: waiting.sort().slice(0, room) };
}

function progressNow(
  before: DeviceProgress,
  report: RolloutDevice['report'],
  isLate: boolean,
  { patienceMs }: Rollout,
): DeviceProgress {
  if (report.state === 'done') return { state: 'done', error: null };
  if (report.state === 'failed')
    return { state: 'failed', error: report.error ?? 'the device gives no reason' };
  if (before.state === 'updating' && isLate) {
    const minutes = Math.round(patienceMs / 60_000);
    const why = report.error === undefined ? '' : `: ${report.error}`;
    return { state: 'failed', error: `no result after ${minutes} min${why}` };
  }
  return { state: before.state, error: before.error };
}

function reasonOf({ maxFailures }: Rollout, now: ReadonlyMap<string, DeviceProgress>): string {
  const failed = [...now].filter(([, { state }]) => state === 'failed');
  const [first] = failed;
  const what = failed.length === 1 ? '1 device failed' : `${failed.length} devices failed`;
  const limit = failed.length > maxFailures ? `, and at most ${maxFailures} may` : ' and none is done';
  return `${what}${limit}; ${first?.[0]}: ${first?.[1].error}`;
}

/** Devices in a batch, of so many in all; one at least. */
export function batchSize(batch: string, devices: number): number {
  const number = Number.parseInt(batch, 10);
  return Math.max(1, batch.endsWith('%') ? Math.ceil((devices * number) / 100) : number);
}
