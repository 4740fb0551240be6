import { escapedSql } from '../query/fields.ts';
import type { EngineSettings, LogEngine } from './engine.ts';
import { string, stringList } from './sql.ts';

/*
 * Two indexes over the lower case of messages, between which the engine chooses by itself for the conditions of
 * query/to-sql.ts (decision 26):
 *
 * words   where each word stands, for words that are given whole
 * grams   which triples of letters occur in each 8192 lines, for texts that may stand inside a word. The engine could
 *         look through all words of `words` for those, but logs are full of ids: there are about as many as lines.
 * escaped whether any of 2048 lines may show its fields otherwise than its message has them; the others answer for fields
 *         by what they say of the message (decision 35)
 */
export const textIndexes = {
  words: `lower(message) TYPE text(tokenizer = 'splitByNonAlpha')`,
  grams: 'lower(message) TYPE ngrambf_v1(3, 8192, 1, 0) GRANULARITY 4',
  escaped: `${escapedSql} TYPE minmax GRANULARITY 1`,
} as const;

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
  for (const [name, definition] of Object.entries(textIndexes)) {
    if (wanted && !present.has(name)) {
      await engine.command(`ALTER TABLE millrace.logs ADD INDEX IF NOT EXISTS ${name} ${definition}`);
      // They are small. Without `grams` a part that is there already would be read whole, which `words` used to spare it.
      if (name !== 'words') await engine.command(`ALTER TABLE millrace.logs MATERIALIZE INDEX ${name}`);
    } else if (!wanted && present.has(name)) {
      await engine.command(`ALTER TABLE millrace.logs DROP INDEX IF EXISTS ${name}`);
    }
  }
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
}

/** Few lines are shared out among threads, too: they are picked from many places, each of which is decompressed. */
const shared = { merge_tree_min_rows_for_concurrent_read: 8192, merge_tree_min_bytes_for_concurrent_read: 1 };

const known: IndexSettings = {
  // Built when parts are merged (decision 34): what has just arrived is little enough to be read.
  insert: { exclude_materialize_skip_indexes_on_insert: Object.keys(textIndexes).join(',') },
  // No looking through all words for a part of one.
  read: { use_text_index_like_evaluation_by_dictionary_scan: 0 },
  // Else the engine reads the times first, of all lines of which the indexes say that they may be meant.
  find: { use_skip_indexes_for_top_k: 0, use_top_k_dynamic_filtering: 0, ...shared },
  // All that the indexes can say takes longer to hear while reading than at once.
  small: { use_skip_indexes_on_data_read: 0, ...shared },
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
  };
}
