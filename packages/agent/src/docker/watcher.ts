import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import { type EngineApi, EngineRefusal, type ListedContainer } from './api.ts';
import { Backoff, type BackoffOptions } from './backoff.ts';
import type { ContainerIdentity } from './services.ts';

export type ContainerAction = 'start' | 'die' | 'rename' | 'destroy' | 'oom' | 'health_status';

/** What those who read logs want to know of. */
export const readingActions = ['start', 'die', 'rename', 'destroy'] as const;

export interface ContainerEvent {
  action: ContainerAction;
  /** Besides the labels it holds what the engine says of the event, such as `exitCode`. */
  container: ContainerIdentity;
}

export interface WatcherOptions {
  api: EngineApi;
  retry: BackoffOptions;
  /** How often the engine is asked whether it lives. */
  heartbeatMs: number;
  /** Which events are wanted. */
  actions: readonly ContainerAction[];
  /**
   * The engine answered: here is what it has. The signal is aborted when the connection is lost. Events that
   * happen from now on, and perhaps some from just before, follow.
   */
  onConnected(containers: ListedContainer[], session: EngineSession): void;
  onEvent(event: ContainerEvent, session: EngineSession): void;
  /** The engine cannot be reached, or no longer. Said once per failed attempt. */
  onFailed(error: unknown): void;
  log?: Logger;
}

/** One connection to the engine, from its first answer to its loss. */
export interface EngineSession {
  signal: AbortSignal;
  /** What to add to this machine's clock to get the engine's; 0 unless they differ by seconds. */
  clockOffsetMs: number;
  /** The engine's data folder, on its own machine. */
  rootFolder?: string;
}

const maxEventBytes = 1024 * 1024;
const sameClockMs = 5_000;

/**
 * Keeps in touch with the engine until the signal is aborted. Each session: ask whether it lives, subscribe to
 * its events, list its containers, then pass on events until the stream ends or a heartbeat is not answered.
 *
 * The engine sends the headers of the event stream before it subscribes. So the stream is asked to begin a
 * little in the past: nothing that happened between the list and the subscription is missed, and events may come
 * that the list already shows.
 */
export async function watchEngine(options: WatcherOptions, signal: AbortSignal): Promise<void> {
  const backoff = new Backoff(options.retry);
  while (!signal.aborted) {
    const ended = new AbortController();
    const session: EngineSession = { signal: AbortSignal.any([signal, ended.signal]), clockOffsetMs: 0 };
    const sinceMs = performance.now();
    let failure: unknown;
    try {
      await runSession(options, session, ended);
    } catch (error) {
      failure = ended.signal.aborted ? ended.signal.reason : error;
    }
    ended.abort();
    if (signal.aborted) return;
    // An engine that answers and dies at once is not asked ever faster.
    if (performance.now() - sinceMs > 2 * options.retry.minMs && isOver(failure)) backoff.reset();
    options.onFailed(isOver(failure) ? failure.cause : failure);
    await backoff.wait(signal);
  }
}

/** A session that had begun has ended, rather than not begun at all. */
class SessionOver extends Error {}

function isOver(failure: unknown): failure is SessionOver {
  return failure instanceof SessionOver;
}

async function runSession(
  { api, heartbeatMs, actions, onConnected, onEvent, log }: WatcherOptions,
  session: EngineSession,
  ended: AbortController,
): Promise<void> {
  const { signal } = session;
  const engineMs = await api.ping(signal);
  const offsetMs = engineMs - Date.now();
  session.clockOffsetMs = Math.abs(offsetMs) < sameClockMs ? 0 : offsetMs;
  try {
    session.rootFolder = await api.rootFolder(signal);
  } catch (error) {
    // A proxy in front of the engine may not allow it; its logs can be had without.
    if (!(error instanceof EngineRefusal)) throw error;
    log?.debug({ error: errorText(error) }, 'the engine does not tell where its data is');
  }
  const events = await api.events(Math.floor(engineMs / 1000) - 1, actions, signal);
  onConnected(await api.containers(signal), session);
  const heartbeat = setInterval(() => {
    api.ping(signal).catch((cause: unknown) => ended.abort(new SessionOver('no heartbeat', { cause })));
  }, heartbeatMs);
  try {
    for await (const event of eventsOf(events as AsyncIterable<Buffer>, actions, log)) {
      onEvent(event, session);
    }
    throw new Error('the engine ended its event stream');
  } catch (cause) {
    throw new SessionOver('the session is over', { cause });
  } finally {
    clearInterval(heartbeat);
    events.destroy();
  }
}

async function* eventsOf(
  chunks: AsyncIterable<Buffer>,
  actions: readonly ContainerAction[],
  log?: Logger,
): AsyncGenerator<ContainerEvent> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of chunks) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
      const event = parseEvent(rest.toString('utf8', 0, end), actions, log);
      rest = rest.subarray(end + 1);
      if (event) yield event;
    }
    if (rest.length > maxEventBytes) throw new Error(`an event is longer than ${maxEventBytes} bytes`);
  }
}

function parseEvent(
  text: string,
  actions: readonly ContainerAction[],
  log?: Logger,
): ContainerEvent | undefined {
  if (text.trim() === '') return undefined;
  try {
    const { Action: said, Actor: actor } = JSON.parse(text) as {
      Action?: string;
      Actor?: { ID?: string; Attributes?: Record<string, string> };
    };
    // `health_status: healthy`
    const action = actions.find((known) => said === known || said?.startsWith(`${known}:`));
    if (!action) return undefined;
    if (typeof actor?.ID !== 'string') return undefined;
    // The labels come among the attributes, beside `name`, `image` and a few more.
    const labels = actor.Attributes ?? {};
    return { action, container: { id: actor.ID, name: labels.name ?? '', labels } };
  } catch (error) {
    log?.warn({ error: errorText(error) }, 'the engine sent an event that cannot be read');
    return undefined;
  }
}
