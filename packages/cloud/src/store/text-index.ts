import type { EngineSettings, LogEngine } from './engine.ts';
import { string, stringList } from './sql.ts';

/*
 * Two indexes over the lower case of messages, between which the engine chooses by itself for the conditions of
 * query/to-sql.ts (decision 26):
 *
 * words   where each word stands, for words that are given whole
 * grams   which triples of letters occur in each 16 384 lines, for texts that may stand inside a word. The engine could
 *         look through all words of `words` for those, but logs are full of ids: there are about as many as lines.
 */
export const textIndexes = {
  words: `lower(message) TYPE text(tokenizer = 'splitByNonAlpha')`,
  grams: 'lower(message) TYPE ngrambf_v1(3, 16384, 1, 0) GRANULARITY 8',
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
      // It is small. Without it a part that is there already would be read whole, which `words` used to spare it.
      if (name === 'grams') await engine.command('ALTER TABLE millrace.logs MATERIALIZE INDEX grams');
    } else if (!wanted && present.has(name)) {
      await engine.command(`ALTER TABLE millrace.logs DROP INDEX IF EXISTS ${name}`);
    }
  }
}

/** Settings of the engine that make the indexes work as they are meant. */
export interface IndexSettings {
  insert: EngineSettings;
  read: EngineSettings;
}

/** Built when parts are merged (decision 34): what has just arrived is little enough to be read. */
const onInsert = { exclude_materialize_skip_indexes_on_insert: Object.keys(textIndexes).join(',') };
/** No looking through all words for a part of one. */
const onRead = { use_text_index_like_evaluation_by_dictionary_scan: 0 };

/** Those of the settings that the engine knows: a server may be older than they are, and refuses what it does not know. */
export async function indexSettings(engine: LogEngine): Promise<IndexSettings> {
  const names = [...Object.keys(onInsert), ...Object.keys(onRead)];
  const rows = await engine.query<{ name: string }>(
    `SELECT name FROM system.settings WHERE name IN ${stringList(names)}`,
  );
  const known = new Set(rows.map((row) => row.name));
  const those = (settings: EngineSettings) =>
    Object.fromEntries(Object.entries(settings).filter(([name]) => known.has(name)));
  return { insert: those(onInsert), read: those(onRead) };
}
