import type { DeploymentState } from '@millrace/wire';
import { type Colour, painter, wantsColour } from '../terminal/colours.ts';
import { harmless } from '../terminal/harmless.ts';
import type { Outcome, ProgressSeen } from './outcome.ts';

export interface ProgressPrinter {
  show(seen: ProgressSeen): void;
  end(outcome: Outcome): void;
}

type Output = NodeJS.WritableStream & { isTTY?: boolean; columns?: number };

const colours: Record<DeploymentState, Colour> = {
  waiting: 'dim',
  updating: 'yellow',
  done: 'green',
  failed: 'red',
};
/** Rows that are shown in place. */
const maxRows = 12;

/** On a terminal the progress is drawn over itself; anywhere else each change is a line. */
export function progressPrinter(
  stdout: Output,
  { env, isJson }: { env: Record<string, string | undefined>; isJson: boolean },
): ProgressPrinter {
  if (isJson) return new JsonLines(stdout);
  const paint = painter(wantsColour(stdout, env));
  return stdout.isTTY && env.TERM !== 'dumb' ? new Drawing(stdout, paint) : new PlainLines(stdout, paint);
}

type Paint = ReturnType<typeof painter>;

function rowText({ name, state, detail }: ProgressSeen['rows'][number], paint: Paint): string {
  return `${harmless(name)}: ${paint(colours[state], state)}${detail === '' ? '' : ` ${harmless(detail)}`}`;
}

function outcomeText({ isGood, text }: Outcome, paint: Paint): string {
  return `${paint(isGood ? 'green' : 'red', harmless(text))}\n`;
}

class PlainLines implements ProgressPrinter {
  readonly #stdout: Output;
  readonly #paint: Paint;
  readonly #shown = new Map<string, string>();
  #summary = '';

  constructor(stdout: Output, paint: Paint) {
    this.#stdout = stdout;
    this.#paint = paint;
  }

  show({ rows, summary }: ProgressSeen): void {
    for (const row of rows) {
      // Each percent would be a line.
      const text = rowText({ ...row, detail: row.detail.replace(/ \d+ %$/, '') }, this.#paint);
      if (this.#shown.get(row.name) === text) continue;
      // That most of a fleet waits is in the summary.
      if (row.state !== 'waiting' || rows.length === 1) this.#stdout.write(`${text}\n`);
      this.#shown.set(row.name, text);
    }
    if (summary !== this.#summary) this.#stdout.write(`${summary}\n`);
    this.#summary = summary;
  }

  end(outcome: Outcome): void {
    this.#stdout.write(outcomeText(outcome, this.#paint));
  }
}

class Drawing implements ProgressPrinter {
  readonly #stdout: Output;
  readonly #paint: Paint;
  #lines = 0;

  constructor(stdout: Output, paint: Paint) {
    this.#stdout = stdout;
    this.#paint = paint;
  }

  show({ rows, summary }: ProgressSeen): void {
    const order: DeploymentState[] = ['failed', 'updating', 'waiting', 'done'];
    const sorted = rows.toSorted((a, b) => order.indexOf(a.state) - order.indexOf(b.state));
    const width = (this.#stdout.columns ?? 80) - 3;
    const shown = sorted.slice(0, maxRows).map((row) => {
      // A line that wraps could not be drawn over.
      const room = Math.max(0, width - harmless(row.name).length - row.state.length - 3);
      return `  ${rowText({ ...row, detail: harmless(row.detail).slice(0, room) }, this.#paint)}`;
    });
    if (rows.length > maxRows) shown.push(this.#paint('dim', `  and ${rows.length - maxRows} more`));
    const text = [...shown, this.#paint('bold', summary)].map((line) => `\x1b[K${line}\n`).join('');
    const up = this.#lines > 0 ? `\x1b[${this.#lines}A` : '';
    // Fewer lines than before would leave some behind.
    this.#stdout.write(`${up}${text}\x1b[J`);
    this.#lines = shown.length + 1;
  }

  end(outcome: Outcome): void {
    this.#stdout.write(outcomeText(outcome, this.#paint));
  }
}

class JsonLines implements ProgressPrinter {
  readonly #stdout: Output;
  #shown = '';

  constructor(stdout: Output) {
    this.#stdout = stdout;
  }

  show({ rows, summary }: ProgressSeen): void {
    const text = JSON.stringify({ progress: { summary, rows } });
    if (text !== this.#shown) this.#stdout.write(`${text}\n`);
    this.#shown = text;
  }

  end(outcome: Outcome): void {
    this.#stdout.write(`${JSON.stringify({ outcome })}\n`);
  }
}
