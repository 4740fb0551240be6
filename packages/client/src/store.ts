import {
  type Backup,
  type Backups,
  type DeviceUsage,
  type Level,
  MillraceError,
  type Policy,
  type StoreUse,
  type Usage,
} from '@millrace/wire';
import type { Connection } from './connection.ts';
import { type Moment, parameters } from './queries.ts';
import { pagesOf } from './records.ts';

interface Signalled {
  signal?: AbortSignal;
}

/** What is left out is any, or nothing said; `retentionDays` or `dailyQuotaBytes` must be there. */
export interface PolicyToSet {
  fleet?: string | null;
  device?: string | null;
  service?: string | null;
  level?: Level | null;
  retentionDays?: number | null;
  dailyQuotaBytes?: number | null;
}

/** How long lines are kept, and how much devices may send. */
export class Policies {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async list({ signal }: Signalled = {}): Promise<Policy[]> {
    return (await this.#connection.json<{ policies: Policy[] }>('/api/v1/policies', { signal })).policies;
  }

  add(policy: PolicyToSet, { signal }: Signalled = {}): Promise<Policy> {
    return this.#connection.json('/api/v1/policies', { method: 'POST', body: policy, signal });
  }

  replace(id: string, policy: PolicyToSet, { signal }: Signalled = {}): Promise<Policy> {
    return this.#connection.json(policyAt(id), { method: 'PUT', body: policy, signal });
  }

  async remove(id: string, { signal }: Signalled = {}): Promise<void> {
    await this.#connection.request(policyAt(id), { method: 'DELETE', signal });
  }
}

function policyAt(id: string): string {
  return `/api/v1/policies/${encodeURIComponent(id)}`;
}

/** Days, UTC, as `2026-11-20`; both included. */
export interface DaysQuery {
  from?: string;
  to?: string;
}

const backupPollMs = 200;

/** What is stored and how much of it, what devices sent, what is deleted, and copies of it all. */
export class StoreApi {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  use({ signal }: Signalled = {}): Promise<StoreUse> {
    return this.#connection.json('/api/v1/store', { signal });
  }

  /** Lines and bytes by day, then by device. */
  usage(query: DaysQuery & { device?: string } = {}, { signal }: Signalled = {}): AsyncGenerator<Usage> {
    return pagesOf(this.#connection, '/api/v1/usage', { name: 'usage', query, signal });
  }

  deviceUsage(uuid: string, query: DaysQuery = {}, { signal }: Signalled = {}): Promise<DeviceUsage> {
    const path = `/api/v1/devices/${encodeURIComponent(uuid)}/usage${parameters(query)}`;
    return this.#connection.json(path, { signal });
  }

  /** Deletes a device's lines, or those of a time before the one given. Resolves when they are gone. */
  deleteLines(
    uuid: string,
    query: { before?: Moment } = {},
    { signal }: Signalled = {},
  ): Promise<{ lines: number; bytes: number }> {
    const path = `/api/v1/devices/${encodeURIComponent(uuid)}/logs${parameters(query)}`;
    return this.#connection.json(path, { method: 'DELETE', signal });
  }

  backups({ signal }: Signalled = {}): Promise<Backups> {
    return this.#connection.json('/api/v1/backups', { signal });
  }

  /** Makes a backup, and waits until it is whole: as long as copying everything that is stored takes. */
  async backUp({ signal }: Signalled = {}): Promise<Backup> {
    const { name } = await this.#connection.json<{ name: string }>('/api/v1/backups', {
      method: 'POST',
      signal,
    });
    for (;;) {
      const { backups, failed } = await this.backups({ signal });
      const made = backups.find((backup) => backup.name === name);
      if (made) return made;
      if (failed?.name === name) throw new MillraceError(failed.problem.code, failed.problem.detail);
      await new Promise((resolve) => setTimeout(resolve, backupPollMs));
    }
  }
}
