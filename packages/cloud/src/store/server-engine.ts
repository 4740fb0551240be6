import { randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { type ClickHouseClient, ClickHouseError, ClickHouseLogLevel, createClient } from '@clickhouse/client';
import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import {
  type EngineSettings,
  type InsertOptions,
  type LogEngine,
  maxQueryBytes,
  StoreError,
  shortReason,
} from './engine.ts';
import { fencedSelect } from './fences.ts';
import { string, stringList } from './sql.ts';

const insertIdPrefix = 'millrace-insert-';

export interface ServerEngineOptions {
  /** `http(s)://user:password@host:port/`. The credentials appear in no log or error. */
  url: string;
  log: Logger;
  /** Longest wait for an answer. Default 60 s. */
  requestTimeoutMs?: number;
  /** Pause between looks at whether a cut-off insert still runs. Default 500 ms. */
  settlePollMs?: number;
}

/** A ClickHouse server, by its HTTP interface. */
export class ServerEngine implements LogEngine {
  readonly kind = 'server';
  readonly database = 'millrace';
  readonly place: string;
  readonly #client: ClickHouseClient;
  readonly #log: Logger;
  readonly #settlePollMs: number;
  readonly #closing = new AbortController();

  private constructor(place: string, client: ClickHouseClient, options: ServerEngineOptions) {
    this.place = place;
    this.#client = client;
    this.#log = options.log;
    this.#settlePollMs = options.settlePollMs ?? 500;
  }

  /**
   * Waits until inserts that were running at this moment are over: those of a process of ours that died must not
   * commit behind the back of this one, which reads from the store what to expect of each device.
   *
   * @throws MillraceError `CONFIG_INVALID` for a URL that is none, `STORE_FAILED` when the server does not answer
   */
  static async open(options: ServerEngineOptions): Promise<ServerEngine> {
    const place = placeOf(options.url);
    const client = createClient({
      url: options.url,
      application: 'millrace',
      // It would print statements and rows to the console; what matters is in the errors.
      log: { level: ClickHouseLogLevel.OFF },
      request_timeout: options.requestTimeoutMs ?? 60_000,
      // A pooled connection that the server just closed would fail an insert for nothing.
      keep_alive: { enabled: true, idle_socket_ttl: 1500 },
    });
    const engine = new ServerEngine(place, client, options);
    try {
      await engine.insertsOver();
    } catch (error) {
      await engine.close();
      throw error;
    }
    return engine;
  }

  async insertRows(
    bytes: Buffer,
    { table, format, rows, token, settings, fence }: InsertOptions,
  ): Promise<void> {
    const queryId = `${insertIdPrefix}${randomUUID()}`;
    try {
      this.#checkOpen();
      const { stream, summary } = await this.#client.exec({
        query: `INSERT INTO ${table} ${fence ? fencedSelect(fence) : ''} FORMAT ${format}`,
        values: Readable.from([bytes], { objectMode: false }),
        query_id: queryId,
        clickhouse_settings: {
          ...settings,
          async_insert: 0,
          // The answer comes after the commit, with its summary, and an error as an error's status.
          wait_end_of_query: 1,
          insert_deduplication_token: token,
          deduplicate_blocks_in_dependent_materialized_views: 1,
        },
      });
      stream.resume();
      const written = Number(summary?.written_rows ?? 0);
      if (written < rows) throw new StoreError(`${written} of ${rows} rows were written`);
    } catch (error) {
      if (!(error instanceof ClickHouseError || error instanceof MillraceError))
        await this.#settled([queryId]);
      throw asStoreError(error);
    }
  }

  /**
   * Resolves when the inserts of any process of ours that run at this moment are over.
   *
   * @throws StoreError
   */
  async insertsOver(): Promise<void> {
    const running = await this.query<{ id: string }>(
      `SELECT query_id AS id FROM system.processes WHERE startsWith(query_id, ${string(insertIdPrefix)})`,
    );
    if (running.length > 0) await this.#settled(running.map((row) => row.id));
  }

  /**
   * An insert whose answer got lost may still be running, and commit behind the back of whoever tries again. So
   * its failure is not reported before the server says that it is over; as long as the server is silent, we wait.
   */
  async #settled(queryIds: string[]): Promise<void> {
    for (;;) {
      if (this.#closing.signal.aborted) return;
      try {
        const running = await this.query<{ n: number }>(
          `SELECT count() AS n FROM system.processes WHERE query_id IN ${stringList(queryIds)}`,
        );
        if (running[0]?.n === 0) return;
        this.#log.debug({ queryIds }, 'inserts that were cut off are still running');
      } catch (error) {
        this.#log.debug({ reason: errorText(error) }, 'the log store does not answer');
      }
      await pause(this.#settlePollMs, undefined, { signal: this.#closing.signal }).catch(() => undefined);
    }
  }

  async query<T>(sql: string, settings: EngineSettings = {}, signal?: AbortSignal): Promise<T[]> {
    const queryId = randomUUID();
    // The abort closes the connection, which leaves the statement running. Should it not be killed either, it runs into
    // its time limit.
    const kill = () =>
      this.command(`KILL QUERY WHERE query_id = ${string(queryId)} ASYNC`).catch(() => undefined);
    signal?.addEventListener('abort', kill, { once: true });
    try {
      this.#checkOpen();
      if (signal?.aborted) throw new StoreError('nobody waits for the answer any more');
      const result = await this.#client.query({
        query: sql,
        format: 'JSONEachRow',
        clickhouse_settings: {
          output_format_json_quote_64bit_integers: 0,
          max_query_size: String(maxQueryBytes),
          wait_end_of_query: 1,
          ...settings,
        },
        query_id: queryId,
        abort_signal: signal,
      });
      return await result.json<T>();
    } catch (error) {
      throw asStoreError(error);
    } finally {
      signal?.removeEventListener('abort', kill);
    }
  }

  async command(sql: string): Promise<void> {
    try {
      this.#checkOpen();
      await this.#client.command({ query: sql, clickhouse_settings: { wait_end_of_query: 1 } });
    } catch (error) {
      throw asStoreError(error);
    }
  }

  #checkOpen(): void {
    if (this.#closing.signal.aborted) throw new StoreError('the store is closed');
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#client.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

export function placeOf(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    // The text itself is not repeated: it may hold a password.
    throw new MillraceError(
      'CONFIG_INVALID',
      'CLICKHOUSE_URL: not an address like http://user:password@host:8123',
    );
  }
  return `${url.protocol}//${url.host}`;
}

function asStoreError(error: unknown): unknown {
  if (error instanceof MillraceError) return error;
  if (error instanceof ClickHouseError) {
    return new StoreError(shortReason(error.message), { engineCode: Number(error.code), cause: error });
  }
  // An answer that its client can make nothing of, such as a proxy's, is an error without a word.
  const isWordless = error instanceof Error && errorText(error) === error.name;
  const reason = isWordless ? 'what answers there is something else' : errorText(error);
  return new StoreError(`ClickHouse does not answer: ${reason}`, { cause: error });
}
