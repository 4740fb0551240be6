import type { DeploymentState, DeviceTargetInfo, FleetTargetInfo } from '@millrace/wire';

/** How it ended. */
export interface Outcome {
  isGood: boolean;
  text: string;
}

/** What there is to show at a moment. */
export interface ProgressSeen {
  /** An app of a device, or a device of a fleet. */
  rows: { name: string; state: DeploymentState; detail: string }[];
  summary: string;
  /** Set when it is through. */
  outcome?: Outcome;
}

/** Of a device: those of its apps that were deployed. */
export function progressOfDevice(target: DeviceTargetInfo, deployed: ReadonlySet<number>): ProgressSeen {
  const apps = target.apps.filter(({ appId }) => deployed.has(appId));
  const rows = apps.map((app) => {
    const percent = app.downloadProgress === null ? '' : ` ${app.downloadProgress} %`;
    const status = app.updateStatus === null ? '' : `${app.updateStatus}${percent}`;
    const waiting = target.online === false ? 'the device is offline' : 'the device has not come for it yet';
    const detail = app.error ?? (app.state === 'waiting' ? waiting : app.state === 'done' ? '' : status);
    return { name: app.appName ?? String(app.appId), state: app.state, detail };
  });
  const failed = rows.filter(({ state }) => state === 'failed');
  const isDone = rows.every(({ state }) => state === 'done');
  const summary = `${rows.filter(({ state }) => state === 'done').length} of ${rows.length} apps done`;
  const [first] = failed;
  const outcome: Outcome | undefined = first
    ? { isGood: false, text: `failed: ${first.name}: ${first.detail}` }
    : isDone
      ? { isGood: true, text: 'done' }
      : undefined;
  return { rows, summary, ...(outcome && { outcome }) };
}

export function progressOfFleet({ apps, rollout, devices }: FleetTargetInfo): ProgressSeen {
  if (!rollout) {
    return { rows: [], summary: '', outcome: { isGood: false, text: 'the target was taken back meanwhile' } };
  }
  const rows = devices.map((device) => {
    const [busy] = device.apps.filter(({ state }) => state === 'updating');
    const percent = busy?.downloadProgress == null ? '' : ` ${busy.downloadProgress} %`;
    const status = busy?.updateStatus == null ? '' : `${busy.updateStatus}${percent}`;
    const offline = device.online ? '' : 'offline';
    // Apps that a device has for itself stand over those of its fleet.
    const own = device.apps.length < apps.length ? 'has apps of its own' : '';
    const detail = device.error ?? (device.state === 'done' ? own : status || offline);
    return { name: device.name ?? device.uuid, state: device.state, detail };
  });
  const { waiting, updating, done, failed } = rollout.devices;
  const total = waiting + updating + done + failed;
  const counts = [
    `${done} of ${total} devices done`,
    ...(updating > 0 ? [`${updating} updating`] : []),
    ...(waiting > 0 ? [`${waiting} waiting`] : []),
    ...(failed > 0 ? [`${failed} failed`] : []),
  ].join(', ');
  const summary = `batch ${rollout.batchNo}: ${counts}`;
  switch (rollout.state) {
    case 'running':
      return { rows, summary };
    case 'done':
      return { rows, summary, outcome: { isGood: true, text: `done: ${counts}` } };
    case 'stopped':
      return { rows, summary, outcome: { isGood: false, text: `stopped: ${rollout.reason}` } };
    case 'replaced':
      return { rows, summary, outcome: { isGood: false, text: 'another deployment has taken its place' } };
  }
}
