import type { DeviceState } from '@millrace/wire';
import { and, desc, eq, lt, sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { deviceStateChanges, deviceStates } from './schema.ts';

export interface StateRecord {
  uuid: string;
  state: DeviceState;
  reportedAtMs: number;
  changedAtMs: number;
}

export interface StateChange {
  id: number;
  atMs: number;
  changes: DeviceState;
}

/** Changes that are kept of a device. */
const keptChanges = 500;

/** What devices say of themselves, and how that changed. */
export class DeviceStates {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async get(uuid: string): Promise<StateRecord | undefined> {
    const [row] = await this.#database
      .select()
      .from(deviceStates)
      .where(eq(deviceStates.uuid, uuid))
      .limit(1);
    return row;
  }

  /** When each of some devices last reported, and what of its apps. */
  async inShort(
    uuids: readonly string[],
  ): Promise<Map<string, { reportedAtMs: number; apps: DeviceState['apps'] }>> {
    const rows = await this.#database
      .select({
        uuid: deviceStates.uuid,
        reportedAtMs: deviceStates.reportedAtMs,
        apps: sql<DeviceState['apps']>`${deviceStates.state} -> 'apps'`,
      })
      .from(deviceStates)
      .where(sql`${deviceStates.uuid} = ANY(${sql.param([...uuids])}::text[])`);
    return new Map(rows.map(({ uuid, ...rest }) => [uuid, rest]));
  }

  /**
   * Puts a report in force. Call it within a transaction: of two reports at once the second sees the first.
   *
   * @param next what the state is after it, and what of that is a change worth keeping
   */
  async report(
    uuid: string,
    atMs: number,
    next: (before: DeviceState) => { state: DeviceState; changes: DeviceState },
  ): Promise<void> {
    // So that there is a row to hold, for a first report, too.
    await this.#database
      .insert(deviceStates)
      .values({ uuid, state: {}, reportedAtMs: atMs, changedAtMs: atMs })
      .onConflictDoNothing();
    const [row] = await this.#database
      .select()
      .from(deviceStates)
      .where(eq(deviceStates.uuid, uuid))
      .for('update');
    const { state, changes } = next(row?.state ?? {});
    const isChange = Object.keys(changes).length > 0;
    await this.#database
      .update(deviceStates)
      .set({ state, reportedAtMs: atMs, ...(isChange && { changedAtMs: atMs }) })
      .where(eq(deviceStates.uuid, uuid));
    if (isChange) await this.#keep(uuid, atMs, changes);
  }

  async #keep(uuid: string, atMs: number, changes: DeviceState): Promise<void> {
    await this.#database.insert(deviceStateChanges).values({ uuid, atMs, changes });
    const [oldest] = await this.#database
      .select({ id: deviceStateChanges.id })
      .from(deviceStateChanges)
      .where(eq(deviceStateChanges.uuid, uuid))
      .orderBy(desc(deviceStateChanges.id))
      .offset(keptChanges)
      .limit(1);
    if (!oldest) return;
    await this.#database
      .delete(deviceStateChanges)
      .where(and(eq(deviceStateChanges.uuid, uuid), sql`${deviceStateChanges.id} <= ${oldest.id}`));
  }

  /** The newest first, before the one with the id `before`. */
  async history(uuid: string, { before, limit }: { before?: number; limit: number }): Promise<StateChange[]> {
    const { id, atMs, changes } = deviceStateChanges;
    return this.#database
      .select({ id, atMs, changes })
      .from(deviceStateChanges)
      .where(and(eq(deviceStateChanges.uuid, uuid), before === undefined ? undefined : lt(id, before)))
      .orderBy(desc(id))
      .limit(limit);
  }

  async remove(uuid: string): Promise<void> {
    await this.#database.delete(deviceStates).where(eq(deviceStates.uuid, uuid));
    await this.#database.delete(deviceStateChanges).where(eq(deviceStateChanges.uuid, uuid));
  }
}
