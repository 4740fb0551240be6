import { and, eq, sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { fleetDevices, fleetTargets, rollouts } from './schema.ts';

/** `replaced`: another one was begun before it had ended. */
export type RolloutState = 'running' | 'done' | 'stopped' | 'replaced';

export interface RolloutRecord {
  id: number;
  fleet: string;
  target: number;
  /** `5` devices or `25%` of them. */
  batch: string;
  maxFailures: number;
  patienceMs: number;
  state: RolloutState;
  /** Why it was stopped. */
  reason: string | null;
  batchNo: number;
  startedAtMs: number;
  endedAtMs: number | null;
  startedBy: string;
}

export interface FleetTarget {
  /** What a device gets that no rollout has reached; null before the first rollout is through. */
  stable: number | null;
  rollout: RolloutRecord;
}

/** A device that a rollout has reached. */
export interface ReachedDevice {
  device: string;
  target: number;
  rollout: number;
  batchNo: number;
  state: 'updating' | 'done' | 'failed';
  sinceMs: number;
  error: string | null;
}

const rowsAtOnce = 1000;

/** How targets come to the devices of fleets. */
export class RolloutRecords {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async ofFleet(fleet: string): Promise<FleetTarget | undefined> {
    const [row] = await this.#database
      .select({ stable: fleetTargets.stable, rollout: rollouts })
      .from(fleetTargets)
      .innerJoin(rollouts, eq(rollouts.id, fleetTargets.rollout))
      .where(eq(fleetTargets.fleet, fleet));
    return row && { stable: row.stable, rollout: asRollout(row.rollout) };
  }

  /** Begins a rollout; one that is still running is over with that. */
  async begin(
    rollout: Omit<RolloutRecord, 'id' | 'state' | 'reason' | 'batchNo' | 'endedAtMs'>,
  ): Promise<RolloutRecord> {
    await this.#database
      .update(rollouts)
      .set({ state: 'replaced', endedAtMs: rollout.startedAtMs })
      .where(and(eq(rollouts.fleet, rollout.fleet), eq(rollouts.state, 'running')));
    const [row] = await this.#database
      .insert(rollouts)
      .values({ ...rollout, state: 'running', batchNo: 0 })
      .returning();
    const begun = asRollout(row as typeof rollouts.$inferSelect);
    await this.#database
      .insert(fleetTargets)
      .values({ fleet: begun.fleet, stable: null, rollout: begun.id })
      .onConflictDoUpdate({ target: fleetTargets.fleet, set: { rollout: begun.id } });
    return begun;
  }

  /** Fleets with a rollout that has not ended. */
  async running(): Promise<string[]> {
    const rows = await this.#database
      .select({ fleet: rollouts.fleet })
      .from(rollouts)
      .where(eq(rollouts.state, 'running'));
    return rows.map(({ fleet }) => fleet);
  }

  async change(
    id: number,
    change: Partial<Pick<RolloutRecord, 'state' | 'reason' | 'batchNo' | 'endedAtMs'>>,
  ): Promise<void> {
    await this.#database.update(rollouts).set(change).where(eq(rollouts.id, id));
  }

  /** From now on every device of the fleet has this target. */
  async settle(fleet: string, target: number): Promise<void> {
    await this.#database.update(fleetTargets).set({ stable: target }).where(eq(fleetTargets.fleet, fleet));
    await this.#database
      .delete(fleetDevices)
      .where(and(eq(fleetDevices.fleet, fleet), sql`${fleetDevices.target} <> ${target}`));
  }

  /** Forgets what the fleet is to run. Returns false when there was nothing. */
  async removeOfFleet(fleet: string): Promise<boolean> {
    await this.#database.delete(fleetDevices).where(eq(fleetDevices.fleet, fleet));
    const removed = await this.#database
      .delete(fleetTargets)
      .where(eq(fleetTargets.fleet, fleet))
      .returning({ fleet: fleetTargets.fleet });
    await this.#database
      .update(rollouts)
      .set({ state: 'replaced', endedAtMs: Date.now() })
      .where(and(eq(rollouts.fleet, fleet), eq(rollouts.state, 'running')));
    return removed.length > 0;
  }

  /** Devices of a fleet that a rollout has reached, this one or one before it. */
  async reached(fleet: string): Promise<ReachedDevice[]> {
    const rows = await this.#database.select().from(fleetDevices).where(eq(fleetDevices.fleet, fleet));
    return rows.map(({ fleet: _, ...row }) => ({ ...row, state: row.state as ReachedDevice['state'] }));
  }

  async saveReached(fleet: string, devices: readonly ReachedDevice[]): Promise<void> {
    // A row has some ten parameters, of which a statement takes 65 535.
    for (let from = 0; from < devices.length; from += rowsAtOnce) {
      const rows = devices.slice(from, from + rowsAtOnce).map((device) => ({ ...device, fleet }));
      await this.#database
        .insert(fleetDevices)
        .values(rows)
        .onConflictDoUpdate({
          target: fleetDevices.device,
          set: {
            fleet: sql`excluded.fleet`,
            target: sql`excluded.target`,
            rollout: sql`excluded.rollout`,
            batchNo: sql`excluded.batch_no`,
            state: sql`excluded.state`,
            sinceMs: sql`excluded.since_ms`,
            error: sql`excluded.error`,
          },
        });
    }
  }
}

function asRollout(row: typeof rollouts.$inferSelect): RolloutRecord {
  return { ...row, state: row.state as RolloutState };
}
