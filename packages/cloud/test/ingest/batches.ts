import { encodeHeader, encodeLine } from '@millrace/wire';

/** NDJSON of the lines `first` to `last` of a journal, each saying its own seq. */
export function batch(
  journal: string,
  first: number,
  last: number,
  text = (seq: number) => `line ${seq}`,
): Buffer {
  const count = last - first + 1;
  const lines = Array.from({ length: count }, (_, i) =>
    encodeLine({ message: text(first + i), timestamp: 1_760_000_000_000 + first + i, serviceName: 'web' }),
  );
  const header = encodeHeader({ journal, first, count, levels: [0, count, 0, 0], sealed: 1_760_000_000_000 });
  return Buffer.from(`${header}${lines.join('\n')}\n`);
}

/** 1, 2, … `last`. */
export function upTo(last: number): number[] {
  return Array.from({ length: last }, (_, i) => i + 1);
}
