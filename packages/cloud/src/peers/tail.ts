import { setTimeout as pause } from 'node:timers/promises';
import { errorText, type StoredLine } from '@millrace/wire';
import type { Logger } from 'pino';
import type { PeerRecord } from '../records/peer-table.ts';
import { forwardedHeader } from './forward-stream.ts';

export interface TailPeers {
  /** The other processes that live. */
  peers(): readonly PeerRecord[];
  /** Calls `listener` when others may have come or gone, until the handle is disposed of. */
  onPeers(listener: () => void): Disposable;
}

export interface PeersTailOptions extends TailPeers {
  /** Path and query of the caller's request. */
  address: string;
  /** The caller's credentials: whatever the caller may see here, it may see there. */
  authorization: string;
  onLine: (line: StoredLine) => void;
  /** So many lines were passed over on the way. */
  onSkipped: (count: number) => void;
  /** A process was not followed for a moment, in which it may have admitted lines: nobody knows how many. */
  onGap: () => void;
  signal: AbortSignal;
  log: Logger;
  /** A process from which nothing comes for so long is followed anew. Default: 45 s, three of its heartbeats. */
  silentMs?: number;
}

const lookMs = 1000;
/** How long a watcher waits for the first answers: what a process that answers later admits meanwhile is not seen. */
const connectMs = 2000;
/** A line with its frame is shorter. */
const maxEventBytes = 4 * 1024 * 1024;

/**
 * Follows lines at all other processes, as the caller would: each pushes what it admits. Resolves when those that
 * live have answered; goes on until aborted, with processes that come and go. From then on no line is missed without a
 * call of `onGap`: one comes when a process is followed that was not from the beginning, and when one ends, which may
 * have admitted lines that it did not push any more.
 */
export async function followPeers(options: PeersTailOptions): Promise<void> {
  const { peers, signal, onGap } = options;
  const following = new Set<string>();
  let isStanding = false;
  const gap = () => {
    if (isStanding && !signal.aborted) onGap();
  };
  const begin = (peer: PeerRecord) => {
    const { promise: first, resolve } = Promise.withResolvers<void>();
    let hasAnswered = false;
    const answered = () => {
      if (hasAnswered) return;
      hasAnswered = true;
      gap();
      resolve();
    };
    following.add(peer.id);
    void followPeer(peer, options, answered).finally(() => {
      following.delete(peer.id);
      if (hasAnswered) gap();
      resolve();
    });
    return first;
  };
  const look = () => {
    if (signal.aborted) return [];
    return peers()
      .filter(({ id }) => !following.has(id))
      .map(begin);
  };
  // At once, since a process that comes admits lines within moments; and now and then for one that did not answer.
  const noticing = options.onPeers(look);
  const looking = setInterval(look, lookMs);
  signal.addEventListener('abort', () => {
    clearInterval(looking);
    noticing[Symbol.dispose]();
  });
  const late = new AbortController();
  const timeout = pause(connectMs, undefined, { signal: late.signal }).catch(() => undefined);
  await Promise.race([Promise.all(look()), timeout]);
  late.abort();
  isStanding = true;
}

async function followPeer(peer: PeerRecord, options: PeersTailOptions, answered: () => void): Promise<void> {
  const { address, authorization, signal, log, silentMs = 45_000 } = options;
  const silence = new AbortController();
  const silent = setTimeout(() => silence.abort(new Error('it says nothing')), silentMs);
  try {
    const response = await fetch(new URL(address, peer.url), {
      headers: { authorization, [forwardedHeader]: '1' },
      signal: AbortSignal.any([signal, silence.signal]),
    });
    if (!response.ok || !response.body) {
      await response.body?.cancel();
      throw new Error(`it answers ${response.status}`);
    }
    const decoder = new TextDecoder();
    let text = '';
    for await (const chunk of response.body) {
      silent.refresh();
      text += decoder.decode(chunk, { stream: true });
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        takeEvent(text.slice(0, end), options);
        text = text.slice(end + 2);
        // The first is a comment that says: from now on.
        answered();
      }
      if (text.length > maxEventBytes) throw new Error('an event without an end');
    }
  } catch (error) {
    if (!signal.aborted)
      log.debug({ peer: peer.url, reason: errorText(error) }, 'peers: a tail broke; it is tried again');
  } finally {
    clearTimeout(silent);
  }
}

function takeEvent(event: string, { onLine, onSkipped }: PeersTailOptions): void {
  const data = /^data: (.*)$/m.exec(event)?.[1];
  if (data === undefined) return;
  if (event.startsWith('event: log')) onLine(JSON.parse(data) as StoredLine);
  else if (event.startsWith('event: skipped')) onSkipped((JSON.parse(data) as { count: number }).count);
}
