import { setTimeout as pause } from 'node:timers/promises';
import { errorText } from '@millrace/wire';
import { sql } from 'drizzle-orm';
import pg from 'pg';
import type { Logger } from 'pino';
import type { Database } from './database.ts';

/** What opens something has changed: the key of a device, or tokens. */
export type AccessChange = { device: string } | 'tokens';

const channel = 'millrace_access';

/** Tells all processes of the cloud, once the transaction around it is committed and only then. */
export async function noteAccessChange(database: Database, change: AccessChange): Promise<void> {
  const text = change === 'tokens' ? change : `device ${change.device}`;
  await database.execute(sql`SELECT pg_notify(${channel}, ${text})`);
}

export interface NoticesOptions {
  /** Of the PostgreSQL server. */
  url: string;
  onChange: (change: AccessChange) => void;
  /** Changes may have been missed up to now, since nobody listened. */
  onMissed: () => void;
  log: Logger;
  /** How often it is asked whether the connection still is one. Default 10 s. */
  pingMs?: number;
}

const answerMs = 5000;
const againMs = 1000;

/**
 * Hears from PostgreSQL what changes (LISTEN), on a connection of its own that is made anew whenever it breaks. Behind a
 * pooler that gives each statement another connection nothing is heard: then what looks now and then must do.
 */
export class Notices implements AsyncDisposable {
  readonly #options: NoticesOptions;
  readonly #closing = new AbortController();
  readonly #listening: Promise<void>;

  constructor(options: NoticesOptions) {
    this.#options = options;
    this.#listening = this.#listen();
  }

  async #listen(): Promise<void> {
    const { log } = this.#options;
    const { signal } = this.#closing;
    let told = false;
    while (!signal.aborted) {
      try {
        await this.#listenOnce(() => {
          told = false;
        });
      } catch (error) {
        if (!told && !signal.aborted)
          log.warn({ reason: errorText(error) }, 'what other processes change is heard late');
        told = true;
      }
      await pause(againMs, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Until the connection breaks. */
  async #listenOnce(onLink: () => void): Promise<void> {
    const { url, onChange, onMissed, pingMs = 10_000 } = this.#options;
    const { signal } = this.#closing;
    const client = new pg.Client({
      connectionString: url,
      connectionTimeoutMillis: answerMs,
      query_timeout: answerMs,
    });
    const broken = new AbortController();
    // A query that waits is told as well; while there is none, this is all that is heard of it.
    client.on('error', () => broken.abort());
    client.on('end', () => broken.abort());
    client.on('notification', ({ payload = '' }) => {
      const change = changeOf(payload);
      if (change) onChange(change);
    });
    try {
      await client.connect();
      await client.query(`LISTEN ${channel}`);
      onLink();
      onMissed();
      const over = AbortSignal.any([signal, broken.signal]);
      while (!over.aborted) {
        await pause(pingMs, undefined, { signal: over }).catch(() => undefined);
        if (!over.aborted) await client.query('SELECT 1');
      }
      if (!signal.aborted) throw new Error('the connection broke');
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#listening;
  }
}

function changeOf(payload: string): AccessChange | undefined {
  if (payload === 'tokens') return payload;
  return payload.startsWith('device ') ? { device: payload.slice('device '.length) } : undefined;
}
