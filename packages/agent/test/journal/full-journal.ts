import { type Level, type LogMessage, levels } from '@millrace/wire';
import { until } from '../../../../tests/support/wait.ts';
import type { Journal, JournalOptions } from '../../src/journal/journal.ts';
import type { Feed } from '../../src/logging/types.ts';

export const small: JournalOptions = {
  ...{ syncIntervalMs: 1, maxFileBytes: 20_000, maxBytes: 100_000, recentLines: 20 },
};

/** Random text does not compress, so that segments fill up quickly. */
export const noise = (bytes = 60) =>
  Buffer.from(Array.from({ length: bytes }, () => Math.random() * 256)).toString('base64');

/** A tenth errors, a tenth warnings, of the rest one half each; what ends a batch may be shed. */
export const levelOf = (n: number): Level =>
  n % 10 === 3 ? 'error' : n % 10 === 6 ? 'warn' : n % 2 ? 'debug' : 'info';

/** Lines n of levels `levelOf(n)`, a hundred a batch. */
export async function fill(journal: Journal, from: number, to: number, level = levelOf): Promise<void> {
  for (let n = from; n <= to; n++) {
    journal.append(
      { message: `line ${n} ${noise()}`, timestamp: n, level: level(n) },
      { key: 's', value: n },
    );
    if (n % 100 === 0) await journal.flush();
  }
  await journal.flush();
}

/** Waits until nothing more is shed. */
export async function settled(journal: Journal, maxBytes: number): Promise<void> {
  await until(() => journal.stats().diskBytes <= maxBytes, { what: 'the journal to be within its budget' });
}

/** Everything that the cursor can read, the loss records that come of it included; each batch confirmed. */
export async function drain(journal: Journal, cursor: Feed): Promise<LogMessage[]> {
  const out: LogMessage[] = [];
  while (cursor.lag().lines > 0) {
    const batch = await cursor.next(AbortSignal.timeout(1000));
    if (!batch) break;
    out.push(...batch.messages());
    cursor.ack(batch.header.journal, batch.lastSeq);
    await journal.flush();
  }
  return out;
}

export const containers = (lines: LogMessage[]) => lines.filter((line) => line.source.type === 'container');
export const losses = (lines: LogMessage[]) => lines.filter((line) => line.fields?.lost !== undefined);
export const lostIn = (lines: LogMessage[]) =>
  losses(lines).reduce((sum, line) => sum + Number(line.fields?.lost), 0);
export const countOf = (lines: LogMessage[]) =>
  levels.map((level) => lines.filter((line) => line.level === level).length);
