import { harmless } from './harmless.ts';

export interface Column<T> {
  title: string;
  of: (row: T) => string;
  paint?: (text: string, row: T) => string;
}

/** Rows below each other. What they hold may come from devices, and is made safe to print. */
export function table<T>(
  columns: readonly Column<T>[],
  rows: readonly T[],
  paintTitle: (text: string) => string,
) {
  const cells = rows.map((row) => columns.map((column) => harmless(column.of(row))));
  const widths = columns.map(({ title }, i) =>
    Math.max(title.length, ...cells.map((cell) => cell[i]?.length ?? 0)),
  );
  const last = columns.length - 1;
  const padded = (text: string, i: number) => (i === last ? text : text.padEnd(widths[i] ?? 0));
  const head = paintTitle(columns.map(({ title }, i) => padded(title, i)).join('  '));
  const lines = cells.map((cell, at) =>
    cell
      .map((text, i) => {
        const shown = padded(text, i);
        const row = rows[at];
        return row === undefined ? shown : (columns[i]?.paint?.(shown, row) ?? shown);
      })
      .join('  ')
      .trimEnd(),
  );
  return `${[head, ...lines].join('\n')}\n`;
}
