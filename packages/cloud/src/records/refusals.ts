import { and, eq, lt, sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { quotaRefusals } from './schema.ts';

/** That something of a device was refused on a day. */
export interface QuotaRefusal {
  device: string;
  /** `2026-11-20`, UTC. */
  day: string;
  sinceMs: number;
  /** Messages of senders that cannot be told to keep them, and their bytes. */
  dropped: number;
  droppedBytes: number;
}

export class QuotaRefusals {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Returns whether this is the first of the device on that day. Adds to what was dropped. */
  async note({ dropped, droppedBytes, ...first }: QuotaRefusal): Promise<boolean> {
    const [row] = await this.#database
      .insert(quotaRefusals)
      .values({ ...first, dropped, droppedBytes })
      .onConflictDoUpdate({
        target: [quotaRefusals.device, quotaRefusals.day],
        set: {
          dropped: sql`${quotaRefusals.dropped} + ${dropped}`,
          droppedBytes: sql`${quotaRefusals.droppedBytes} + ${droppedBytes}`,
        },
      })
      // PostgreSQL's own way of telling a new row from a changed one.
      .returning({ isNew: sql<boolean>`(xmax = 0)` });
    return row?.isNew === true;
  }

  async get(device: string, day: string): Promise<QuotaRefusal | undefined> {
    const [row] = await this.#database
      .select()
      .from(quotaRefusals)
      .where(and(eq(quotaRefusals.device, device), eq(quotaRefusals.day, day)));
    return row;
  }

  /** Forgets those of the days before. */
  async forgetBefore(day: string): Promise<void> {
    await this.#database.delete(quotaRefusals).where(lt(quotaRefusals.day, day));
  }
}
