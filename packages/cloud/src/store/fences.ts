import { randomUUID } from 'node:crypto';
import type { InsertFence, LogEngine } from './engine.ts';
import { integer, string } from './sql.ts';

/*
 * Fences keep a process from storing lines of devices that another process has taken over, however long it slept.
 *
 * Every insert asks, before it reads a row, whether a later claim on one of its slots is known, and fails if so. It
 * asks while it is in `system.processes` already. So when a fence has been written, and all inserts that ran at that
 * moment are over, no insert under an earlier claim will ever commit: what is stored then is all there will be.
 * No clock and no lease has a part in that.
 */

/** The SELECT of an insert: its rows, or an error when a claim is over. */
export function fencedSelect({ claims, structure, database }: InsertFence): string {
  const slots = [...claims.keys()].map(integer).join(', ');
  const epochs = [...claims.values()].map(integer).join(', ');
  return `SELECT * FROM input(${string(structure)})
WHERE throwIf((
  SELECT countIf(epoch > transform(slot, [${slots}], [${epochs}], toUInt64(18446744073709551615)))
  FROM ${database}.fences) > 0, 'claimed by another process') = 0`;
}

/** The newest claim that is known on each slot. @throws StoreError */
export async function readFences(engine: LogEngine): Promise<Map<number, number>> {
  const rows = await engine.query<{ slot: number; newest: number }>(
    'SELECT slot, max(epoch) AS newest FROM millrace.fences GROUP BY slot',
  );
  return new Map(rows.map(({ slot, newest }) => [slot, newest]));
}

/** Makes claims known. Resolves once that is on disk. @throws StoreError */
export async function writeFences(engine: LogEngine, claims: ReadonlyMap<number, number>): Promise<void> {
  if (claims.size === 0) return;
  const rows = [...claims].map(([slot, epoch]) => `${integer(slot)},${integer(epoch)}`);
  await engine.insertRows(Buffer.from(`${rows.join('\n')}\n`), {
    table: 'millrace.fences',
    format: 'CSV',
    rows: rows.length,
    token: randomUUID(),
  });
}

/** What a claim needs of one server: to be known there, and to be the last to store. */
export interface FencedEngine extends LogEngine {
  insertsOver(): Promise<void>;
}
