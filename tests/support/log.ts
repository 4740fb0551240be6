import { type Logger, pino } from 'pino';

export interface LogLine {
  level: number;
  msg: string;
  [key: string]: unknown;
}

/** A logger that keeps what it is told, for tests that look at it. */
export interface CapturedLog {
  log: Logger;
  lines: readonly LogLine[];
  /** Everything, as it would have been written. */
  text: () => string;
  /** Messages of one level: 20 debug, 30 info, 40 warn, 50 error. */
  messages: (level: number) => string[];
}

export function captureLog(level = 'debug'): CapturedLog {
  const lines: LogLine[] = [];
  const raw: string[] = [];
  const log = pino(
    { level },
    {
      write(text: string) {
        raw.push(text);
        lines.push(JSON.parse(text) as LogLine);
      },
    },
  );
  return {
    log,
    lines,
    text: () => raw.join(''),
    messages: (wanted) => lines.filter((line) => line.level === wanted).map((line) => line.msg),
  };
}
