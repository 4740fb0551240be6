import { escapedSql } from '../query/fields.ts';
import type { EngineSettings, LogEngine } from './engine.ts';
import { string, stringList } from './sql.ts';

/*
 * Two indexes over the lower case of messages, between which the engine chooses by itself for the conditions of
 * query/to-sql.ts (decision 26):
 *
 * words   where each word stands, for words that are given whole
 * grams   which triples of letters occur in each 4096 lines, for texts that may stand inside a word. The engine could
 *         look through all words of `words` for those, but logs are full of ids: there are about as many as lines.
 * escaped whether any of a granule's lines may show its fields otherwise than its message has them; the others answer for
 *         fields by what they say of the message (decision 35)
 */
export const indexNames = ['words', 'grams', 'escaped'] as const;

type IndexName = (typeof indexNames)[number];

/** Lines that share a filter of triples, of as many bytes. */
const gramsLines = 4096;

/** @param granuleLines of the table: an index can only be made of whole granules */
export function textIndexes(granuleLines: number): Record<IndexName, string> {
  const granules = Math.max(1, Math.round(gramsLines / granuleLines));
  return {
    words: `lower(message) TYPE text(tokenizer = 'splitByNonAlpha')`,
    grams: `lower(message) TYPE ngrambf_v1(3, ${granules * granuleLines}, 1, 0) GRANULARITY ${granules}`,
    escaped: `${escapedSql} TYPE minmax GRANULARITY 1`,
  };
}

/**
 * Adds or drops the indexes over messages. They make searches for text some twenty times faster and about double an
 * insert's cost and the space that lines take, hence a setting. Lines stored before a change keep what they have until
 * parts are merged; searches work either way.
 */
export async function setTextIndex(engine: LogEngine, wanted: boolean): Promise<void> {
  const rows = await engine.query<{ name: string }>(
    `SELECT name FROM system.data_skipping_indices WHERE database = ${string(engine.database)} AND table = 'logs'`,
  );
  const present = new Set(rows.map((row) => row.name));
  const missing = indexNames.filter((name) => !present.has(name));
  if (wanted && missing.length > 0) {
    const indexes = textIndexes(await readGranuleLines(engine));
    for (const name of missing) {
      await engine.command(`ALTER TABLE millrace.logs ADD INDEX IF NOT EXISTS ${name} ${indexes[name]}`);
      // They are small. Without `grams` a part that is there already would be read whole, which `words` used to spare it.
      if (name !== 'words') await engine.command(`ALTER TABLE millrace.logs MATERIALIZE INDEX ${name}`);
    }
  }
  if (wanted) return;
  for (const name of indexNames.filter((name) => present.has(name))) {
    await engine.command(`ALTER TABLE millrace.logs DROP INDEX IF EXISTS ${name}`);
  }
}

/** A table keeps the granules that it was made with. */
async function readGranuleLines(engine: LogEngine): Promise<number> {
  const [table] = await engine.query<{ lines: number }>(
    `SELECT toUInt32OrZero(extract(engine_full, 'index_granularity = ([0-9]+)')) AS lines FROM system.tables
     WHERE database = ${string(engine.database)} AND name = 'logs'`,
  );
  return table?.lines || 8192;
}

/** Settings of the engine that make the indexes work as they are meant. */
export interface IndexSettings {
  insert: EngineSettings;
  /** For whatever reads lines. */
  read: EngineSettings;
  /** For a page of lines that are found by what is in them. */
  find: EngineSettings;
  /** For a page of what came in a short time. */
  small: EngineSettings;
  /** For lines of any device and service. */
  anywhere: EngineSettings;
}

/**
 * For lines that are picked from many places. Each is decompressed, so few are shared out among threads, too; but not in
 * blocks of lines so small that getting the expressions ready for each takes longer than running them. And the indexes are
 * asked before there is anything to read: asked while reading, the engine sets out to read each part before it hears that
 * there is nothing in it.
 */
const picked = {
  merge_tree_min_rows_for_concurrent_read: 16_384,
  merge_tree_min_bytes_for_concurrent_read: 1,
  preferred_block_size_bytes: 8 * 1024 * 1024,
  use_skip_indexes_on_data_read: 0,
};

const known: IndexSettings = {
  // Built when parts are merged (decision 34): what has just arrived is little enough to be read.
  insert: { exclude_materialize_skip_indexes_on_insert: indexNames.join(',') },
  // No looking through all words for a part of one.
  read: { use_text_index_like_evaluation_by_dictionary_scan: 0 },
  // Else the engine reads the times first, of all lines of which the indexes say that they may be meant.
  find: { use_skip_indexes_for_top_k: 0, use_top_k_dynamic_filtering: 0, ...picked },
  small: picked,
  // The order that lines lie in says little of times, and the engine takes long to find that out: `times` is for that.
  anywhere: { use_primary_key: 0 },
};

/** Those of the settings that the engine knows: a server may be older than they are, and refuses what it does not know. */
export async function indexSettings(engine: LogEngine): Promise<IndexSettings> {
  const wanted = Object.values(known).flatMap((settings: EngineSettings) => Object.keys(settings));
  const rows = await engine.query<{ name: string }>(
    `SELECT name FROM system.settings WHERE name IN ${stringList(wanted)}`,
  );
  const names = new Set(rows.map((row) => row.name));
  const those = (settings: EngineSettings) =>
    Object.fromEntries(Object.entries(settings).filter(([name]) => names.has(name)));
  return {
    insert: those(known.insert),
    read: those(known.read),
    find: those(known.find),
    small: those(known.small),
    anywhere: those(known.anywhere),
  };
}
