import { and, asc, eq, gt, type SQL, sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { savedSearches } from './schema.ts';

export interface SavedSearch {
  id: string;
  name: string;
  query: string;
  /** As the API takes them: a moment, or an age such as `1h`. */
  since: string | null;
  until: string | null;
  createdBy: string;
  createdAtMs: number;
  changedAtMs: number;
}

const byName = sql`${savedSearches.name} COLLATE "C"`;

export class SavedSearches {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async get(id: string): Promise<SavedSearch | undefined> {
    const [row] = await this.#database.select().from(savedSearches).where(eq(savedSearches.id, id)).limit(1);
    return row;
  }

  /** By name, behind `after`; those of one creator when it is given. */
  async list(page: { after?: string; limit: number; createdBy?: string }): Promise<SavedSearch[]> {
    const { after, limit, createdBy } = page;
    const where: SQL[] = [];
    if (after !== undefined) where.push(gt(byName, after));
    if (createdBy !== undefined) where.push(eq(savedSearches.createdBy, createdBy));
    return this.#database
      .select()
      .from(savedSearches)
      .where(and(...where))
      .orderBy(asc(byName))
      .limit(limit);
  }

  /** Returns false, and changes nothing, when there is one of this name. */
  async add(search: SavedSearch): Promise<boolean> {
    const added = await this.#database
      .insert(savedSearches)
      .values(search)
      .onConflictDoNothing()
      .returning({ id: savedSearches.id });
    return added.length > 0;
  }

  /** `taken` when another one has the name that it is to get. */
  async change(
    id: string,
    changes: Partial<Pick<SavedSearch, 'name' | 'query' | 'since' | 'until'>>,
  ): Promise<'changed' | 'unknown' | 'taken'> {
    if (changes.name !== undefined) {
      const [other] = await this.#database
        .select({ id: savedSearches.id })
        .from(savedSearches)
        .where(eq(savedSearches.name, changes.name));
      if (other && other.id !== id) return 'taken';
    }
    const changed = await this.#database
      .update(savedSearches)
      .set({ ...changes, changedAtMs: Date.now() })
      .where(eq(savedSearches.id, id))
      .returning({ id: savedSearches.id });
    return changed.length > 0 ? 'changed' : 'unknown';
  }

  async remove(id: string): Promise<boolean> {
    const removed = await this.#database
      .delete(savedSearches)
      .where(eq(savedSearches.id, id))
      .returning({ id: savedSearches.id });
    return removed.length > 0;
  }
}
