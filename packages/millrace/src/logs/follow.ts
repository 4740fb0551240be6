import { setTimeout as pause } from 'node:timers/promises';
import type { MillraceClient, TailEvent } from '@millrace/client';
import { MillraceError, type StoredLine } from '@millrace/wire';
import { type LogFilter, maxLimit, serverQuery, tailFilter } from './filter.ts';
import { KnownLines } from './known-lines.ts';

export interface FollowOptions {
  client: MillraceClient;
  filter: LogFilter;
  /** Most lines shown of what is there already. */
  limit: number;
  signal: AbortSignal;
  /** Told when the connection is lost and found again, and when we were too slow. */
  onNotice: (text: string) => void;
}

/** A device's lines may reach the server this much later than they were written. */
const slackMs = 30_000;
/** The tail shows a line as it arrives, the search once it is stored: the search is asked again after this long. */
const storedAfterMs = 1500;
const maxBackoffMs = 5_000;

/**
 * The newest lines there are, oldest first, and then every line that arrives. No line is missed or repeated where
 * the two meet, nor when the server restarts:
 *
 * - The tail is opened before the search is asked, so nothing falls between them; what both give is known by its id.
 * - A line that arrived just before the tail opened may not be stored yet when the search runs. So the search is
 *   asked once more a moment later.
 * - When the connection breaks, the server had to skip lines because we read too slowly, or one of its processes came
 *   or went, the search fills in from `slackMs` before that moment; at once, and again when all of it is stored.
 *
 * Ends when the signal is aborted.
 *
 * @throws MillraceError when the first connection fails, or the server refuses a later one for good
 */
export async function* follow(options: FollowOptions): AsyncGenerator<StoredLine> {
  const { client, filter, limit, signal, onNotice } = options;
  const known = new KnownLines();
  /** From where lines may be missing; `undefined` before the first connection. */
  let resumeMs: number | undefined;
  /** Lines from before were left out on purpose. */
  let floorMs = 0;
  let backoffMs = 500;

  while (!signal.aborted) {
    try {
      const openingMs = Date.now();
      const tail = await client.tail(tailFilter(filter), { signal });
      let fromMs: number;
      if (resumeMs === undefined) {
        fromMs = openingMs;
        const { logs } =
          limit > 0
            ? await client.search({ ...serverQuery(filter), limit, order: 'desc' }, { signal })
            : { logs: [] };
        // Lines older than the oldest shown were left out on purpose, and must not come back as missed ones.
        const oldest = logs.length === limit ? logs.at(-1)?.timestamp : undefined;
        if (limit > 0) fromMs = Math.max(openingMs - slackMs, filter.sinceMs ?? 0, (oldest ?? -1) + 1);
        // A device whose clock is ahead must not hide what others send from now on.
        fromMs = Math.min(fromMs, openingMs);
        floorMs = fromMs;
        for (const line of logs.reverse()) if (known.add(line)) yield line;
      } else {
        onNotice('connected again');
        const askedMs = yield* missed(options, known, resumeMs);
        fromMs = Math.max(floorMs, askedMs - slackMs);
      }
      resumeMs = fromMs;
      backoffMs = 500;
      let lateFromMs = fromMs;
      for await (const event of withLateSearch(tail, signal)) {
        if (event === 'search again') yield* missed(options, known, lateFromMs);
        else if ('line' in event) {
          if (known.add(event.line)) yield event.line;
          // By the line's time, since we may read long after it came; but a device's clock may be anywhere.
          const lineMs = Math.max(openingMs, Math.min(Date.now(), event.line.timestamp));
          resumeMs = Math.max(floorMs, lineMs - slackMs);
        } else {
          if ('skipped' in event) {
            onNotice(`${event.skipped} lines came faster than they were read here; fetching them`);
          }
          const askedMs = yield* missed(options, known, resumeMs);
          lateFromMs = Math.max(floorMs, askedMs - slackMs);
        }
      }
      if (!signal.aborted) onNotice('the server closed the connection; trying again');
    } catch (error) {
      if (signal.aborted) return;
      const mayPass = error instanceof MillraceError && error.status >= 500;
      if (resumeMs === undefined || !mayPass) throw error;
      if (backoffMs === 500) onNotice(`${error.detail}; trying again`);
    }
    // Full jitter, so that many followers do not come back at once.
    await pause(backoffMs * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
    backoffMs = Math.min(backoffMs * 2, maxBackoffMs);
  }
}

/** Lines from a time on that were not shown. Returns when the last of them were asked for. */
async function* missed(
  { client, filter, signal }: FollowOptions,
  known: KnownLines,
  fromMs: number,
): AsyncGenerator<StoredLine, number> {
  const window = { ...filter, sinceMs: Math.max(fromMs, filter.sinceMs ?? 0) };
  let cursor: string | undefined;
  let askedMs: number;
  do {
    askedMs = Date.now();
    const page = await client.search(
      { ...serverQuery(window), limit: maxLimit, order: 'asc', cursor },
      { signal },
    );
    for (const line of page.logs) if (known.add(line)) yield line;
    cursor = page.logs.length > 0 ? page.cursor : undefined;
  } while (cursor !== undefined);
  return askedMs;
}

/**
 * The tail's events, with a `search again` among them `storedAfterMs` after the beginning, and after each of them that is
 * no line, however quiet the tail is.
 */
async function* withLateSearch(
  tail: AsyncGenerator<TailEvent>,
  signal: AbortSignal,
): AsyncGenerator<TailEvent | 'search again'> {
  const soon = () => {
    const waited = pause(storedAfterMs, 'search again' as const, { signal });
    // When the signal ends it, nobody may be waiting for it any more.
    waited.catch(() => undefined);
    return waited;
  };
  let late: Promise<'search again'> | undefined = soon();
  let next = tail.next();
  try {
    while (true) {
      const first = await Promise.race(late ? [next, late] : [next]);
      if (first === 'search again') late = undefined;
      else if (first.done) return;
      else {
        if (!('line' in first.value)) late = soon();
        next = tail.next();
      }
      yield first === 'search again' ? first : (first.value as TailEvent);
    }
  } finally {
    next.catch(() => undefined);
  }
}
