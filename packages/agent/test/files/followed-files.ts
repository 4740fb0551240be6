import { join } from 'node:path';
import { until } from '../../../../tests/support/wait.ts';
import { type FilesOptions, FilesSource } from '../../src/files/source.ts';
import type { MemoryJournal } from '../docker/memory-journal.ts';

export async function started(
  folder: string,
  journal: MemoryJournal,
  options: Partial<FilesOptions> = {},
): Promise<FilesSource> {
  const source = new FilesSource({
    taker: journal,
    positions: journal,
    patterns: [join(folder, '*.log')],
    ...options,
  });
  await source.start();
  return source;
}

export const messages = (journal: MemoryJournal) => journal.lines.map(({ message }) => message);
export const text = (lines: readonly string[]) => lines.map((line) => `${line}\n`).join('');

export async function untilCount(journal: MemoryJournal, count: number): Promise<void> {
  await until(() => journal.lines.length >= count, {
    timeoutMs: 5_000,
    what: () => `${count} lines, got ${journal.lines.length}: ${JSON.stringify(messages(journal).slice(-5))}`,
  });
}
