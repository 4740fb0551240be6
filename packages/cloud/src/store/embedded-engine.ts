import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { errorText, MillraceError } from '@millrace/wire';
import type { Session } from 'chdb';
import type { Logger } from 'pino';
import {
  type EngineSettings,
  type InsertOptions,
  type LogEngine,
  maxQueryBytes,
  StoreError,
  shortReason,
} from './engine.ts';
import { string } from './sql.ts';
import { shieldStdin } from './stdin-shield.ts';

export interface EmbeddedEngineOptions {
  /** Folder for the engine's files; made if missing. One process at a time. */
  dataDir: string;
  log: Logger;
  /** Cap on the engine's memory. Beyond it a statement fails, the process lives. Default: a quarter of the RAM. */
  maxMemoryBytes?: number;
  /** Where backups are written to and read from. Without it there are none. */
  backupDir?: string;
  /** Queries that run at a time; more wait their turn. Default 4. */
  querySessions?: number;
  /** Queries that may wait; more are refused. Default 256. */
  maxWaitingQueries?: number;
}

/**
 * ClickHouse inside this process (npm `chdb`). What its binding asks for, and how it is met:
 *
 * - One statement at a time per session: inserts have a session of their own, queries share a pool of them.
 * - A statement holds a thread of libuv's pool while it runs, so the pool must be larger than the sessions are.
 * - Its own way to abort settles the promise but not the statement. So one that nobody waits for any more is killed, by
 *   a mark that it carries and through a session that does nothing else. Others end by `max_execution_time`, or close().
 * - One data folder per process, and one process per folder (a lock file).
 * - It reads stdin into inserts: see stdin-shield.ts.
 */
export class EmbeddedEngine implements LogEngine {
  readonly kind = 'embedded';
  readonly database = 'millrace';
  readonly place: string;
  readonly #inserts: Session;
  readonly #control: Session;
  readonly #queries: Session[];
  readonly #idle: Session[];
  readonly #maxWaiting: number;
  readonly #drain: () => Promise<void>;
  readonly #waiting: PromiseWithResolvers<Session>[] = [];
  #marks = 0;
  #controlTail: Promise<unknown> = Promise.resolve();
  #insertTail: Promise<unknown> = Promise.resolve();
  #running = 0;
  #closing: Promise<void> | undefined;
  #allDone: (() => void) | undefined;

  private constructor(place: string, sessions: Session[], maxWaiting: number, drain: () => Promise<void>) {
    const [inserts, control, ...queries] = sessions;
    this.place = place;
    this.#inserts = inserts as Session;
    this.#control = control as Session;
    this.#queries = queries;
    this.#idle = [...queries];
    this.#maxWaiting = maxWaiting;
    this.#drain = drain;
  }

  /** @throws MillraceError `DATA_DIR_UNUSABLE` when another process holds the folder, or it cannot be written */
  static async open(options: EmbeddedEngineOptions): Promise<EmbeddedEngine> {
    const { log, querySessions = 4, maxWaitingQueries = 256 } = options;
    const dataDir = resolve(options.dataDir);
    const configFile = join(dataDir, 'engine.xml');
    try {
      await mkdir(dataDir, { recursive: true, mode: 0o700 });
      await writeFile(configFile, engineConfig(options));
    } catch (error) {
      throw new MillraceError('DATA_DIR_UNUSABLE', `${dataDir}: ${errorText(error)}`, { cause: error });
    }
    const threads = Number(process.env.UV_THREADPOOL_SIZE ?? 4);
    if (threads < querySessions + 3) {
      log.warn(
        { threads, needed: querySessions + 3 },
        'UV_THREADPOOL_SIZE is small: searches may hold up inserts. Set it to 16 or more before the start',
      );
    }
    if (shieldStdin()) log.debug('stdin is not used and was replaced by /dev/null');
    // Loaded here, since it maps a library of half a gigabyte that a server by URL has no need of.
    const { Session: ChdbSession, drainPending } = await import('chdb');
    // A session that was closed a moment ago may still be letting go of its folder.
    await drainPending();
    const sessions: Session[] = [];
    try {
      for (let i = 0; i < querySessions + 2; i++) {
        sessions.push(
          new ChdbSession(join(dataDir, 'clickhouse'), {
            connectionArgs: [`--config-file=${configFile}`, `--max_query_size=${maxQueryBytes}`],
          }),
        );
      }
    } catch (error) {
      for (const session of sessions) session.close();
      const holder = await holderOf(join(dataDir, 'clickhouse'));
      const reason = holder === undefined ? shortReason(errorText(error)) : `used by process ${holder}`;
      throw new MillraceError('DATA_DIR_UNUSABLE', `${dataDir}: ${reason}`, { cause: error });
    }
    return new EmbeddedEngine(dataDir, sessions, maxWaitingQueries, drainPending);
  }

  insertRows(bytes: Buffer, options: InsertOptions): Promise<void> {
    const run = this.#insertTail.then(() => this.#insert(bytes, options));
    this.#insertTail = run.catch(() => undefined);
    return run;
  }

  async #insert(bytes: Buffer, { table, format, rows, token, settings }: InsertOptions): Promise<void> {
    if (this.#closing) throw new StoreError('the store is closed');
    this.#running++;
    try {
      const { rowsWritten } = await this.#inserts.insert({
        table,
        values: bytes,
        format,
        settings: {
          ...settings,
          async_insert: 0,
          insert_deduplication_token: token,
          deduplicate_blocks_in_dependent_materialized_views: 1,
        },
      });
      if (rowsWritten < rows) throw new StoreError(`${rowsWritten} of ${rows} rows were written`);
    } catch (error) {
      throw asStoreError(error);
    } finally {
      this.#done();
    }
  }

  async query<T>(sql: string, settings: EngineSettings = {}, signal?: AbortSignal): Promise<T[]> {
    const format = { output_format_json_quote_64bit_integers: 0, ...settings };
    const text = signal
      ? await this.#runUntil(signal, (mark) => withSettings(sql, { ...format, log_comment: mark }))
      : await this.#run(withSettings(sql, format), 'JSONEachRow');
    const rows: T[] = [];
    let from = 0;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', from)) {
      if (end > from) rows.push(JSON.parse(text.slice(from, end)));
      from = end + 1;
    }
    if (from < text.length) rows.push(JSON.parse(text.slice(from)));
    return rows;
  }

  async command(sql: string): Promise<void> {
    await this.#run(sql, 'Null');
  }

  /** Runs a statement that carries a mark, and kills it by that when the signal is aborted. */
  async #runUntil(signal: AbortSignal, markedSql: (mark: string) => string): Promise<string> {
    const mark = `millrace-${++this.#marks}`;
    let isOver = false;
    const kill = async () => {
      while (!isOver) {
        await this.#kill(mark);
        // One that had not quite begun is met the next time.
        if (!isOver) await pause(50);
      }
    };
    let killing: Promise<void> | undefined;
    const stop = () => {
      killing = kill();
    };
    signal.addEventListener('abort', stop, { once: true });
    try {
      return await this.#run(markedSql(mark), 'JSONEachRow', signal);
    } finally {
      isOver = true;
      signal.removeEventListener('abort', stop);
      await killing;
    }
  }

  #kill(mark: string): Promise<unknown> {
    const run = this.#controlTail.then(() =>
      this.#control.queryAsync(`KILL QUERY WHERE Settings['log_comment'] = ${string(mark)} ASYNC`),
    );
    // Without it the statement runs into its time limit, and that is all there is to lose.
    this.#controlTail = run.catch(() => undefined);
    return this.#controlTail;
  }

  async #run(sql: string, format: string, signal?: AbortSignal): Promise<string> {
    if (this.#closing) throw new StoreError('the store is closed');
    // Counted while it waits for a session, too, so that close() outlasts it.
    this.#running++;
    try {
      const session = await this.#take();
      try {
        if (signal?.aborted) throw new StoreError('nobody waits for the answer any more');
        return (await session.queryAsync(sql, { format })).text();
      } catch (error) {
        throw asStoreError(error);
      } finally {
        this.#give(session);
      }
    } finally {
      this.#done();
    }
  }

  async #take(): Promise<Session> {
    const session = this.#idle.pop();
    if (session) return session;
    if (this.#waiting.length >= this.#maxWaiting) {
      throw new MillraceError('OVERLOADED', `${this.#waiting.length} queries are waiting`);
    }
    const turn = Promise.withResolvers<Session>();
    this.#waiting.push(turn);
    return turn.promise;
  }

  #give(session: Session): void {
    const next = this.#waiting.shift();
    if (next) next.resolve(session);
    else this.#idle.push(session);
  }

  #done(): void {
    if (--this.#running === 0) this.#allDone?.();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    for (const turn of this.#waiting.splice(0)) turn.reject(new StoreError('the store is closed'));
    await this.#insertTail;
    // The process cannot end before its statements do, and a search may have half a minute left. Killing them is
    // safe as long as nobody waits for the killing itself (SYNC hangs).
    const done = new Promise<void>((resolve) => {
      this.#allDone = resolve;
    });
    while (this.#running > 0) {
      await this.#inserts.queryAsync(
        `KILL QUERY WHERE query_kind = 'Select' AND query_id != queryID() ASYNC`,
      );
      // One that had not quite begun is met the next time.
      await Promise.race([done, pause(100)]);
    }
    await this.#controlTail;
    for (const session of [this.#inserts, this.#control, ...this.#queries]) session.close();
    await this.#drain();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * The process that holds a folder of the engine, if it lives. The engine prints why it could not open one, but
 * does not say; its lock file does.
 */
async function holderOf(folder: string): Promise<number | undefined> {
  const status = await readFile(join(folder, 'status'), 'utf8').catch(() => '');
  const pid = Number(/^PID: (\d+)$/m.exec(status)?.[1]);
  if (!pid || pid === process.pid) return undefined;
  try {
    process.kill(pid, 0);
    return pid;
  } catch (error) {
    // Not ours to signal, and yet there.
    return (error as NodeJS.ErrnoException).code === 'EPERM' ? pid : undefined;
  }
}

function withSettings(sql: string, settings: EngineSettings): string {
  const pairs = Object.entries(settings).map(
    ([key, value]) => `${key} = ${typeof value === 'number' ? value : string(value)}`,
  );
  return `${sql} SETTINGS ${pairs.join(', ')}`;
}

function asStoreError(error: unknown): unknown {
  if (error instanceof MillraceError) return error;
  const text = errorText(error);
  const code = /Code: (\d+)\./.exec(text)?.[1];
  return new StoreError(shortReason(text), {
    engineCode: code === undefined ? undefined : Number(code),
    cause: error,
  });
}

// The engine's own defaults are a server's: 0.9 of the RAM, and caches of 1 to 5 GiB each.
function engineConfig({ maxMemoryBytes = Math.floor(totalmem() / 4), backupDir }: EmbeddedEngineOptions) {
  const backups =
    backupDir === undefined
      ? ''
      : `
  <backups><allowed_path>${xmlText(resolve(backupDir))}</allowed_path></backups>`;
  return `<clickhouse>
  <max_server_memory_usage>${maxMemoryBytes}</max_server_memory_usage>
  <mark_cache_size>67108864</mark_cache_size>
  <index_mark_cache_size>33554432</index_mark_cache_size>
  <primary_index_cache_size>67108864</primary_index_cache_size>
  <text_index_header_cache_size>67108864</text_index_header_cache_size>
  <text_index_tokens_cache_size>67108864</text_index_tokens_cache_size>
  <text_index_postings_cache_size>134217728</text_index_postings_cache_size>
  <index_uncompressed_cache_size>0</index_uncompressed_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <background_pool_size>2</background_pool_size>${backups}
</clickhouse>
`;
}

function xmlText(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
