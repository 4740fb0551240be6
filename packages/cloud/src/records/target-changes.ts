import { sql } from 'drizzle-orm';
import type { Database } from './database.ts';

/**
 * Which devices have got another target, in the order in which that was committed: whoever changes one holds the one
 * row of `target_clock` until its transaction ends. So a process that has seen the changes up to a number misses none
 * of those before it, and two never change a target, or take a step of a rollout, at once.
 */
export class TargetChanges {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Keeps all others out until the transaction ends: the first thing to do in one that changes targets. */
  async lock(): Promise<void> {
    await this.#database.execute(sql`SELECT change FROM target_clock FOR UPDATE`);
  }

  /** Notes that the targets of some devices may have changed. Within a transaction, behind {@link lock}. */
  async note(devices: readonly string[]): Promise<void> {
    if (devices.length === 0) return;
    const [clock] = await this.#rows<{ change: number }>(
      sql`UPDATE target_clock SET change = change + 1 RETURNING change::float8 AS change`,
    );
    await this.#database.execute(sql`
      INSERT INTO target_changes (device, change)
      SELECT DISTINCT device, ${clock?.change ?? 0}::bigint FROM unnest(${sql.param([...devices])}::text[]) AS device
      ON CONFLICT (device) DO UPDATE SET change = excluded.change`);
  }

  /** The number of the last change. */
  async last(): Promise<number> {
    const [clock] = await this.#rows<{ change: number }>(
      sql`SELECT change::float8 AS change FROM target_clock`,
    );
    return clock?.change ?? 0;
  }

  /** Devices that have changed since, the earliest first, at most so many. */
  after(change: number, limit: number): Promise<{ device: string; change: number }[]> {
    return this.#rows(sql`
      SELECT device, change::float8 AS change FROM target_changes WHERE change > ${change}
      ORDER BY change, device LIMIT ${limit}`);
  }

  /** All devices of one change. */
  async of(change: number): Promise<string[]> {
    const rows = await this.#rows<{ device: string }>(
      sql`SELECT device FROM target_changes WHERE change = ${change}`,
    );
    return rows.map(({ device }) => device);
  }

  /**
   * Makes this process the one that passes changes on to an external broker, for some time.
   *
   * @returns the number of the last change that was passed on; `undefined` when another process does it
   */
  async claimPushing(pusher: string, holdMs: number): Promise<number | undefined> {
    const now = sql`(extract(epoch FROM clock_timestamp()) * 1000)::bigint`;
    const [clock] = await this.#rows<{ pushed: number }>(sql`
      UPDATE target_clock SET pusher = ${pusher}, pusher_until_ms = ${now} + ${holdMs}::bigint
      WHERE pusher = ${pusher} OR pusher_until_ms < ${now} RETURNING pushed::float8 AS pushed`);
    return clock?.pushed;
  }

  /** Notes that the changes up to this one were passed on. */
  async pushed(pusher: string, change: number): Promise<void> {
    await this.#database.execute(
      sql`UPDATE target_clock SET pushed = ${change} WHERE pusher = ${pusher} AND pushed < ${change}`,
    );
  }

  /** Lets another process do it. */
  async releasePushing(pusher: string): Promise<void> {
    await this.#database.execute(sql`UPDATE target_clock SET pusher_until_ms = 0 WHERE pusher = ${pusher}`);
  }

  async #rows<T>(query: ReturnType<typeof sql>): Promise<T[]> {
    const { rows } = (await this.#database.execute(query)) as unknown as { rows: T[] };
    return rows;
  }
}
