/** The four severities, least severe first. The position is the number used in batch headers. */
export const levels = ['debug', 'info', 'warn', 'error'] as const;

export type Level = (typeof levels)[number];

/** Count of lines per level, in the order of {@link levels}. */
export type LevelCounts = [debug: number, info: number, warn: number, error: number];

/** Counts per level of no lines. */
export function noLevels(): LevelCounts {
  return [0, 0, 0, 0];
}

/** Lines of all levels together. */
export function countOf(counts: LevelCounts): number {
  return counts[0] + counts[1] + counts[2] + counts[3];
}

/** Adds up per level. */
export function sumLevels(a: LevelCounts, b: LevelCounts): LevelCounts {
  return [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]];
}

const rank: Record<Level, number> = { debug: 0, info: 1, warn: 2, error: 3 };

/** 0 for debug … 3 for error. */
export function levelRank(level: Level): number {
  return rank[level];
}

export function isLevel(value: unknown): value is Level {
  return typeof value === 'string' && Object.hasOwn(rank, value);
}

/** What a line's level is when nothing says otherwise: stderr is `error`, stdout `info`. */
export function defaultLevel(isStdErr: boolean): Level {
  return isStdErr ? 'error' : 'info';
}

const aliases: Record<string, Level> = {
  trace: 'debug',
  verbose: 'debug',
  debug: 'debug',
  info: 'info',
  information: 'info',
  notice: 'info',
  log: 'info',
  warn: 'warn',
  warning: 'warn',
  err: 'error',
  error: 'error',
  critical: 'error',
  crit: 'error',
  alert: 'error',
  emerg: 'error',
  fatal: 'error',
  panic: 'error',
};

/** Maps the spellings that other loggers use (any case) onto a level; `undefined` when it is none of them. */
export function parseLevel(value: unknown): Level | undefined {
  if (typeof value !== 'string') return undefined;
  const key = value.trim().toLowerCase();
  return Object.hasOwn(aliases, key) ? aliases[key] : undefined;
}

/** A severity of syslog, 0 emergency to 7 debug. */
export function syslogLevel(severity: number): Level {
  if (severity <= 3) return 'error';
  if (severity === 4) return 'warn';
  return severity >= 7 ? 'debug' : 'info';
}

/**
 * Numbers as pino and bunyan give them (10 trace, 20 debug, 30 info, 40 warn, 50 error, 60 fatal), as Monolog does
 * (100 … 600), or as syslog and GELF do (0 emergency … 7 debug). `undefined` for one that is none of these.
 */
export function numberLevel(value: number): Level | undefined {
  if (value < 8) return value >= 0 ? syslogLevel(value) : undefined;
  if (!(value >= 10 && value < 1000)) return undefined;
  const step = value < 100 ? value : value / 10 + 10;
  if (step >= 50) return 'error';
  if (step >= 40) return 'warn';
  return step >= 30 ? 'info' : 'debug';
}

/** What a value says that somebody gave as a level: a word, a number, or one as text. */
export function levelOfValue(value: unknown): Level | undefined {
  if (typeof value === 'number') return numberLevel(value);
  if (typeof value === 'string' && /^\d{1,3}$/.test(value)) return numberLevel(Number(value));
  return parseLevel(value);
}

/**
 * Reads a level filter: `error`, a list `warn,error`, or `warn+` for that level and everything above it.
 * Returns the levels chosen, or `undefined` when a part is no level.
 */
export function parseLevelFilter(value: string): Level[] | undefined {
  const chosen = new Set<Level>();
  for (const part of value.split(',')) {
    const andAbove = part.endsWith('+');
    const level = parseLevel(andAbove ? part.slice(0, -1) : part);
    if (level === undefined) return undefined;
    if (andAbove) for (const other of levels) if (rank[other] >= rank[level]) chosen.add(other);
    chosen.add(level);
  }
  return levels.filter((level) => chosen.has(level));
}
