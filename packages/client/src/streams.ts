import type { StoredLine } from '@millrace/wire';
import type { Connection } from './connection.ts';
import { readEvents } from './event-stream.ts';

/**
 * What a tail gives: a line, how many were left out because we were too slow, or that lines may be missing, since
 * one of the cloud's processes came or went. A search finds what is missing.
 */
export type TailEvent = { line: StoredLine } | { skipped: number } | { gap: true };

/** A file that is coming. */
export interface ExportFile {
  /** How many lines it will have. */
  lines: number;
  contentType: string;
  /** As the server would call it. */
  name: string;
  /** Ends when the file is whole, and throws when it breaks off. */
  bytes: AsyncGenerator<Uint8Array>;
}

/** Longest line that is read, in UTF-16 units: more means that something is wrong. */
const maxLineChars = 8 * 1024 * 1024;

export async function* tailEvents(
  connection: Connection,
  response: Response,
  signal: AbortSignal | undefined,
): AsyncGenerator<TailEvent> {
  for await (const { type, data } of readEvents(connection.bytes(response, signal))) {
    if (type === 'log' || type === 'message') yield { line: parsed<StoredLine>(connection, data) };
    else if (type === 'skipped')
      yield { skipped: Number(parsed<{ count?: unknown }>(connection, data).count) };
    else if (type === 'gap') yield { gap: true };
  }
}

export function exportFile(
  connection: Connection,
  response: Response,
  signal: AbortSignal | undefined,
): ExportFile {
  const { headers } = response;
  return {
    lines: Number(headers.get('millrace-lines') ?? Number.NaN),
    contentType: headers.get('content-type') ?? '',
    name: /filename="([^"]+)"/.exec(headers.get('content-disposition') ?? '')?.[1] ?? 'export',
    bytes: connection.bytes(response, signal),
  };
}

/** The objects of NDJSON. Empty lines are heartbeats. */
export async function* objectsOf<T>(
  connection: Connection,
  bytes: AsyncIterable<Uint8Array>,
): AsyncGenerator<T> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of bytes) {
    rest += decoder.decode(chunk, { stream: true });
    let start = 0;
    for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n', start)) {
      if (end > start) yield parsed<T>(connection, rest.slice(start, end));
      start = end + 1;
    }
    rest = rest.slice(start);
    if (rest.length > maxLineChars) throw connection.stranger();
  }
  if (rest !== '') throw connection.stranger();
}

function parsed<T>(connection: Connection, text: string): T {
  try {
    return JSON.parse(text) as T;
  } catch (error) {
    throw connection.stranger(error);
  }
}
