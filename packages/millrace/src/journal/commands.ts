import { once } from 'node:events';
import { inspectJournal, type SegmentReport } from '@millrace/agent/journal';
import { countOf, type LogMessage, levels } from '@millrace/wire';
import { formatLocalLine } from '../logs/format.ts';
import { type Paint, painter, wantsColour } from '../terminal/colours.ts';
import { openJournalFolder } from './folder.ts';

export interface JournalContext {
  env: Record<string, string | undefined>;
  stdout: NodeJS.WriteStream;
  /** Ends the command early, without an error. */
  signal: AbortSignal;
}

/** `millrace journal ls`: the segments, a line each. */
export async function listJournal(dir: string, json: boolean, context: JournalContext): Promise<void> {
  const rows: string[][] = [];
  for (const { report } of inspectJournal(openJournalFolder(dir))) {
    if (json) await write(context, `${JSON.stringify(report)}\n`);
    else rows.push(rowOf(report));
  }
  if (json) return;
  const head = ['segment', 'bytes', 'lines', 'seqs', ...levels, 'from', 'to', ''];
  await write(context, table([head, ...rows]));
}

/** `millrace journal cat`: every line that can be read, oldest first. */
export async function printJournal(dir: string, json: boolean, context: JournalContext): Promise<void> {
  const colourful = wantsColour(context.stdout, context.env);
  const format = (line: LogMessage) =>
    json ? `${JSON.stringify(line)}\n` : formatLocalLine(line, colourful);
  for (const { batches } of inspectJournal(openJournalFolder(dir))) {
    for (const batch of batches) {
      if (context.signal.aborted) return;
      await write(context, batch.messages().map(format).join(''));
    }
  }
}

/**
 * `millrace journal verify`: reads everything and says what is wrong.
 *
 * @returns true when nothing is
 */
export async function verifyJournal(dir: string, json: boolean, context: JournalContext): Promise<boolean> {
  const paint = painter(wantsColour(context.stdout, context.env));
  const total = { segments: 0, bytes: 0, lines: 0, damaged: 0, damagedBytes: 0, missing: 0, shed: 0 };
  for (const { report } of inspectJournal(openJournalFolder(dir))) {
    total.segments++;
    total.bytes += report.bytes;
    total.lines += report.lines;
    total.shed += countOf(report.shed);
    total.damaged += report.damage.length;
    for (const { bytes } of report.damage) total.damagedBytes += bytes;
    for (const { first, last } of report.missing) total.missing += last - first + 1;
    if (!json) await write(context, findings(report, paint));
  }
  const intact = total.damaged === 0 && total.missing === 0;
  if (json) await write(context, `${JSON.stringify({ ...total, intact })}\n`);
  else {
    const { segments, bytes, lines, shed, damaged, missing } = total;
    const gone = shed > 0 ? ` (${shed} shed)` : '';
    const read = `${segments} segments, ${bytes} bytes, ${lines} lines${gone}`;
    const verdict = intact
      ? paint('green', 'intact')
      : paint('red', `${damaged} damaged places, ${missing} lines missing`);
    await write(context, `${read}: ${verdict}\n`);
  }
  return intact;
}

function findings(report: SegmentReport, paint: Paint): string {
  const lines: string[] = [];
  for (const { offset, bytes, where } of report.damage) {
    lines.push(`${report.name}: ${paint('red', 'damaged')} ${where}, ${bytes} bytes at ${offset}`);
  }
  for (const { journal, first, last } of report.missing) {
    const range = first === last ? `seq ${first}` : `seq ${first} to ${last}`;
    lines.push(`${report.name}: ${paint('red', 'missing')} ${range} of journal ${journal}`);
  }
  return lines.map((line) => `${line}\n`).join('');
}

function rowOf(report: SegmentReport): string[] {
  const { name, bytes, lines, firstSeq, lastSeq, fromMs, toMs, shed, damage, missing } = report;
  const wrong = [
    damage.length > 0 && `damaged ×${damage.length}`,
    missing.length > 0 && 'lines missing',
    countOf(shed) > 0 && `${countOf(shed)} shed`,
  ];
  return [
    name,
    String(bytes),
    String(lines),
    firstSeq === undefined ? '-' : `${firstSeq}–${lastSeq}`,
    ...report.levels.map(String),
    moment(fromMs),
    moment(toMs),
    wrong.filter(Boolean).join(', '),
  ];
}

function moment(ms: number | undefined): string {
  return ms === undefined ? '-' : new Date(ms).toISOString().slice(0, 19);
}

/** Columns of text, numbers to the right. */
function table(rows: readonly string[][]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? '').length)),
  );
  const cell = (text: string, column: number) => {
    const width = widths[column] ?? 0;
    return /^\d+$/.test(text) ? text.padStart(width) : text.padEnd(width);
  };
  return rows.map((row) => `${row.map(cell).join('  ').trimEnd()}\n`).join('');
}

async function write({ stdout, signal }: JournalContext, text: string): Promise<void> {
  if (text === '' || signal.aborted || stdout.write(text)) return;
  // A pipe that was closed never drains.
  await once(stdout, 'drain', { signal }).catch(() => undefined);
}
