import { and, asc, eq, gt, type SQL, sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { presence } from './schema.ts';

export interface PresenceRecord {
  uuid: string;
  online: boolean;
  changedAtMs: number;
}

export interface PresenceFilter {
  uuids?: readonly string[];
  /** Behind this uuid, in the order of bytes. */
  after?: string;
  limit?: number;
}

const byUuid = sql`${presence.uuid} COLLATE "C"`;

export class PresenceRecords {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** By uuid. */
  async list({ uuids, after, limit }: PresenceFilter = {}): Promise<PresenceRecord[]> {
    const where: SQL[] = [];
    if (uuids !== undefined) where.push(sql`${presence.uuid} = ANY(${sql.param([...uuids])}::text[])`);
    if (after !== undefined) where.push(gt(byUuid, after));
    const query = this.#database
      .select()
      .from(presence)
      .where(and(...where))
      .orderBy(asc(byUuid));
    return limit === undefined ? query : query.limit(limit);
  }

  async save(record: PresenceRecord): Promise<void> {
    await this.#database
      .insert(presence)
      .values(record)
      .onConflictDoUpdate({
        target: presence.uuid,
        set: { online: record.online, changedAtMs: record.changedAtMs },
      });
  }

  async remove(uuid: string): Promise<void> {
    await this.#database.delete(presence).where(eq(presence.uuid, uuid));
  }

  /** Nobody is connected to a broker that only just started: what was said before its last stop no longer holds. */
  async forget(): Promise<void> {
    await this.#database.update(presence).set({ online: false }).where(eq(presence.online, true));
  }
}
