import type { LogMessage } from './message.ts';

/**
 * State reports, in the shape of balena's v3 device API: `PATCH /device/v3/state` with `{"<uuid>": DeviceState}`.
 * https://github.com/balena-os/balena-supervisor/blob/master/src/types/state.ts
 *
 * A report holds what has changed: a key that is left out is as it was, one that is null is gone. `apps` is always
 * whole.
 */
export interface DeviceState extends DeviceMetrics {
  name?: string | null;
  status?: string | null;
  is_online?: boolean | null;
  os_version?: string | null;
  os_variant?: string | null;
  supervisor_version?: string | null;
  /** Version of the Millrace agent. */
  agent_version?: string | null;
  architecture?: string | null;
  /** Addresses, separated by blanks. */
  ip_address?: string | null;
  mac_address?: string | null;
  cpu_id?: string | null;
  storage_block_device?: string | null;
  apps?: Record<string, AppState> | null;
}

/** What is measured, and changes all the time. */
export interface DeviceMetrics {
  /** Percent of all cores. */
  cpu_usage?: number | null;
  /** Degrees Celsius. */
  cpu_temp?: number | null;
  /** MB, as all sizes here. */
  memory_usage?: number | null;
  memory_total?: number | null;
  storage_usage?: number | null;
  storage_total?: number | null;
  is_undervolted?: boolean | null;
  /** Seconds since the start of the operating system. */
  uptime?: number | null;
}

/** An app, by its id. */
export interface AppState {
  name?: string;
  /** The release that runs, or is being brought up: a uuid of the cloud's (apps/target.ts), or a number of the device's. */
  release_uuid?: string;
  releases: Record<string, ReleaseState>;
}

export interface ReleaseState {
  /** `downloading`, `downloaded`, `applying changes`, `done`, `rejected` or `aborted`. */
  update_status?: string;
  /** Why it was rejected or aborted, for people. */
  error?: string;
  services: Record<string, ServiceState>;
}

export interface ServiceState {
  image: string;
  /** `Downloading`, `Downloaded`, `Installing`, `Running`, `Stopped`, … */
  status: string;
  /** Percent; null when nothing is being downloaded. */
  download_progress?: number | null;
  /** What is wrong with it, for people. */
  error?: string;
}

/** A report: what changed, and, where nothing but this call is allowed, the newest lines as well. */
export interface DeviceStateReport extends DeviceState {
  recent_logs?: readonly LogMessage[];
}

export const metricKeys = [
  'cpu_usage',
  'cpu_temp',
  'memory_usage',
  'memory_total',
  'storage_usage',
  'storage_total',
  'is_undervolted',
  'uptime',
] as const satisfies readonly (keyof DeviceMetrics)[];

/** Path of the call; `balenaStatePath` is the same under balena's name. */
export const statePath = '/api/v3/device/state';
export const balenaStatePath = '/device/v3/state';

/** Most lines of `recent_logs`. */
export const maxRecentLogs = 1000;
