import { completeMessage, MillraceError, withFields } from '@millrace/wire';
import type { Logger } from 'pino';
import { FolderDisk } from '../journal/disk.ts';
import { Journal } from '../journal/journal.ts';
import { matches, queryJournal } from '../journal/query.ts';
import type {
  EncodedLog,
  Json,
  LogBackend,
  LogInput,
  LogMessage,
  LogQuery,
  PositionStore,
  SourcePosition,
} from './types.ts';

export interface LocalLogBackendOptions {
  /** Lines kept in memory. Default 1000. */
  maxLogs?: number;
  /** How long lines are kept in memory, in ms. Default one hour. */
  maxAge?: number;
  /** Write to disk, so that lines survive a restart. Default false. */
  enableFilePersistence?: boolean;
  /** Folder of the log files. Default `./data/logs`. */
  logDir?: string;
  /** A file is closed, and the next begun, when it is larger, in bytes. Default 5 MB. */
  maxFileSize?: number;
  /** Most bytes of all files together; the oldest goes first. Default 200 MB. */
  maxTotalSize?: number;
  /** A journal that is open already, instead of one of its own. The options above are then not used. */
  journal?: Journal;
  log?: Logger;
}

/** Lines that a slow follower may lag behind before it is told that it missed some. */
const maxFollowLines = 10_000;

/** Keeps lines on the device: in memory, and in the files of a journal. */
export class LocalLogBackend implements LogBackend, PositionStore, AsyncDisposable {
  readonly name = 'local';
  readonly journal: Journal;
  readonly #ownsJournal: boolean;
  /** What can be read when there are no files; with files these only bound what is in memory. */
  readonly #memoryOnly: { maxLogs: number; maxAgeMs: number } | undefined;

  /**
   * @throws MillraceError `OPTION_INVALID`, `DATA_DIR_UNUSABLE`
   */
  constructor(options: LocalLogBackendOptions = {}) {
    for (const key of ['maxLogs', 'maxAge', 'maxFileSize', 'maxTotalSize'] as const) {
      const value = options[key];
      if (value !== undefined && !(Number.isFinite(value) && value > 0)) {
        throw new MillraceError(
          'OPTION_INVALID',
          `LocalLogBackend ${key} must be a number above 0, not ${value}`,
        );
      }
    }
    this.#ownsJournal = options.journal === undefined;
    this.journal = options.journal ?? openOwnJournal(options);
    if (!options.journal && !options.enableFilePersistence) {
      this.#memoryOnly = { maxLogs: options.maxLogs ?? 1000, maxAgeMs: options.maxAge ?? 3_600_000 };
    }
  }

  get encoded(): EncodedLog {
    return this.journal.encoded;
  }

  /** Takes a line. The promise, if any, asks the caller to wait for the disk. */
  log(message: LogInput, position?: SourcePosition): void | Promise<void> {
    this.journal.append(message, position);
    return this.journal.ready();
  }

  move(position: SourcePosition): void {
    this.journal.move(position);
  }

  forget(key: string): void {
    this.journal.forget(key);
  }

  position(key: string): Json | undefined {
    return this.journal.position(key);
  }

  positions(prefix: string): ReadonlyMap<string, Json> {
    return this.journal.positions(prefix);
  }

  /** The newest lines that match, oldest first unless `order` is `desc`. */
  getLogs(query: LogQuery = {}): Promise<LogMessage[]> {
    if (!this.#memoryOnly) return queryJournal(this.journal, query);
    const { maxLogs, maxAgeMs } = this.#memoryOnly;
    return queryJournal(this.journal, {
      ...query,
      limit: Math.min(query.limit ?? maxLogs, maxLogs),
      since: Math.max(query.since ?? 0, Date.now() - maxAgeMs),
    });
  }

  /**
   * Lines that match, as they come, until the signal aborts. A reader that lags too far behind gets a line that
   * says how many it missed.
   */
  async *follow(query: LogQuery, signal: AbortSignal): AsyncGenerator<LogMessage, void, void> {
    let queue: LogMessage[] = [];
    let missed = 0;
    let wake = Promise.withResolvers<void>();
    const stop = this.journal.watch((text, journal, seq) => {
      const line = completeMessage(JSON.parse(text), journal, seq);
      if (!matches(line, query)) return;
      if (queue.length < maxFollowLines) queue.push(withFields(line));
      else missed++;
      wake.resolve();
    });
    const onAbort = () => wake.resolve();
    signal.addEventListener('abort', onAbort);
    try {
      while (!signal.aborted) {
        await wake.promise;
        wake = Promise.withResolvers();
        const ready = queue;
        queue = [];
        yield* ready;
        if (missed > 0) {
          yield missedLine(missed);
          missed = 0;
        }
      }
    } finally {
      stop();
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Makes everything durable and closes the files. */
  async disconnect(): Promise<void> {
    if (this.#ownsJournal) await this.journal.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.disconnect();
  }
}

function openOwnJournal(options: LocalLogBackendOptions): Journal {
  const dir = options.logDir ?? './data/logs';
  try {
    return new Journal({
      disk: options.enableFilePersistence ? new FolderDisk(dir) : undefined,
      maxFileBytes: options.maxFileSize,
      maxBytes: options.maxTotalSize,
      recentLines: options.maxLogs,
      recentAgeMs: options.maxAge,
      log: options.log,
    });
  } catch (cause) {
    throw new MillraceError('DATA_DIR_UNUSABLE', `the log folder ${dir} cannot be opened`, { cause });
  }
}

function missedLine(count: number): LogMessage {
  return completeMessage({
    id: `missed-${Date.now()}`,
    message: `missed ${count} lines: this reader is too slow`,
    timestamp: Date.now(),
    level: 'warn',
    source: { type: 'manager', name: 'follow' },
  });
}
