import type { Migration } from './migration.ts';

/**
 * Which claim on the devices of a slot is the newest that this server has heard of: the highest epoch counts. See
 * `fences.ts`. Each server keeps its own, whether or not its other tables are replicated.
 */
const fences = `
CREATE TABLE IF NOT EXISTS millrace.fences (
  slot UInt16,
  epoch UInt64
)
ENGINE = ReplacingMergeTree(epoch)
ORDER BY slot
SETTINGS
  fsync_after_insert = 1,
  fsync_part_directory = 1`;

export const fencesMigration: Migration = {
  version: 4,
  name: 'fences',
  statements: [fences],
};
