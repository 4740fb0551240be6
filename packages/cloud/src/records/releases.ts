import { eq, sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { appIds, releases } from './schema.ts';

export interface ReleaseRecord {
  id: number;
  uuid: string;
  appId: number;
  /** SHA-256 of what the app means, in hex. */
  content: string;
  /** The app as the app API would have been given it, as JSON. */
  given: string;
  createdAtMs: number;
  createdBy: string;
}

/** Ids that are given out begin here, away from those that people choose. */
const firstAppId = 1_000_001;

/** Apps as somebody asked for them, and the ids of their names. */
export class ReleaseRecords {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** The id of a name, given out when the name is new. Call it behind {@link TargetChanges.lock}. */
  async appIdOf(name: string): Promise<number> {
    const [known] = await this.#database.select().from(appIds).where(eq(appIds.name, name));
    if (known) return known.appId;
    const [highest] = await this.#database
      .select({ appId: sql<number>`coalesce(max(${appIds.appId}), 0)::float8` })
      .from(appIds);
    const appId = Math.max(firstAppId, (highest?.appId ?? 0) + 1);
    await this.#database.insert(appIds).values({ name, appId });
    return appId;
  }

  /**
   * Remembers which id a name has.
   *
   * @returns the name and id that stand in the way, when the name has another id, or the id another name
   */
  async claimAppId(name: string, appId: number): Promise<{ name: string; appId: number } | undefined> {
    await this.#database.insert(appIds).values({ name, appId }).onConflictDoNothing();
    const rows = await this.#database
      .select()
      .from(appIds)
      .where(sql`${appIds.name} = ${name} OR ${appIds.appId} = ${appId}`);
    return rows.find((row) => row.name !== name || row.appId !== appId);
  }

  async add(release: Omit<ReleaseRecord, 'id'>): Promise<ReleaseRecord> {
    const [row] = await this.#database.insert(releases).values(release).returning();
    return row as ReleaseRecord;
  }

  /** Some of them, by id. */
  async byIds(ids: readonly number[]): Promise<Map<number, ReleaseRecord>> {
    if (ids.length === 0) return new Map();
    const rows = await this.#database
      .select()
      .from(releases)
      .where(sql`${releases.id} = ANY(${sql.param([...ids])}::bigint[])`);
    return new Map(rows.map((row) => [row.id, row]));
  }
}
