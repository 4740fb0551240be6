import { sql } from 'drizzle-orm';
import type { Database } from './database.ts';

/** Devices are shared out among processes by so many slots. It never changes: a device's slot follows from it. */
export const slotCount = 256;

/** A process of this cloud. */
export interface PeerRecord {
  /** Where the others reach it. */
  url: string;
  /** Made anew at each start. */
  id: string;
  /** What the others show it. */
  secret: string;
  /** Grows for as long as the process lives. */
  beat: number;
  /** By what it divides devices among shards; null of an earlier version. */
  division: string | null;
}

/** Who answers for the devices of a slot. */
export interface SlotRecord {
  slot: number;
  owner: string | null;
  /** Grows with each change of the owner. */
  epoch: number;
  /** That of the last owner. */
  division: string | null;
}

/** Who claims slots. */
export interface Claimant {
  id: string;
  division: string;
  /** Processes that live and divide devices otherwise. While one of them has a slot, nobody else takes any. */
  rivals: readonly string[];
}

// Any number does, as long as every process uses the same.
const claimLock = 7_276_418;

/** The processes of this cloud and what each answers for. */
export class PeerTable {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Says that this process lives. */
  async beat({ url, id, secret, division }: Omit<PeerRecord, 'beat'>): Promise<void> {
    await this.#database.execute(sql`
      INSERT INTO cloud_peers (url, id, secret, beat, division) VALUES (${url}, ${id}, ${secret}, 1, ${division})
      ON CONFLICT (url) DO UPDATE SET id = excluded.id, secret = excluded.secret, beat = cloud_peers.beat + 1,
        division = excluded.division`);
  }

  peers(): Promise<PeerRecord[]> {
    return rowsOf<PeerRecord>(
      this.#database,
      sql`SELECT url, id, secret, beat::float8 AS beat, division FROM cloud_peers ORDER BY url`,
    );
  }

  slots(): Promise<SlotRecord[]> {
    return rowsOf<SlotRecord>(
      this.#database,
      sql`SELECT slot::int AS slot, owner, epoch::float8 AS epoch, division FROM cloud_slots ORDER BY slot`,
    );
  }

  /**
   * Takes slots that still are as they were seen, and returns those taken with their new epochs. These follow the
   * clock as well, so that records that were restored from a backup do not bring old ones back. Claims follow one
   * another, so of two divisions one comes first, and the other gets nothing.
   */
  async claim({ id, division, rivals }: Claimant, seen: readonly SlotRecord[]): Promise<SlotRecord[]> {
    if (seen.length === 0) return [];
    const rows = sql.join(
      seen.map(({ slot, epoch }) => sql`(${slot}::int, ${epoch}::bigint)`),
      sql`, `,
    );
    return this.#database.transaction(async (tx) => {
      await tx.execute(sql`SELECT pg_advisory_xact_lock(${claimLock})`);
      return rowsOf<SlotRecord>(
        tx,
        sql`
      UPDATE cloud_slots
      SET owner = ${id}, division = ${division}, epoch = greatest(cloud_slots.epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
      FROM (VALUES ${rows}) AS seen (slot, epoch)
      WHERE cloud_slots.slot = seen.slot AND cloud_slots.epoch = seen.epoch
        AND NOT EXISTS (SELECT 1 FROM cloud_slots AS held WHERE held.owner = ANY(${sql.param([...rivals])}::text[]))
      RETURNING cloud_slots.slot::int AS slot, cloud_slots.owner, cloud_slots.epoch::float8 AS epoch,
        cloud_slots.division`,
      );
    });
  }

  /** Gives a slot up. */
  async release(owner: string, slot: number): Promise<void> {
    await this.#database.execute(
      sql`UPDATE cloud_slots SET owner = NULL WHERE owner = ${owner} AND slot = ${slot}`,
    );
  }

  /** Forgets a process, and what it answered for. */
  async leave(id: string): Promise<void> {
    await this.#database.execute(sql`UPDATE cloud_slots SET owner = NULL WHERE owner = ${id}`);
    await this.#database.execute(sql`DELETE FROM cloud_peers WHERE id = ${id}`);
  }
}

async function rowsOf<T>(database: Pick<Database, 'execute'>, query: ReturnType<typeof sql>): Promise<T[]> {
  const { rows } = (await database.execute(query)) as unknown as { rows: T[] };
  return rows;
}
