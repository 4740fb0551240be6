import type { LogInput } from '@millrace/wire';
import type { Loss } from './batch-reader.ts';

export type LossReason = 'refused by the far end' | 'memory full' | 'journal full' | 'journal damaged';

/** The line that records what the reader `backend` will never get. */
export function lossLine(
  { count, first, last }: Loss,
  { backend, reason, timestamp }: { backend: string; reason: LossReason; timestamp: number },
): LogInput {
  const range = first === last ? `seq ${first}` : `seq ${first}–${last}`;
  return {
    message: `lost ${count} ${count === 1 ? 'line' : 'lines'}, ${range}: ${reason} (on the way to ${backend})`,
    timestamp,
    level: 'warn',
    source: { type: 'manager', name: 'journal' },
    fields: { lost: count, first, last, reason, backend },
  };
}
