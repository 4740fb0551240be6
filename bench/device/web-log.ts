import { createWriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';

/** Of an entry in a file of Docker's json-file driver, its newline included. */
export const entryBytes = 242;

/** An access log's text instead of JSON: the stream says which is an error. */
export function textEntry(n: number, ms: number): string {
  const { stream } = lineOf(n, '');
  const id = idOf(n);
  const text = `10.0.${id % 256}.${n % 256} - user-${id % 5000} "GET /api/orders/${id % 100_000} HTTP/1.1" 200 ${id % 9000}`;
  const bare = entryOf({ text, stream }, timeOf(n, 0));
  const pad = '.'.repeat(Math.max(0, entryBytes - 1 - bare.length));
  return `${entryOf({ text: text + pad, stream }, timeOf(n, ms))}\n`;
}

/** A line of a web server: JSON, most of which differs from line to line; each fifth on stderr. */
export interface WebLine {
  text: string;
  stream: 'stdout' | 'stderr';
}

/** Line `n`, so long that its entry has {@link entryBytes}. */
export function webLine(n: number): WebLine {
  const bare = entryOf(lineOf(n, ''), timeOf(n, 0));
  return lineOf(n, '.'.repeat(Math.max(0, entryBytes - 1 - bare.length)));
}

/** The entry that the engine's driver json-file writes of line `n`, with its newline. */
export function webEntry(n: number, ms: number): string {
  return `${entryOf(webLine(n), timeOf(n, ms))}\n`;
}

/** Writes `lines` pieces of text, as fast as the disk takes them. */
export async function writeLines(path: string, lines: number, text: (n: number) => string): Promise<void> {
  const file = createWriteStream(path, { highWaterMark: 1024 * 1024 });
  let waiting = '';
  for (let n = 0; n < lines; n++) {
    waiting += text(n);
    if (waiting.length < 1024 * 1024 && n < lines - 1) continue;
    if (!file.write(waiting)) await new Promise<void>((resolve) => file.once('drain', resolve));
    waiting = '';
  }
  file.end();
  await finished(file);
}

function lineOf(n: number, pad: string): WebLine {
  const id = idOf(n);
  const isError = n % 5 === 4;
  const message = {
    level: isError ? 'error' : 'info',
    msg: `GET /api/orders/${id % 100_000} ${isError ? 500 : 200}`,
    request: id.toString(16).padStart(8, '0'),
    ms: (id % 9000) / 100,
    user: `user-${id % 5000}`,
    pad,
  };
  return { text: JSON.stringify(message), stream: isError ? 'stderr' : 'stdout' };
}

function idOf(n: number): number {
  return (n * 2_654_435_761) % 4_294_967_296;
}

function timeOf(n: number, ms: number): string {
  const digits = String(100_001 + (idOf(n) % 800_000)).slice(0, 6);
  return `${new Date(ms).toISOString().slice(0, -1)}${digits}Z`;
}

function entryOf({ text, stream }: WebLine, time: string): string {
  return JSON.stringify({ log: `${text}\n`, stream, time });
}
