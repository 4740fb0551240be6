import type { Level, LogInput } from '@millrace/wire';
import { type Logger, pino } from 'pino';

/** Where the agent's own lines go besides its output. */
export interface OwnLogSink {
  append(line: LogInput): void;
  /** Set while the sink is full: the agent's own lines must not pile up before it. */
  ready(): Promise<void> | undefined;
}

const maxEarlyLines = 1000;
const maxLineFields = 32;
const infoLevel = 30;

/**
 * The agent's own log, which it ships like any other, as source `manager`. Lines from before the journal is open
 * are held back, up to a bound.
 */
export class OwnLog {
  readonly log: Logger;
  #sink: OwnLogSink | undefined;
  #early: LogInput[] = [];
  #dropped = 0;

  /** `output` is where people read the log; every line goes there too. */
  constructor(output: Logger) {
    // What is worth showing is decided by our own level; a part that was asked for more detail has a child below it.
    const shown = output.child({}, { level: 'trace' });
    this.log = pino(
      { level: output.level, base: undefined },
      {
        write: (json) => {
          const { level, time, msg, ...fields } = JSON.parse(json) as PinoLine;
          shown[pino.levels.labels[level] as 'info'](fields, msg ?? '');
          if (level >= infoLevel) this.#take(ownLine({ level, time, msg, fields }));
        },
      },
    );
  }

  attach(sink: OwnLogSink): void {
    this.#sink = sink;
    for (const line of this.#early) sink.append(line);
    this.#early = [];
  }

  detach(): void {
    this.#sink = undefined;
  }

  #take(line: LogInput): void {
    if (!this.#sink) {
      if (this.#early.length < maxEarlyLines) this.#early.push(line);
      return;
    }
    if (this.#sink.ready()) {
      this.#dropped++;
      return;
    }
    if (this.#dropped > 0) {
      const message = `${this.#dropped} lines of the agent's own log were dropped: the journal was full`;
      this.#dropped = 0;
      this.#sink.append({ ...line, message, level: 'warn', fields: undefined });
    }
    this.#sink.append(line);
  }
}

interface PinoLine {
  level: number;
  time: number;
  msg?: string;
  [field: string]: unknown;
}

function ownLine(line: { level: number; time: number; msg?: string; fields: object }): LogInput {
  const fields = Object.fromEntries(Object.entries(line.fields).slice(0, maxLineFields));
  return {
    message: line.msg ?? '',
    timestamp: line.time,
    level: levelOf(line.level),
    source: { type: 'manager', name: 'agent' },
    serviceName: 'manager',
    ...(Object.keys(fields).length > 0 && { fields }),
  };
}

function levelOf(level: number): Level {
  if (level >= 50) return 'error';
  if (level >= 40) return 'warn';
  return level >= 30 ? 'info' : 'debug';
}
