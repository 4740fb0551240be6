import type { DeviceState } from './state.ts';

/** What the cloud's API answers about its records. Times are ms since 1970, UTC. */

export type TokenRole = 'admin' | 'reader' | 'metrics' | 'join';

export interface Fleet {
  name: string;
  description: string | null;
  /** How many are in it. */
  devices: number;
  createdAt: number;
}

/** A token or a join key, without its secret. */
export interface Token {
  name: string;
  role: string;
  /** What it is limited to, with `devices`. Both `null`: nothing is left out. */
  fleets: string[] | null;
  devices: string[] | null;
  createdAt: number;
  /** Name of the token that made it; `null` for those of the program itself. */
  createdBy: string | null;
  expiresAt: number | null;
}

export interface SavedSearch {
  id: string;
  name: string;
  query: string;
  /** In the forms that a search takes: an age such as `1h` stays an age. */
  since: string | null;
  until: string | null;
  /** Name of the token that made it. */
  createdBy: string;
  createdAt: number;
  changedAt: number;
}

export interface AuditEntry {
  id: number;
  at: number;
  /** Name of the token that did it. */
  actor: string;
  action: string;
  subject: string;
  detail: Record<string, unknown>;
}

/** What a device reports of itself. */
export interface ReportedState {
  state: DeviceState;
  reportedAt: number;
  /** When something other than a metric changed. */
  changedAt: number;
}

/** How that changed, metrics aside. */
export interface StateChange {
  id: number;
  at: number;
  changes: DeviceState;
}

export interface Registration {
  uuid: string;
  /** balena's name for it. */
  api_key: string;
}
