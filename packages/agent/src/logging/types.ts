import type { BatchHeader, Level, LevelCounts, LogInput, LogMessage } from '@millrace/wire';

export type { Level, LogInput, LogMessage } from '@millrace/wire';

/** Anything a position may hold: it is saved as JSON. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/**
 * Where a source stands right after a line. The journal saves it in the same write as the line, so that a
 * crash can neither lose nor repeat one. `value: null` forgets the source.
 */
export interface SourcePosition {
  key: string;
  value: Json;
}

/** A source that is asked for its position when a batch is sealed, instead of giving one with each line. */
export interface PositionSource {
  readonly key: string;
  /** Behind the line added last. */
  readonly position: Json;
}

/** A line as wire's `encodeLine` makes it, its newline included: `bytes[start..end)`. Valid during a call only. */
export interface EncodedLine {
  bytes: Buffer;
  start: number;
  end: number;
  /** Rank of its level, 0 to 3. */
  level: number;
  /** What of it is the message. */
  messageBytes: number;
}

/** The short way into a journal, for sources whose lines are encoded already: no object is made for a line. */
export interface EncodedLog {
  /**
   * The time to give to a line that was stamped at `timestampMs`; another where the clock was set since. To be asked
   * for every line, before it is added.
   */
  present(timestampMs: number): number;
  /**
   * Adds a line. The source may move its position behind it afterwards: until the next call of any method here, or
   * of the backend's, none is asked for.
   */
  add(line: EncodedLine, source: PositionSource): void;
  /** To be called after some lines, and before any pause; a promise asks to wait for the disk. */
  flush(): void | Promise<void>;
}

/** Where a source finds the positions that were saved before a restart. */
export interface PositionStore {
  position(key: string): Json | undefined;
  /** Every saved position whose key starts with `prefix`. */
  positions(prefix: string): ReadonlyMap<string, Json>;
}

/** A receiver of log lines: local storage, MQTT, the cloud. */
export interface LogBackend {
  readonly name: string;
  /**
   * Takes one line. Returns a promise only to slow the caller down (a full disk buffer); a backend that talks to
   * a network never does, and counts what it must drop.
   */
  log(message: LogInput, position?: SourcePosition): void | Promise<void>;
  /** Set by a backend that takes lines encoded, too. */
  readonly encoded?: EncodedLog;
  /** A source has moved on without a line, past what nobody wants; a backend that saves positions keeps it. */
  move?(position: SourcePosition): void;
  /** The source with this position key is gone for good: a backend that saves positions can drop its own. */
  forget?(key: string): void;
  /** Starts what the backend needs. Optional, since a local one needs nothing. */
  connect?(): Promise<void>;
  /** Sends or saves what is still held, within a bounded time, and lets go of everything. */
  disconnect?(): Promise<void>;
}

/** What `LocalLogBackend.getLogs` and `GET /v1/logs` can filter by. All conditions must hold. */
export interface LogQuery {
  /** An app's number, or the name of a Compose project. */
  appId?: number | string;
  serviceName?: string;
  containerId?: string;
  /** One level or several. */
  level?: Level | readonly Level[];
  stream?: 'stdout' | 'stderr';
  /** Inclusive, ms since 1970. */
  since?: number;
  /** Exclusive, ms since 1970. */
  until?: number;
  /** Case-insensitive substring of the message. */
  contains?: string;
  /** Most lines to return: the newest ones. Default 1000. */
  limit?: number;
  /** `asc` (oldest first, the default) or `desc`. */
  order?: 'asc' | 'desc';
}

/** Neighbouring lines of a batch. */
export interface Run {
  /** Seq of the first. */
  first: number;
  count: number;
  /** Lines right before them that were shed. */
  shed: LevelCounts;
}

/** Lines in their order, as a backend reads them from a {@link Feed}. */
export interface FeedBatch {
  /** `first` is the seq of the first line, `count` the number of lines. */
  readonly header: BatchHeader;
  /** One run, unless lines in between were shed. */
  readonly runs: readonly Run[];
  /** Seq of the last line. */
  readonly lastSeq: number;
  /** The encoded lines, each ended by a newline, without header lines. */
  readonly lines: Buffer;
  /** How many bytes that is; to be asked where the lines themselves are not needed. */
  readonly linesBytes: number;
  /** Header line and lines as they go onto the wire, once for each run. */
  encoded(): Buffer;
  /** The same as gzip, at most `limits.maxPublishBytes`. Made at the first call. */
  gzip(): Buffer;
  /** The lines decoded, with their ids and seqs. Made at each call. */
  messages(): LogMessage[];
}

/**
 * What a network backend reads from: a cursor over the journal, or a bounded memory buffer when there is none.
 * One reader at a time.
 */
export interface Feed {
  /**
   * The batch after the one last handed out; waits until there is one. Small neighbours come merged, up to
   * `limits.maxBatchBytes`. `undefined` once the signal is aborted or the feed is closed.
   */
  next(signal?: AbortSignal): Promise<FeedBatch | undefined>;
  /** The far end has everything of this journal up to and including `seq`. Lower or repeated calls do nothing. */
  ack(journal: string, seq: number): void;
  /** Starts again behind the last acknowledged line: the connection broke with batches on their way. */
  rewind(): void;
  /** The far end refuses these lines for good: they are recorded as lost. To acknowledge them is the caller's. */
  giveUp?(journal: string, first: number, last: number): void;
  /** How far behind the reader is. */
  lag(): FeedLag;
  /**
   * For a reader that is far behind: a second one, of what is written from now on, beside this one. `undefined` when
   * this one is not far behind, or has a fresh lane already. A feed that never falls far behind has none to give.
   */
  fresh?(): FreshLane | undefined;
}

/**
 * Lines that need not wait behind a backlog. The feed that gave the lane goes on with the backlog and stops where
 * the lane began; once everything up to there is confirmed, the lane is *joined*. Then let what is under way arrive,
 * and dispose of the lane: the feed goes on behind what the lane had confirmed. A lane disposed of before is
 * forgotten but for what it had confirmed.
 */
export interface FreshLane extends Feed, Disposable {
  /** Aborted when joined: `next` gives no more. */
  readonly joined: AbortSignal;
}

export interface FeedLag {
  /** Lines that are not acknowledged yet. */
  lines: number;
  /** Lines that were shed before they could be read. */
  lost: number;
}
