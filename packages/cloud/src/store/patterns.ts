import { setImmediate as nextTurn } from 'node:timers/promises';
import { type Level, levels, lineId, MillraceError, type Pattern, type Patterns } from '@millrace/wire';
import { PatternMiner, wildcard } from '../patterns/miner.ts';
import type { Scope } from '../query/index.ts';
import { conditionsSql, type LineConditions, whereSql } from './conditions.ts';
import type { Select } from './log-reader.ts';
import { integer, string } from './sql.ts';

export interface PatternsQuery extends LineConditions {
  /** Most patterns, 1 to {@link maxPatterns}. */
  limit: number;
}

export const maxPatterns = 1000;

export interface PatternLimits {
  /** Lines that are looked at; of more, an even sample. */
  examinedLines: number;
  /** Different texts, numbers aside, that are clustered each for itself: the most frequent. */
  frequentTexts: number;
  /** Of the others, so many by chance, which stand for all of them. */
  rareTexts: number;
}

const standardLimits: PatternLimits = { examinedLines: 1_000_000, frequentTexts: 8000, rareTexts: 4000 };

/** Of a message's first line. What follows is mostly a stack trace. */
const maxTextChars = 500;
const maxExampleChars = 2000;
/** Texts that are clustered before the process turns to others. */
const textsPerTurn = 200;

interface TextRow {
  text: string;
  lines: number;
  isFrequent: number;
  examined: number;
  debug: number;
  info: number;
  warn: number;
  error: number;
  firstMs: number;
  lastMs: number;
  device: string;
  journal: string;
  seq: number;
  message: string;
}

/**
 * Clusters lines by how they read, in two steps, each where it is cheap: the engine replaces what is a number or an id
 * and counts what is then equal, on all cores; the few thousand texts that are left are clustered here.
 */
export async function readPatterns(
  select: Select,
  query: PatternsQuery,
  scope: Scope,
  limits = standardLimits,
): Promise<Patterns> {
  const { limit } = query;
  if (!Number.isInteger(limit) || limit < 1 || limit > maxPatterns) {
    throw new MillraceError('PARAMETER_INVALID', `limit: ${limit} is not between 1 and ${maxPatterns}`);
  }
  const where = conditionsSql(query, scope);
  const [counted] = await select<{ total: number }>(
    `SELECT count() AS total FROM millrace.logs ${whereSql(where)}`,
  );
  const total = counted?.total ?? 0;
  const every = Math.ceil(total / limits.examinedLines);
  // By what a line is, so that the same question gets the same answer.
  if (every > 1) where.push(`cityHash64(journal, seq) % ${integer(every)} = 0`);
  const rows = total === 0 ? [] : await select<TextRow>(textsSql(whereSql(where), limits));
  const examined = rows[0]?.examined ?? 0;
  const mined = await mine(rows, examined);
  return {
    patterns: mined.slice(0, limit).map((one) => patternOf(one, examined)),
    distinct: mined.length,
    // Lines may have come between the two statements.
    total: Math.max(total, examined),
    examined,
  };
}

/** What a program fills in: times, ids, addresses, numbers. RE2 knows no lookaround, hence the order. */
const values = (() => {
  const hex = '[0-9a-fA-F]';
  const time =
    '[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?';
  const uuid = `${hex}{8}(?:-${hex}{4}){3}-${hex}{12}`;
  const ipv4 = '[0-9]{1,3}(?:\\.[0-9]{1,3}){3}(?::[0-9]+)?';
  const ipv6 = `(?:${hex}{1,4}:){7}${hex}{1,4}|(?:${hex}{1,4}:){1,6}(?::${hex}{1,4}){1,6}`;
  const decimal = '[0-9]+(?:[.,][0-9]+)+';
  const hexadecimal = `0x${hex}+|[a-fA-F]*[0-9]${hex}*`;
  // With letters between digits, and not merely a unit behind them.
  const id = '[A-Za-z_]*[0-9]+[A-Za-z]+[0-9][0-9A-Za-z]*';
  return `\\b(?:${time}|${uuid}|${ipv4}|${ipv6})\\b|${decimal}|\\b(?:${hexadecimal}|${id})\\b|[0-9]+`;
})();

/**
 * The text that a message is recognised by: its first line; of a JSON object, which loggers write, what they call the
 * message.
 */
const textSql = (() => {
  const named = ['msg', 'message', 'event'].map(
    (key) => `nullIf(JSONExtractString(message, ${string(key)}), '')`,
  );
  const whole = `if(startsWith(message, '{'), coalesce(${named.join(', ')}, message), message)`;
  const firstLine = `substringIndex(substringUTF8(trimLeft(${whole}, ${string(' \t\r\n')}), 1, ${maxTextChars}), ${string('\n')}, 1)`;
  return `replaceRegexpAll(${firstLine}, ${string(values)}, ${string(wildcard)})`;
})();

function textsSql(where: string, { frequentTexts, rareTexts }: PatternLimits): string {
  const perLevel = levels.map((level) => `countIf(level = ${string(level)}) AS ${level}`).join(', ');
  return `SELECT text, lines, examined, isFrequent, ${levels.join(', ')}, firstMs, lastMs,
  example.1 AS device, example.2 AS journal, example.3 AS seq, example.4 AS message
FROM (
  SELECT *, sum(lines) OVER () AS examined, row_number() OVER (ORDER BY lines DESC, text ASC) <= ${integer(frequentTexts)} AS isFrequent
  FROM (
    SELECT ${textSql} AS text, count() AS lines, ${perLevel},
      toUnixTimestamp64Milli(min(ts)) AS firstMs, toUnixTimestamp64Milli(max(ts)) AS lastMs,
      argMax((device, journal, seq, substringUTF8(message, 1, ${maxExampleChars})), (ts, device, journal, seq)) AS example
    FROM millrace.logs ${where} GROUP BY text
  )
)
ORDER BY isFrequent DESC, if(isFrequent, -toInt64(lines), 0), if(isFrequent, 0, cityHash64(text)), text
LIMIT ${integer(frequentTexts + rareTexts)}`;
}

interface Mined {
  text: string;
  lines: number;
  members: Member[];
}
interface Member {
  row: TextRow;
  /** Texts that this one stands for, itself included. */
  weight: number;
}

async function mine(rows: readonly TextRow[], examined: number): Promise<Mined[]> {
  const sumOf = (some: readonly TextRow[]) => some.reduce((sum, { lines }) => sum + lines, 0);
  const frequentLines = sumOf(rows.filter(({ isFrequent }) => isFrequent === 1));
  const rareLines = sumOf(rows) - frequentLines;
  const rareWeight = rareLines === 0 ? 1 : (examined - frequentLines) / rareLines;
  const miner = new PatternMiner<Member>();
  for (const [i, row] of rows.entries()) {
    if (i % textsPerTurn === 0) await nextTurn();
    const weight = row.isFrequent === 1 ? 1 : rareWeight;
    miner.add(row.text, row.lines * weight, { row, weight });
  }
  return miner.patterns();
}

function patternOf({ text, lines, members }: Mined, examined: number): Pattern {
  const rows = members.map(({ row }) => row);
  const newest = rows.reduce((a, b) => (b.lastMs > a.lastMs ? b : a));
  const ofLevel = (level: Level) =>
    Math.round(members.reduce((sum, { row, weight }) => sum + row[level] * weight, 0));
  return {
    pattern: text,
    count: Math.round(lines),
    share: lines / examined,
    levels: {
      debug: ofLevel('debug'),
      info: ofLevel('info'),
      warn: ofLevel('warn'),
      error: ofLevel('error'),
    },
    firstSeen: rows.reduce((first, { firstMs }) => Math.min(first, firstMs), Number.POSITIVE_INFINITY),
    lastSeen: newest.lastMs,
    example: {
      id: lineId(newest.journal, newest.seq),
      device: newest.device,
      timestamp: newest.lastMs,
      message: newest.message,
    },
  };
}
