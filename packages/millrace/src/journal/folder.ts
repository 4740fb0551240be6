import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { FolderDisk } from '@millrace/agent/journal';
import { MillraceError } from '@millrace/wire';

/**
 * The folder of a journal's segments: the one given, or `logs` in it when it is a data folder.
 *
 * @throws MillraceError `NOT_FOUND` when there is no journal
 */
export function openJournalFolder(dir: string): FolderDisk {
  for (const candidate of [dir, join(dir, 'logs')]) {
    if (names(candidate).some((name) => /^\d{10}\.log\.gz$/.test(name))) return new FolderDisk(candidate);
  }
  throw new MillraceError('NOT_FOUND', `no journal in ${dir}: there are no files like 0000000001.log.gz`);
}

function names(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw new MillraceError('DATA_DIR_UNUSABLE', `${dir} cannot be read (${code})`, { cause });
  }
}
