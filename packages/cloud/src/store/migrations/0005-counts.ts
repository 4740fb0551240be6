import type { Migration } from './migration.ts';

/**
 * How many lines there are per device, service, app, level and hour of their own time, for histograms and facets over
 * days: see `store/hour-counts.ts`. Kept per part, as `marks` is, so it can never disagree with the lines. Parts that
 * are there already get it in the background; until then their lines are read.
 *
 * It is read from one end to the other, hence granules of its own (decision 39).
 */
const counts = `
ALTER TABLE millrace.logs ADD PROJECTION IF NOT EXISTS counts (
  SELECT device, service, app, level, intDiv(toUnixTimestamp64Milli(ts), 3600000), count(), min(ts), max(ts)
  GROUP BY device, service, app, level, intDiv(toUnixTimestamp64Milli(ts), 3600000)
) WITH SETTINGS (index_granularity = 8192, min_compress_block_size = 65536)`;

export const countsMigration: Migration = {
  version: 5,
  name: 'counts',
  statements: [counts, 'ALTER TABLE millrace.logs MATERIALIZE PROJECTION counts'],
};
