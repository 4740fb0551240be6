/** What the cloud's API answers about targets: what devices and fleets are to run. Times are ms since 1970, UTC. */

export interface ReleaseInfo {
  /** Counts the releases of the cloud. */
  id: number;
  uuid: string;
  createdAt: number;
  /** Name of the token that made it. */
  createdBy: string;
}

/** An app that is asked for. */
export interface WantedApp {
  appId: number;
  appName: string | null;
  release: ReleaseInfo;
  services: { serviceName: string; imageName: string }[];
  /** The app as it was given; for admins alone, since environments may hold secrets. */
  app?: unknown;
}

/**
 * How far a device is. `waiting`: it does not have the target yet, or has not come for it. `failed`: it went back to
 * the release before, gave up, or gave no result in time.
 */
export type DeploymentState = 'waiting' | 'updating' | 'done' | 'failed';

export interface AppProgress {
  appId: number;
  state: DeploymentState;
  /** As the device says it: `downloading`, `applying changes`, … */
  updateStatus: string | null;
  /** Why it failed, or what is in its way. */
  error: string | null;
  /** Of what is being downloaded, in percent. */
  downloadProgress: number | null;
  /** The release that runs, where that is another one. */
  runningRelease: string | null;
}

/** What a device is to run, and how far it is. */
export interface DeviceTargetInfo {
  device: string;
  /** `null` without a target. */
  version: string | null;
  apps: (WantedApp & Omit<AppProgress, 'appId'> & { source: 'fleet' | 'device' })[];
  online: boolean | null;
  /** When it last reported. */
  reportedAt: number | null;
}

export interface RolloutInfo {
  id: number;
  /** `stopped`: more devices failed than may. `replaced`: another one was begun before it had ended. */
  state: 'running' | 'done' | 'stopped' | 'replaced';
  /** Why it was stopped. */
  reason: string | null;
  /** `5` devices or `25%` of them. */
  batch: string;
  maxFailures: number;
  patienceMinutes: number;
  /** The batch that is under way, from 1. */
  batchNo: number;
  startedAt: number;
  endedAt: number | null;
  startedBy: string;
  devices: Record<DeploymentState, number>;
}

export interface FleetDeviceProgress {
  uuid: string;
  name: string | null;
  online: boolean | null;
  state: DeploymentState;
  /** When the rollout reached it, or it came to its result. */
  since: number | null;
  error: string | null;
  reportedAt: number | null;
  apps: AppProgress[];
}

/** What a fleet is to run, and how far its devices are. */
export interface FleetTargetInfo {
  fleet: string;
  apps: WantedApp[];
  /** `null` without a target. */
  rollout: RolloutInfo | null;
  /** By uuid, in pages. */
  devices: FleetDeviceProgress[];
  cursor?: string;
}

/** What a request changes, or would change. */
export interface AppChange {
  appId: number;
  appName: string | null;
  change: 'added' | 'changed' | 'retried' | 'same' | 'removed';
}

/** An earlier target. */
export interface TargetHistoryEntry {
  id: number;
  createdAt: number;
  createdBy: string;
  apps: WantedApp[];
}
