import { MillraceError } from '@millrace/wire';
import { encodeRows, forEachRowLine } from '../store/row-format.ts';
import type { EncodedRun, Flight } from './flight.ts';
import { rawLine, rewriteLine } from './strange-lines.ts';

const newline = 0x0a;

/** The part of a run from line `skip` on, `count` lines long. A view. */
export function sliceRun(run: EncodedRun, skip: number, count: number): EncodedRun {
  const start = lineOffset(run.rows, 0, skip);
  const end = lineOffset(run.rows, start, count);
  return { ...run, firstSeq: run.firstSeq + skip, count, rows: run.rows.subarray(start, end) };
}

/** The lines of a run whose seqs are not among those stored, as runs. */
export function withoutStored(run: EncodedRun, stored: ReadonlySet<number>): EncodedRun[] {
  const out: EncodedRun[] = [];
  let start = -1;
  for (let i = 0; i <= run.count; i++) {
    const missing = i < run.count && !stored.has(run.firstSeq + i);
    if (missing && start < 0) start = i;
    if (!missing && start >= 0) {
      out.push(start === 0 && i === run.count ? run : sliceRun(run, start, i - start));
      start = -1;
    }
  }
  return out;
}

/**
 * The one line of a run in a plainer form, for when the store refused it: first taken apart and written anew by
 * ourselves, then as mere ASCII text, at last without its text. The row format makes a refusal next to impossible;
 * this is for what nobody thought of, since one line must never hold up all the others.
 */
export function plainerLine(run: EncodedRun, flight: Flight): EncodedRun {
  let line: Uint8Array | undefined;
  forEachRowLine(run.rows, (bytes) => {
    line ??= bytes;
  });
  if (run.count !== 1 || !line) throw new MillraceError('INTERNAL', 'only a single line can be made plainer');
  const { device, journal, firstSeq, count, retention, refusals } = run;
  const lines = Buffer.from(`${plainer(line, refusals, flight.receivedMs)}\n`);
  const stamp = { receivedMs: flight.receivedMs, retention };
  const rows = encodeRows({ device, journal, firstSeq, count, lines }, stamp);
  return { ...run, rows, refusals: refusals + 1 };
}

function plainer(line: Uint8Array, refusals: number, receivedMs: number): string {
  if (refusals === 0) return rewriteLine(line, receivedMs).text;
  if (refusals === 1)
    return rawLine(
      Buffer.from(line)
        .toString('latin1')
        .replace(/[^ -~]/g, '?'),
      receivedMs,
    );
  return rawLine(`[a line of ${line.length} bytes that the log store refused]`, receivedMs);
}

/** Where the line after `lines` more lines begins. */
export function lineOffset(bytes: Uint8Array, from: number, lines: number): number {
  let at = from;
  for (let i = 0; i < lines; i++) at = bytes.indexOf(newline, at) + 1;
  return at;
}
