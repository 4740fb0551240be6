import type {
  AppChange,
  DeviceTargetInfo,
  FleetDeviceProgress,
  FleetTargetInfo,
  TargetHistoryEntry,
} from '@millrace/wire';
import type { TargetDocument } from '@millrace/wire/apps';
import type { Connection } from './connection.ts';
import { parameters } from './queries.ts';
import { pagesOf } from './records.ts';

interface Signalled {
  signal?: AbortSignal;
}

/** Apps as an agent's app API takes them (`appName` may stand in for `appId`), or a compose file, which is one app. */
export interface Deployment {
  apps?: readonly unknown[];
  compose?: string;
  /** With `compose`: name or id of the app, where the file has no `name`. */
  app?: string;
  /** The devices try again what failed, though nothing differs. */
  retry?: boolean;
  /** Only say what would change. */
  dryRun?: boolean;
}

export interface FleetDeployment extends Deployment {
  /** How many devices at once: a number, or a share such as `25%`. Default: all. */
  batch?: number | string;
  /** The rollout stops when more devices than these have failed. Default: 0. */
  maxFailures?: number;
  /** A device that has given no result after this time counts as failed. Default: 30. */
  patienceMinutes?: number;
}

export interface Deployed {
  changed: boolean;
  dryRun: boolean;
  changes: AppChange[];
}

/** `merge`: other apps that are there stay. `replace`: they are removed. */
type Mode = 'merge' | 'replace';

/** What devices and fleets are to run. */
export class Targets {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  ofDevice(uuid: string, { signal }: Signalled = {}): Promise<DeviceTargetInfo> {
    return this.#connection.json(deviceAt(uuid), { signal });
  }

  /** A page of the fleet's devices comes along. */
  ofFleet(
    name: string,
    query: { limit?: number; cursor?: string } = {},
    { signal }: Signalled = {},
  ): Promise<FleetTargetInfo> {
    return this.#connection.json(`${fleetAt(name)}${parameters(query)}`, { signal });
  }

  /** How far each device of a fleet is. */
  devicesOf(name: string, { signal }: Signalled = {}): AsyncGenerator<FleetDeviceProgress> {
    return pagesOf(this.#connection, fleetAt(name), { name: 'devices', query: { limit: 1000 }, signal });
  }

  deployToDevice(
    uuid: string,
    deployment: Deployment,
    { mode = 'merge', signal }: Signalled & { mode?: Mode } = {},
  ): Promise<Deployed> {
    return this.#connection.json(deviceAt(uuid), { method: methods[mode], body: deployment, signal });
  }

  deployToFleet(
    name: string,
    deployment: FleetDeployment,
    { mode = 'merge', signal }: Signalled & { mode?: Mode } = {},
  ): Promise<Deployed> {
    return this.#connection.json(fleetAt(name), { method: methods[mode], body: deployment, signal });
  }

  /** Takes one app away from a device; without `app` it has no target of its own, and what runs is left as it is. */
  async removeOfDevice(uuid: string, { app, signal }: Signalled & { app?: string } = {}): Promise<void> {
    await this.#connection.request(`${deviceAt(uuid)}${parameters({ app })}`, { method: 'DELETE', signal });
  }

  /** The same of a fleet. */
  async removeOfFleet(name: string, { app, signal }: Signalled & { app?: string } = {}): Promise<void> {
    await this.#connection.request(`${fleetAt(name)}${parameters({ app })}`, { method: 'DELETE', signal });
  }

  /** The newest first. */
  historyOfDevice(uuid: string, { signal }: Signalled = {}): AsyncGenerator<TargetHistoryEntry> {
    return pagesOf(this.#connection, `${deviceAt(uuid)}/history`, { name: 'targets', signal });
  }

  /** The newest first. */
  historyOfFleet(name: string, { signal }: Signalled = {}): AsyncGenerator<TargetHistoryEntry> {
    return pagesOf(this.#connection, `${fleetAt(name)}/history`, { name: 'targets', signal });
  }

  /** Asks as a device for what it is to run. */
  document(uuid: string, { deviceKey, signal }: Signalled & { deviceKey: string }): Promise<TargetDocument> {
    return this.#connection.json(`/device/v3/${encodeURIComponent(uuid)}/state`, {
      token: deviceKey,
      signal,
    });
  }
}

const methods = { merge: 'PATCH', replace: 'PUT' } as const;

function deviceAt(uuid: string): string {
  return `/api/v1/devices/${encodeURIComponent(uuid)}/target`;
}

function fleetAt(name: string): string {
  return `/api/v1/fleets/${encodeURIComponent(name)}/target`;
}
