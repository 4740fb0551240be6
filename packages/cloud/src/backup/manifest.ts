import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText, MillraceError } from '@millrace/wire';
import * as z from 'zod';

/*
 * A backup is a folder:
 *
 *   backup.json     what is in it; written last, so a folder without it is not whole
 *   store/          ClickHouse's own backup of the database `millrace` (BACKUP … TO File)
 *   records.tar.gz  the folder of the embedded PostgreSQL, when the records are in one
 *   join-key, mqtt-client-id     as in the data folder, when they are there
 *
 * Nobody but its owner may read it: it holds everybody's lines.
 */

export const manifestFile = 'backup.json';
export const storeFolder = 'store';
export const recordsFile = 'records.tar.gz';
/** Files of the data folder without which its devices or its broker would not know it again. */
export const keptFiles = ['join-key', 'mqtt-client-id'];

const manifestSchema = z.object({
  format: z.literal(1),
  createdAtMs: z.number(),
  /** Of the program that made it. */
  version: z.string(),
  /** Lines stored when it was begun. */
  lines: z.number(),
  /** False when the records are in a server, which is backed up by its own means. */
  records: z.boolean(),
});

export type Manifest = z.infer<typeof manifestSchema>;

/** @throws MillraceError `BACKUP_UNUSABLE` */
export async function readManifest(folder: string): Promise<Manifest> {
  try {
    return manifestSchema.parse(JSON.parse(await readFile(join(folder, manifestFile), 'utf8')));
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const reason = isMissing ? `it has no ${manifestFile}` : `${manifestFile}: ${errorText(error)}`;
    throw new MillraceError('BACKUP_UNUSABLE', `${folder} is no backup: ${reason}`, { cause: error });
  }
}
