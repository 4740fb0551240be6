import type { Overlap } from '@millrace/wire';

/**
 * Lines that came under several journal ids without the far end having been told, or against what it was told.
 *
 * @param got by message the places under which the far end got it, as journal and seq
 * @param named by journal what its headers name
 */
export function untold(
  got: ReadonlyMap<string, ReadonlyMap<string, number>>,
  named: ReadonlyMap<string, readonly Overlap[]>,
): string[] {
  const from = (journal: string, of: string) => named.get(journal)?.find(([name]) => name === of)?.[1];
  const sharesAncestor = (a: string, b: string) =>
    (named.get(a) ?? []).some(([name]) => from(b, name) !== undefined);
  const out: string[] = [];
  for (const [message, places] of got) {
    for (const [a, seqA] of places) {
      for (const [b, seqB] of places) {
        if (a >= b) continue;
        const [fromA, fromB] = [from(b, a), from(a, b)];
        const told =
          fromA !== undefined ? fromA <= seqA : fromB !== undefined ? fromB <= seqB : sharesAncestor(a, b);
        if (!told) out.push(`${message}: ${a} ${seqA}, ${b} ${seqB}`);
      }
    }
  }
  return out;
}
