import type { LogEngine } from '../engine.ts';
import { shardingKey } from './ddl.ts';
import type { ShardMap } from './shard-map.ts';

/** What is known of lines: their seqs as stored, repeated or removed, and what their device said of its journals. */
const tables = ['logs', 'repeats', 'gone', 'overlaps', 'usage_gone'];

/**
 * Whether a shard holds anything of a device whose lines go to another one: what arrived while the cluster had other
 * shards stays where it is. Of the lines only their projections are read.
 *
 * @throws StoreError
 */
export async function holdsMisplaced(engine: LogEngine, map: ShardMap, shard: number): Promise<boolean> {
  const { from, to, total } = map.rangeOf(shard);
  const elsewhere = `${shardingKey} % ${total} NOT BETWEEN ${from} AND ${to - 1}`;
  for (const table of tables) {
    // The count is what makes it a question to the projection.
    const rows = await engine.query(
      `SELECT device, count() AS n FROM millrace.${table} WHERE ${elsewhere} GROUP BY device LIMIT 1`,
    );
    if (rows.length > 0) return true;
  }
  return false;
}
