import { setTimeout as pause } from 'node:timers/promises';
import {
  type ErrorCode,
  errorCatalogue,
  errorText,
  type LogMessage,
  MillraceError,
  type Problem,
} from '@millrace/wire';
import type { Access } from './access.ts';
import { readEvents } from './event-stream.ts';
import { filterQuery, type LogFilter } from './filter.ts';

/** A line as the server gives it. */
export interface LogLine extends LogMessage {
  device: string;
}

export interface LogPage {
  logs: LogLine[];
  /** Leads to the next page; none when this was the last. */
  cursor?: string;
}

const backupPollMs = 200;

export interface BackupMade {
  name: string;
  path: string;
  lines: number;
  records: boolean;
}

interface BackupList {
  backups: BackupMade[];
  failed: { name: string; problem: Problem } | null;
}

interface DevicePage {
  devices: { uuid: string }[];
  cursor?: string;
}

export type TailEvent = { line: LogLine } | { skipped: number };

/** The server's log API. Every method throws MillraceError: `SERVER_UNREACHABLE`, `TOKEN_UNUSABLE`, or the server's own. */
export class LogServer {
  #access: Access;
  readonly #renew: () => Promise<Access>;

  /**
   * @param options.renew finds the access anew when the token is no longer accepted: the server leaves another one
   * in its data folder at each start
   */
  constructor({ access, renew = async () => access }: { access: Access; renew?: () => Promise<Access> }) {
    this.#access = access;
    this.#renew = renew;
  }

  /** A page of lines; `order` is by time, then by seq. */
  async search(
    filter: LogFilter,
    {
      limit,
      order,
      cursor,
      signal,
    }: { limit: number; order: 'asc' | 'desc'; cursor?: string; signal?: AbortSignal },
  ): Promise<LogPage> {
    const query = filterQuery(filter);
    query.set('limit', String(limit));
    query.set('order', order);
    if (cursor !== undefined) query.set('cursor', cursor);
    return this.#json(`/api/v1/logs?${query}`, signal);
  }

  /** Waits until a backup is whole, which takes as long as copying everything that is stored does. */
  async makeBackup(): Promise<BackupMade> {
    const { name } = await this.#json<{ name: string }>('/api/v1/backups', undefined, 'POST');
    for (;;) {
      const { backups, failed } = await this.#json<BackupList>('/api/v1/backups');
      const made = backups.find((backup) => backup.name === name);
      if (made) return made;
      if (failed?.name === name) throw new MillraceError(failed.problem.code, failed.problem.detail);
      await pause(backupPollMs);
    }
  }

  async deviceUuids(signal?: AbortSignal): Promise<string[]> {
    const uuids: string[] = [];
    let cursor: string | undefined;
    do {
      const next = cursor === undefined ? '' : `?cursor=${encodeURIComponent(cursor)}`;
      const page = await this.#json<DevicePage>(`/api/v1/devices${next}`, signal);
      uuids.push(...page.devices.map((device) => device.uuid));
      cursor = page.cursor;
    } while (cursor !== undefined);
    return uuids;
  }

  /**
   * Opens the tail: once this resolves, every matching line that arrives at the server comes out of the iterable.
   * It ends when the connection does, and throws when that was not in good order.
   */
  async tail(filter: LogFilter, signal: AbortSignal): Promise<AsyncGenerator<TailEvent>> {
    // Since and until are about lines that are there already; the tail is about those to come.
    const { sinceMs: _since, untilMs: _until, ...matching } = filter;
    const response = await this.#request(`/api/v1/logs/tail?${filterQuery(matching)}`, signal);
    const { body } = response;
    if (!body || !response.headers.get('content-type')?.startsWith('text/event-stream')) {
      throw this.#stranger();
    }
    return this.#tailEvents(body, signal);
  }

  async *#tailEvents(body: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<TailEvent> {
    try {
      for await (const { type, data } of readEvents(body)) {
        if (type === 'log' || type === 'message') yield { line: JSON.parse(data) as LogLine };
        else if (type === 'skipped')
          yield { skipped: Number((JSON.parse(data) as { count?: unknown }).count) };
      }
    } catch (error) {
      if (signal.aborted) return;
      throw new MillraceError('SERVER_UNREACHABLE', `the connection broke (${reasonOf(error)})`, {
        cause: error,
      });
    }
  }

  async #json<T>(path: string, signal?: AbortSignal, method?: 'POST'): Promise<T> {
    const response = await this.#request(path, signal, method);
    try {
      return (await response.json()) as T;
    } catch (error) {
      if (error instanceof SyntaxError) throw this.#stranger();
      throw this.#unreachable(error);
    }
  }

  async #request(path: string, signal?: AbortSignal, method?: 'POST'): Promise<Response> {
    let response = await this.#fetch(path, signal, method);
    if (response.status === 401) {
      const renewed = await this.#renew();
      if (renewed.token !== this.#access.token) {
        await response.body?.cancel();
        this.#access = renewed;
        response = await this.#fetch(path, signal, method);
      }
    }
    if (response.ok) return response;
    throw await this.#refusal(response);
  }

  async #fetch(path: string, signal?: AbortSignal, method = 'GET'): Promise<Response> {
    try {
      return await fetch(`${this.#access.url}${path}`, {
        method,
        headers: { authorization: `Bearer ${this.#access.token}` },
        // A redirect would carry the token to somewhere nobody named.
        redirect: 'manual',
        signal,
      });
    } catch (error) {
      throw this.#unreachable(error);
    }
  }

  async #refusal(response: Response): Promise<MillraceError> {
    let problem: { code?: unknown; detail?: unknown } = {};
    try {
      problem = (await response.json()) as typeof problem;
    } catch (error) {
      return new MillraceError('SERVER_UNREACHABLE', `${this.#access.url} answers ${response.status}`, {
        cause: error,
      });
    }
    if (response.status === 401 || response.status === 403) {
      return new MillraceError('TOKEN_UNUSABLE', `${this.#access.url} does not accept the token`);
    }
    const code = Object.keys(errorCatalogue).find((known) => known === problem.code) as ErrorCode | undefined;
    if (!code) return this.#stranger();
    return new MillraceError(code, String(problem.detail ?? `the server answers ${response.status}`));
  }

  #unreachable(error: unknown): MillraceError {
    return new MillraceError('SERVER_UNREACHABLE', `${this.#access.url} (${reasonOf(error)})`, {
      cause: error,
    });
  }

  #stranger(): MillraceError {
    return new MillraceError(
      'SERVER_UNREACHABLE',
      `${this.#access.url} answers, but not as a Millrace server does`,
    );
  }
}

/** fetch hides what happened in the cause of its error. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause === undefined ? errorText(error) : ((cause as NodeJS.ErrnoException).code ?? errorText(cause));
}
