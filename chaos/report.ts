import { type Kind, kinds } from './options.ts';
import type { ChaosResult, FaultRecord } from './run.ts';

/** The result for a person to read. */
export function tableOf({ account, faults, notes }: ChaosResult): string {
  const rows: [string, number][] = [
    ['lines written', account.written],
    ['stored', account.stored],
    ['lost', account.lost],
    ['lost but counted', account.counted],
    ['counted in all', account.recorded],
    ['duplicated', account.duplicated],
    ['out of order', account.outOfOrder],
    ['wrong stream or level', account.wrong],
  ];
  const lines = rows.map(([name, count]) => `${name.padEnd(24)}${String(count).padStart(10)}`);
  lines.push('', `${'fault'.padEnd(12)}times   recovery: median       max`);
  for (const [kind, record] of inOrder(faults)) {
    const { median, max } = recoveryOf(record);
    const hits = Object.entries(record.victims).map(([victim, count]) => `${victim} ${count}`);
    lines.push(
      `${kind.padEnd(12)}${String(record.count).padStart(5)}${seconds(median).padStart(19)}${seconds(max).padStart(10)}   ${hits.join(', ')}`.trimEnd(),
    );
  }
  return [...lines, ...(notes.length > 0 ? ['', ...notes] : [])].join('\n');
}

/** The same for a program, in one line. */
export function jsonOf({ account, faults }: ChaosResult): string {
  const { written, stored, lost, counted, recorded, duplicated, outOfOrder, wrong } = account;
  const told = inOrder(faults).map(([kind, record]) => {
    const { median, max } = recoveryOf(record);
    const { count, recoveriesMs, victims } = record;
    const recovered = { recovered: recoveriesMs.length, recoveryMedianMs: median, recoveryMaxMs: max };
    return [kind, { count, ...recovered, ...(Object.keys(victims).length > 0 && { victims }) }];
  });
  const totals = { written, stored, lost, counted, recorded, duplicated, outOfOrder, wrong };
  return JSON.stringify({ ...totals, faults: Object.fromEntries(told) });
}

function inOrder(faults: ReadonlyMap<Kind, FaultRecord>): [Kind, FaultRecord][] {
  const order = Object.keys(kinds);
  return [...faults].sort(([a], [b]) => order.indexOf(a) - order.indexOf(b));
}

function recoveryOf({ recoveriesMs }: FaultRecord): { median: number | null; max: number | null } {
  const sorted = recoveriesMs.map(Math.round).sort((a, b) => a - b);
  return { median: sorted[Math.floor(sorted.length / 2)] ?? null, max: sorted.at(-1) ?? null };
}

function seconds(ms: number | null): string {
  return ms === null ? '–' : `${(ms / 1000).toFixed(1)} s`;
}
