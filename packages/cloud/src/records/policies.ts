import type { Level } from '@millrace/wire';
import { asc, count, eq } from 'drizzle-orm';
import type { Database } from './database.ts';
import { policies } from './schema.ts';

/** Which lines a policy is for: those for which everything that is given holds. */
export interface PolicyScope {
  fleet: string | null;
  device: string | null;
  service: string | null;
  level: Level | null;
}

export interface PolicyRecord extends PolicyScope {
  id: string;
  /** How long such lines are kept; null when it does not say. */
  retentionDays: number | null;
  /** What each such device may send in a day; null when it does not say. */
  dailyQuotaBytes: number | null;
  changedAtMs: number;
}

export class PolicyRecords {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async list(): Promise<PolicyRecord[]> {
    const rows = await this.#database.select().from(policies).orderBy(asc(policies.id));
    return rows.map(({ selector: _, ...row }) => ({ ...row, level: row.level as Level | null }));
  }

  async count(): Promise<number> {
    const [row] = await this.#database.select({ n: count() }).from(policies);
    return row?.n ?? 0;
  }

  /** Adds a policy, or changes the one with its id. Returns false when another one is for the same lines. */
  async save(policy: PolicyRecord): Promise<boolean> {
    const row = { ...policy, selector: selectorOf(policy) };
    const [taken] = await this.#database
      .select({ id: policies.id })
      .from(policies)
      .where(eq(policies.selector, row.selector));
    if (taken && taken.id !== policy.id) return false;
    await this.#database.insert(policies).values(row).onConflictDoUpdate({ target: policies.id, set: row });
    return true;
  }

  /** Returns false when there was none. */
  async remove(id: string): Promise<boolean> {
    const removed = await this.#database
      .delete(policies)
      .where(eq(policies.id, id))
      .returning({ id: policies.id });
    return removed.length > 0;
  }
}

/** The same for policies of the same lines: to PostgreSQL no null is like another. */
function selectorOf({ fleet, device, service, level }: PolicyScope): string {
  return JSON.stringify([fleet, device, service, level]);
}
