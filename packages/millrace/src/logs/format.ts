import type { Level, LogMessage, StoredLine } from '@millrace/wire';
import { type Colour, type Paint, painter } from '../terminal/colours.ts';
import { harmless } from '../terminal/harmless.ts';
import { localTime } from '../terminal/time.ts';

export interface LineStyle {
  /** As the server gave it, one JSON object per line. */
  json: boolean;
  colourful: boolean;
}

const colours: Record<Level, Colour> = { debug: 'dim', info: 'green', warn: 'yellow', error: 'red' };

/** `14:03:09.120 1a2b3c4d web info  the message`, newline included. The full date is shown where colours are not. */
export function formatLine(line: StoredLine, { json, colourful }: LineStyle, nowMs = Date.now()): string {
  if (json) return `${JSON.stringify(line)}\n`;
  const [time, ...rest] = columns(line, colourful, nowMs);
  return [time, painter(colourful)('blue', shortDevice(line.device)), ...rest].join(' ');
}

/** The same for a line on the device itself: without the device. */
export function formatLocalLine(line: LogMessage, colourful: boolean, nowMs = Date.now()): string {
  return columns(line, colourful, nowMs).join(' ');
}

function columns(line: LogMessage, colourful: boolean, nowMs: number): string[] {
  const paint = painter(colourful);
  return [
    paint('dim', localTime(line.timestamp, colourful ? nowMs : undefined)),
    paint('cyan', harmless(line.serviceName ?? line.source.name)),
    paint(colours[line.level] ?? 'dim', line.level.padEnd(5)),
    `${colourful ? overLines(line.message, paint) : harmless(line.message)}\n`,
  ];
}

/**
 * A message of several lines (a stack trace) as it was printed; the bar tells what continues it from a line of its
 * own. In a pipe it stays on one line, which other programs take for one message.
 */
function overLines(message: string, paint: Paint): string {
  const [first = '', ...rest] = message.split('\n').map((line) => harmless(line, { keepColours: true }));
  return [first, ...rest.map((line) => `${paint('dim', '│')} ${line}`)].join('\n');
}

/** A made-up uuid is told from others by its beginning; a name that a person chose is left whole. */
export function shortDevice(device: string): string {
  return harmless(/^[0-9a-f]{8}-?[0-9a-f-]{20,}$/i.test(device) ? device.slice(0, 8) : device);
}
