import type { AuditEntry, Fleet, SavedSearch, Token, TokenRole } from '@millrace/wire';
import type { Connection } from './connection.ts';
import { type Moment, parameters } from './queries.ts';

interface Signalled {
  signal?: AbortSignal;
}

/** All entries of a list that comes in pages. */
export async function* pagesOf<T>(
  connection: Connection,
  path: string,
  { name, query = {}, signal }: Signalled & { name: string; query?: object },
): AsyncGenerator<T> {
  let cursor: string | undefined;
  do {
    const answer = await connection.json<Record<string, T[]> & { cursor?: string }>(
      `${path}${parameters({ ...query, cursor })}`,
      { signal },
    );
    const entries = answer[name];
    if (!Array.isArray(entries)) throw connection.stranger();
    yield* entries;
    cursor = answer.cursor;
  } while (cursor !== undefined);
}

/** Groups of devices. */
export class Fleets {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  list({ signal }: Signalled = {}): AsyncGenerator<Fleet> {
    return pagesOf(this.#connection, '/api/v1/fleets', { name: 'fleets', signal });
  }

  get(name: string, { signal }: Signalled = {}): Promise<Fleet> {
    return this.#connection.json(at('fleets', name), { signal });
  }

  add(fleet: { name: string; description?: string | null }, { signal }: Signalled = {}): Promise<Fleet> {
    return this.#connection.json('/api/v1/fleets', { method: 'POST', body: fleet, signal });
  }

  change(name: string, body: { description: string | null }, { signal }: Signalled = {}): Promise<Fleet> {
    return this.#connection.json(at('fleets', name), { method: 'PATCH', body, signal });
  }

  async remove(name: string, { signal }: Signalled = {}): Promise<void> {
    await this.#connection.request(at('fleets', name), { method: 'DELETE', signal });
  }
}

export interface NewToken {
  name: string;
  role: TokenRole;
  fleets?: readonly string[];
  devices?: readonly string[];
  /** Ms since 1970. */
  expiresAt?: number;
}

/** Who may do what. */
export class Tokens {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  list({ signal }: Signalled = {}): AsyncGenerator<Token> {
    return pagesOf(this.#connection, '/api/v1/tokens', { name: 'tokens', signal });
  }

  /** The answer is the only place where its secret is shown. */
  add(token: NewToken, { signal }: Signalled = {}): Promise<Token & { token: string }> {
    return this.#connection.json('/api/v1/tokens', { method: 'POST', body: token, signal });
  }

  async revoke(name: string, { signal }: Signalled = {}): Promise<void> {
    await this.#connection.request(at('tokens', name), { method: 'DELETE', signal });
  }
}

export interface SearchToSave {
  name: string;
  query: string;
  since?: string | null;
  until?: string | null;
}

/** Queries to come back to. */
export class SavedSearches {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  list({ signal }: Signalled = {}): AsyncGenerator<SavedSearch> {
    return pagesOf(this.#connection, '/api/v1/searches', { name: 'searches', signal });
  }

  get(id: string, { signal }: Signalled = {}): Promise<SavedSearch> {
    return this.#connection.json(at('searches', id), { signal });
  }

  add(search: SearchToSave, { signal }: Signalled = {}): Promise<SavedSearch> {
    return this.#connection.json('/api/v1/searches', { method: 'POST', body: search, signal });
  }

  change(id: string, body: Partial<SearchToSave>, { signal }: Signalled = {}): Promise<SavedSearch> {
    return this.#connection.json(at('searches', id), { method: 'PATCH', body, signal });
  }

  async remove(id: string, { signal }: Signalled = {}): Promise<void> {
    await this.#connection.request(at('searches', id), { method: 'DELETE', signal });
  }
}

export interface AuditQuery {
  actor?: string;
  action?: string;
  subject?: string;
  since?: Moment;
  until?: Moment;
}

/** Who did what, the newest first. */
export function auditEntries(
  connection: Connection,
  query: AuditQuery,
  { signal }: Signalled,
): AsyncGenerator<AuditEntry> {
  return pagesOf(connection, '/api/v1/audit', { name: 'entries', query, signal });
}

function at(list: string, key: string): string {
  return `/api/v1/${list}/${encodeURIComponent(key)}`;
}
