import { and, desc, eq, lt, sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { deviceTargets, targets } from './schema.ts';

/** Whose target it is. */
export type TargetOwner = { fleet: string } | { device: string };

export interface TargetRecord {
  id: number;
  fleet: string | null;
  device: string | null;
  /** Ids of its releases, one for each app. */
  releases: number[];
  createdAtMs: number;
  createdBy: string;
}

/** Where the target of a device comes from. */
export interface TargetPointers {
  uuid: string;
  name: string | null;
  fleet: string | null;
  /** The target that it has for itself. */
  own: number | null;
  /** That of its fleet, as far as it has come. */
  ofFleet: number | null;
}

/** Targets that are kept of an owner. */
const keptTargets = 100;

/** What fleets and devices are to run. */
export class TargetRecords {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async add(owner: TargetOwner, target: Pick<TargetRecord, 'releases' | 'createdAtMs' | 'createdBy'>) {
    const [row] = await this.#database
      .insert(targets)
      .values({ ...owner, ...target })
      .returning();
    await this.#forgetOld(owner);
    return row as TargetRecord;
  }

  async byIds(ids: readonly number[]): Promise<Map<number, TargetRecord>> {
    if (ids.length === 0) return new Map();
    const rows = await this.#database
      .select()
      .from(targets)
      .where(sql`${targets.id} = ANY(${sql.param([...ids])}::bigint[])`);
    return new Map(rows.map((row) => [row.id, row]));
  }

  /** The target that a device has for itself. */
  async ofDevice(device: string): Promise<TargetRecord | undefined> {
    const [row] = await this.#database
      .select({ target: targets })
      .from(deviceTargets)
      .innerJoin(targets, eq(targets.id, deviceTargets.target))
      .where(eq(deviceTargets.device, device));
    return row?.target;
  }

  async setOfDevice(device: string, target: number): Promise<void> {
    await this.#database
      .insert(deviceTargets)
      .values({ device, target })
      .onConflictDoUpdate({ target: deviceTargets.device, set: { target } });
  }

  /** Returns false when it has none for itself. */
  async removeOfDevice(device: string): Promise<boolean> {
    const removed = await this.#database
      .delete(deviceTargets)
      .where(eq(deviceTargets.device, device))
      .returning({ device: deviceTargets.device });
    return removed.length > 0;
  }

  /** The newest first, before the one with the id `before`. */
  history(
    owner: TargetOwner,
    { before, limit }: { before?: number; limit: number },
  ): Promise<TargetRecord[]> {
    return this.#database
      .select()
      .from(targets)
      .where(and(isOf(owner), before === undefined ? undefined : lt(targets.id, before)))
      .orderBy(desc(targets.id))
      .limit(limit);
  }

  /** Where the targets of some devices come from, in their order; of unknown devices too. */
  async pointers(uuids: readonly string[]): Promise<TargetPointers[]> {
    if (uuids.length === 0) return [];
    // LIMIT keeps each look-up one by its index: for one device, as is asked most, the planner would read whole tables.
    const { rows } = (await this.#database.execute(sql`
      SELECT asked.uuid, device.name, device.fleet, own.target::float8 AS own,
             coalesce(reached.target, stable.target)::float8 AS "ofFleet"
      FROM unnest(${sql.param([...uuids])}::text[]) WITH ORDINALITY AS asked (uuid, place)
      LEFT JOIN LATERAL (SELECT name, fleet FROM devices WHERE uuid = asked.uuid LIMIT 1) AS device ON true
      LEFT JOIN LATERAL (SELECT target FROM device_targets WHERE device = asked.uuid LIMIT 1) AS own ON true
      LEFT JOIN LATERAL (
        SELECT stable AS target FROM fleet_targets WHERE fleet = device.fleet LIMIT 1) AS stable ON true
      LEFT JOIN LATERAL (
        SELECT target FROM fleet_devices AS row WHERE row.device = asked.uuid AND row.fleet = device.fleet LIMIT 1
      ) AS reached ON true
      ORDER BY asked.place`)) as unknown as { rows: TargetPointers[] };
    return rows;
  }

  /** What is still pointed to is always among the newest. */
  async #forgetOld(owner: TargetOwner): Promise<void> {
    const [oldest] = await this.#database
      .select({ id: targets.id })
      .from(targets)
      .where(isOf(owner))
      .orderBy(desc(targets.id))
      .offset(keptTargets)
      .limit(1);
    if (!oldest) return;
    await this.#database.execute(sql`
      DELETE FROM targets WHERE ${isOf(owner)} AND id <= ${oldest.id}
        AND NOT EXISTS (SELECT 1 FROM device_targets WHERE target = targets.id)
        AND NOT EXISTS (SELECT 1 FROM fleet_targets WHERE stable = targets.id)
        AND NOT EXISTS (SELECT 1 FROM fleet_devices WHERE target = targets.id)`);
  }
}

function isOf(owner: TargetOwner) {
  return 'fleet' in owner ? eq(targets.fleet, owner.fleet) : eq(targets.device, owner.device);
}
