import type { LogEngine } from './engine.ts';
import { string } from './sql.ts';

/**
 * Adds or drops the index over the words of messages. It makes searches for words some twenty times faster and
 * about doubles an insert's cost and the space that lines take, hence a setting. Lines stored before a change
 * keep what they have until parts are merged; searches work either way.
 */
export async function setTextIndex(engine: LogEngine, wanted: boolean): Promise<void> {
  const rows = await engine.query<{ name: string }>(
    `SELECT name FROM system.data_skipping_indices WHERE database = ${string(engine.database)} AND table = 'logs' AND name = 'words'`,
  );
  const present = rows.length > 0;
  if (wanted && !present) {
    await engine.command(
      `ALTER TABLE millrace.logs ADD INDEX IF NOT EXISTS words lower(message) TYPE text(tokenizer = 'splitByNonAlpha')`,
    );
  } else if (!wanted && present) {
    await engine.command('ALTER TABLE millrace.logs DROP INDEX IF EXISTS words');
  }
}
