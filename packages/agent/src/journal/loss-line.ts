import { type LogInput, levels } from '@millrace/wire';
import type { Loss } from './passed-losses.ts';

export type LossReason = 'refused by the far end' | 'memory full' | 'journal full' | 'journal damaged';

/** Why lines are gone; `inOutage`: their journal id began in an outage of the disk. */
export function lossReason({ cause }: Loss, inOutage: boolean): LossReason {
  if (cause === 'refused') return 'refused by the far end';
  if (cause === 'damaged') return 'journal damaged';
  return cause === 'shed' && inOutage ? 'memory full' : 'journal full';
}

interface LossContext {
  /** Name of the reader that will never get the lines. */
  backend: string;
  reason: LossReason;
  timestamp: number;
}

/**
 * The line that puts a loss on record:
 *
 *   lost 1250 lines (debug, info), seq 401–5210: journal full (on the way to cloud)
 *
 * with `fields: {lost: 1250, first: 401, last: 5210, reason: "journal full", levels: {debug: 1200, info: 50}, backend:
 * "cloud"}`. Levels are named where they are known. Between `first` and `last` may lie lines that did arrive.
 */
export function lossLine(loss: Loss, { backend, reason, timestamp }: LossContext): LogInput {
  const { count, first, last } = loss;
  const known = levels.map((level, rank) => [level, loss.levels?.[rank] ?? 0] as const);
  const lost = known.filter(([, n]) => n > 0);
  const lines = `${count} ${count === 1 ? 'line' : 'lines'}`;
  const which = lost.length > 0 ? ` (${lost.map(([level]) => level).join(', ')})` : '';
  const range = first === last ? `seq ${first}` : `seq ${first}–${last}`;
  return {
    message: `lost ${lines}${which}, ${range}: ${reason} (on the way to ${backend})`,
    timestamp,
    level: 'warn',
    source: { type: 'manager', name: 'journal' },
    fields: {
      ...{ lost: count, first, last, reason },
      ...(lost.length > 0 && { levels: Object.fromEntries(lost) }),
      backend,
    },
  };
}
