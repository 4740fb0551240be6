import { encodeHeader, encodeLine, type LogMessage, normaliseMessage, parseLineId } from '@millrace/wire';

interface Placed {
  journal: string;
  seq: number;
  line: LogMessage;
}

/**
 * The lines of a report as batches of the journal that they come from, so that the ingest recognises those that came
 * another way, or with the report before. Lines of no journal come behind them, without a batch.
 */
export function asBatches(lines: readonly unknown[], receivedMs: number): Buffer {
  const placed = new Map<string, Placed>();
  const loose: LogMessage[] = [];
  for (const value of lines) {
    const line = normaliseMessage(value, receivedMs);
    const place = parseLineId((value as { id?: unknown }).id);
    if (place) placed.set(line.id, { ...place, line });
    else loose.push(line);
  }
  const inOrder = [...placed.values()].sort(
    (a, b) => Number(a.journal > b.journal) - Number(a.journal < b.journal) || a.seq - b.seq,
  );
  const parts: string[] = [];
  for (let from = 0; from < inOrder.length; ) {
    const { journal, seq } = inOrder[from] as Placed;
    let to = from + 1;
    while (inOrder[to]?.journal === journal && inOrder[to]?.seq === seq + to - from) to += 1;
    // When they were sealed is not known, hence 0: the report's lines say nothing about the device's clock.
    parts.push(encodeHeader({ journal, first: seq, count: to - from, sealed: 0 }));
    for (const { line } of inOrder.slice(from, to)) parts.push(encodeLine(line), '\n');
    from = to;
  }
  for (const line of loose) parts.push(encodeLine(line), '\n');
  return Buffer.from(parts.join(''));
}
