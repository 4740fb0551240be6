import { bigint, boolean, index, pgTable, text } from 'drizzle-orm/pg-core';

/** Times are ms since 1970: the API speaks them too, and both drivers read them alike. */
const timeMs = (name: string) => bigint(name, { mode: 'number' });

/** Devices that may send: one row per registration. */
export const devices = pgTable('devices', {
  uuid: text('uuid').primaryKey(),
  name: text('name'),
  /** SHA-256 of the device's key, in hex. The key itself is never kept. */
  keyHash: text('key_hash').notNull(),
  createdAtMs: timeMs('created_at_ms').notNull(),
});

/** Bearer tokens of people and programs, one per name. */
export const tokens = pgTable(
  'tokens',
  {
    name: text('name').primaryKey(),
    role: text('role').notNull(),
    /** SHA-256 of the token, in hex. */
    hash: text('hash').notNull(),
    createdAtMs: timeMs('created_at_ms').notNull(),
  },
  (table) => [index('tokens_hash').on(table.hash)],
);

/**
 * What devices said last on their status topic. Apart from `devices`, since behind an external broker a device
 * may report and send without ever having registered here.
 */
export const presence = pgTable('presence', {
  uuid: text('uuid').primaryKey(),
  online: boolean('online').notNull(),
  changedAtMs: timeMs('changed_at_ms').notNull(),
});
