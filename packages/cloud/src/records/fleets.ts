import { and, asc, eq, gt, type SQL, sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { devices, fleets, tokens } from './schema.ts';

export interface FleetRecord {
  name: string;
  description: string | null;
  createdAtMs: number;
}

export interface FleetWithSize extends FleetRecord {
  devices: number;
}

export interface FleetPage {
  after?: string;
  limit: number;
  names?: readonly string[];
}

const byName = sql`${fleets.name} COLLATE "C"`;

export class FleetRecords {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async get(name: string): Promise<FleetWithSize | undefined> {
    const [row] = await this.#select().where(eq(fleets.name, name)).groupBy(fleets.name);
    return row;
  }

  /** By name, behind `after`; of `names` alone when they are given. */
  async list({ after, limit, names }: FleetPage): Promise<FleetWithSize[]> {
    const where: SQL[] = [];
    if (after !== undefined) where.push(gt(byName, after));
    if (names !== undefined) where.push(sql`${fleets.name} = ANY(${sql.param([...names])}::text[])`);
    return this.#select()
      .where(and(...where))
      .groupBy(fleets.name)
      .orderBy(asc(byName))
      .limit(limit);
  }

  #select() {
    return this.#database
      .select({
        name: fleets.name,
        description: fleets.description,
        createdAtMs: fleets.createdAtMs,
        devices: sql<number>`count(${devices.uuid})::int`,
      })
      .from(fleets)
      .leftJoin(devices, eq(devices.fleet, fleets.name));
  }

  /** Returns false, and changes nothing, when there is one of this name. */
  async add(fleet: FleetRecord): Promise<boolean> {
    const added = await this.#database
      .insert(fleets)
      .values(fleet)
      .onConflictDoNothing()
      .returning({ name: fleets.name });
    return added.length > 0;
  }

  /** Returns false when there is none of this name. */
  async describe(name: string, description: string | null): Promise<boolean> {
    const changed = await this.#database
      .update(fleets)
      .set({ description })
      .where(eq(fleets.name, name))
      .returning({ name: fleets.name });
    return changed.length > 0;
  }

  /**
   * Removes a fleet; its devices are in none then, and no token leads to it any more: another fleet of the same name
   * must not be open to who could read this one. Call it in a transaction.
   *
   * @returns false when there is none of this name
   */
  async remove(name: string): Promise<boolean> {
    const removed = await this.#database
      .delete(fleets)
      .where(eq(fleets.name, name))
      .returning({ name: fleets.name });
    if (removed.length === 0) return false;
    await this.#database
      .delete(tokens)
      .where(and(eq(tokens.role, 'join'), sql`${tokens.fleets} @> ARRAY[${name}]::text[]`));
    await this.#database
      .update(tokens)
      .set({ fleets: sql`array_remove(${tokens.fleets}, ${name})` })
      .where(sql`${tokens.fleets} @> ARRAY[${name}]::text[]`);
    return true;
  }
}
