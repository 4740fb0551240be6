import type {
  AppProgress,
  DeploymentState,
  DeviceTargetInfo,
  FleetDeviceProgress,
  FleetTargetInfo,
  RolloutInfo,
  WantedApp,
} from '@millrace/wire';
import type { Presence } from '../identity/presence.ts';
import type { Records, RecordTables } from '../records/records.ts';
import type { ReleaseRecord } from '../records/releases.ts';
import type { ReachedDevice, RolloutRecord } from '../records/rollouts.ts';
import { allOf, type Progress, progressOf } from './progress.ts';
import { appUuidOf, type DeviceTargetNow, type TargetBook, targetsNow } from './target-book.ts';

export interface ViewParts {
  records: Records;
  presence: Presence;
  targets: TargetBook;
}

/** What a device is to run, and how far it is with it. */
export async function deviceTargetInfo(
  { records, presence, targets }: ViewParts,
  uuid: string,
  withApps: boolean,
): Promise<DeviceTargetInfo> {
  const [now, versions, online] = await Promise.all([
    targetsNow(records, [uuid]),
    targets.versions([uuid]),
    onlineOf(records, presence, [uuid]),
  ]);
  const { reportedAt = null, apps, online: isOnline = null } = online.get(uuid) ?? {};
  return {
    device: uuid,
    version: versions.get(uuid) ?? null,
    apps: (now.get(uuid)?.releases ?? []).map(({ release, source }) => {
      const { appId: _, ...progress } = shownProgress(release.appId, progressOf(apps, wantedOf(release)));
      return { ...wantedApp(release, withApps), source, ...progress };
    }),
    online: isOnline,
    reportedAt,
  };
}

/** What a fleet is to run; of its devices those behind a uuid, at most so many. */
export async function fleetTargetInfo(
  { records, presence }: ViewParts,
  fleet: string,
  { after, limit, withApps }: { after?: string; limit: number; withApps: boolean },
): Promise<FleetTargetInfo> {
  const target = await records.rollouts.ofFleet(fleet);
  if (!target) return { fleet, apps: [], rollout: null, devices: [] };
  const { rollout } = target;
  const rows = await records.devices.list({ fleet });
  const uuids = rows.map(({ uuid }) => uuid);
  const [online, now, reachedRows, releases] = await Promise.all([
    onlineOf(records, presence, uuids),
    targetsNow(records, uuids),
    records.rollouts.reached(fleet),
    releasesOfTarget(records, rollout.target),
  ]);
  const reached = new Map(reachedRows.map((row) => [row.device, row]));
  const devices = rows.map(({ uuid, name }): FleetDeviceProgress => {
    const known = online.get(uuid);
    const own = { reached: reached.get(uuid), now: now.get(uuid), apps: known?.apps };
    return {
      uuid,
      name,
      online: known?.online ?? null,
      ...deploymentOf(own, rollout),
      reportedAt: known?.reportedAt ?? null,
    };
  });
  const shown = devices.filter(
    ({ uuid }) => after === undefined || Buffer.from(uuid).compare(Buffer.from(after)) > 0,
  );
  return {
    fleet,
    apps: releases.map((release) => wantedApp(release, withApps)),
    rollout: rolloutInfo(rollout, devices),
    devices: shown.slice(0, limit),
  };
}

interface OneDevice {
  reached: ReachedDevice | undefined;
  now: DeviceTargetNow | undefined;
  apps: Parameters<typeof progressOf>[0];
}

function deploymentOf(
  { reached, now, apps }: OneDevice,
  rollout: RolloutRecord,
): Pick<FleetDeviceProgress, 'state' | 'since' | 'error' | 'apps'> {
  const wanted = (now?.releases ?? []).filter(({ source }) => source === 'fleet');
  const progress = wanted.map(({ release }) => ({
    appId: release.appId,
    ...progressOf(apps, wantedOf(release)),
  }));
  const shown = progress.map(({ appId, ...rest }) => shownProgress(appId, rest));
  if (now?.ofFleet !== rollout.target) return { state: 'waiting', since: null, error: null, apps: shown };
  const whole = allOf(progress);
  const own = reached?.rollout === rollout.id ? reached : undefined;
  const isGivenUp = own?.state === 'failed' && whole.state !== 'done';
  const state: DeploymentState = isGivenUp
    ? 'failed'
    : whole.state === 'pending'
      ? own
        ? 'updating'
        : 'waiting'
      : whole.state;
  return {
    state,
    since: own?.sinceMs ?? null,
    error: whole.error ?? (isGivenUp ? own.error : null),
    apps: shown,
  };
}

function rolloutInfo(rollout: RolloutRecord, devices: readonly FleetDeviceProgress[]): RolloutInfo {
  const { id, state, reason, batch, maxFailures, patienceMs, batchNo, startedBy } = rollout;
  const count = (wanted: DeploymentState) => devices.filter((device) => device.state === wanted).length;
  return {
    ...{ id, state, reason, batch, maxFailures, batchNo, startedBy },
    patienceMinutes: Math.round(patienceMs / 60_000),
    startedAt: rollout.startedAtMs,
    endedAt: rollout.endedAtMs,
    devices: {
      waiting: count('waiting'),
      updating: count('updating'),
      done: count('done'),
      failed: count('failed'),
    },
  };
}

/** An app that is asked for; whole only for those who may see what is in it. */
export function wantedApp(release: ReleaseRecord, withApp: boolean): WantedApp {
  const given = JSON.parse(release.given) as {
    appName?: string;
    services: { serviceName: string; imageName: string }[];
  };
  return {
    appId: release.appId,
    appName: given.appName ?? null,
    release: {
      id: release.id,
      uuid: release.uuid,
      createdAt: release.createdAtMs,
      createdBy: release.createdBy,
    },
    services: given.services.map(({ serviceName, imageName }) => ({ serviceName, imageName })),
    ...(withApp && { app: given }),
  };
}

async function releasesOfTarget(records: RecordTables, id: number): Promise<ReleaseRecord[]> {
  const target = (await records.targets.byIds([id])).get(id);
  const releases = await records.releases.byIds(target?.releases ?? []);
  return (target?.releases ?? []).flatMap((release) => releases.get(release) ?? []);
}

async function onlineOf(records: Records, presence: Presence, uuids: readonly string[]) {
  const [reports, said] = await Promise.all([
    records.states.inShort(uuids),
    records.presence.list({ uuids }),
  ]);
  const saidOf = new Map(said.map((state) => [state.uuid, state]));
  return new Map(
    uuids.map((uuid) => {
      const report = reports.get(uuid);
      const known = presence.of(uuid, { said: saidOf.get(uuid), reportedAtMs: report?.reportedAtMs });
      return [
        uuid,
        { online: known?.online ?? null, reportedAt: report?.reportedAtMs ?? null, apps: report?.apps },
      ];
    }),
  );
}

function wantedOf({ appId, uuid }: ReleaseRecord) {
  return { appId, appUuid: appUuidOf(appId), releaseUuid: uuid };
}

function shownProgress(appId: number, progress: Progress): AppProgress {
  return {
    appId,
    state: progress.state === 'pending' ? 'waiting' : progress.state,
    updateStatus: progress.updateStatus ?? null,
    error: progress.error ?? null,
    downloadProgress: progress.downloadProgress ?? null,
    runningRelease: progress.runningRelease ?? null,
  };
}
