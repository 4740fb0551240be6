import { readSettings, type Setting } from '@millrace/wire';
import { type DestinationStream, type Logger, pino } from 'pino';
import * as z from 'zod';
import { type Colour, painter, wantsColour } from './colours.ts';
import { harmless } from './harmless.ts';
import { localTime } from './time.ts';

const levelNames = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

const settings = {
  level: {
    env: 'LOG_LEVEL',
    schema: z.enum(levelNames, `must be one of ${levelNames.join(', ')}`).default('info'),
    help: "How much of the program's own log is shown.",
  } satisfies Setting<(typeof levelNames)[number]>,
};

/**
 * The log of our own programs: lines for people on a terminal, one JSON object per line otherwise.
 *
 * @throws MillraceError `CONFIG_INVALID` when `LOG_LEVEL` is none
 */
export function programLog(
  stream: NodeJS.WritableStream & { isTTY?: boolean },
  env: Record<string, string | undefined>,
): Logger {
  const { level } = readSettings(settings, env);
  const destination: DestinationStream = stream.isTTY
    ? { write: (line) => void stream.write(forPeople(line, wantsColour(stream, env))) }
    : { write: (line) => void stream.write(line) };
  return pino({ level, base: undefined, formatters: { level: (label) => ({ level: label }) } }, destination);
}

const colours: Record<string, Colour> = {
  warn: 'yellow',
  error: 'red',
  fatal: 'red',
  debug: 'dim',
  trace: 'dim',
};
/** Keys that have their own place in the line, or say nothing to a person. */
const placed = new Set(['level', 'time', 'msg', 'program', 'err']);

/** One line of pino's JSON as `14:03:09.120 warn  agent the message key=value`. */
export function forPeople(json: string, colourful: boolean): string {
  let line: Record<string, unknown>;
  try {
    line = JSON.parse(json);
  } catch {
    return harmless(json.trimEnd()).concat('\n');
  }
  const paint = painter(colourful);
  const level = String(line.level);
  const rest = Object.entries(line)
    .filter(([key]) => !placed.has(key))
    .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  const error = line.err as { message?: unknown } | undefined;
  if (error?.message !== undefined) rest.push(`error=${String(error.message)}`);
  const head = [
    paint('dim', localTime(Number(line.time), Date.now())),
    colours[level] ? paint(colours[level], level.padEnd(5)) : level.padEnd(5),
  ];
  if (line.program !== undefined) head.push(paint('cyan', harmless(String(line.program)).padEnd(5)));
  const tail = rest.length > 0 ? ` ${paint('dim', harmless(rest.join(' ')))}` : '';
  return `${head.join(' ')} ${harmless(String(line.msg ?? ''))}${tail}\n`;
}
