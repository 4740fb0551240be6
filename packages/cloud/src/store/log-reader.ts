import { MillraceError } from '@millrace/wire';
import { type DeviceGroups, resolveGroups, type Scope } from '../query/index.ts';
import type { LineConditions } from './conditions.ts';
import { type Context, type ContextQuery, readContext } from './context.ts';
import { type EngineSettings, type LogEngine, StoreError } from './engine.ts';
import { type FacetQuery, type Facets, readFacets } from './facets.ts';
import { type Histogram, type HistogramQuery, readHistogram } from './histogram.ts';
import { type LogRow, page, type SearchQuery, type StoredLine, searchSql } from './search.ts';

export interface SearchResult {
  logs: StoredLine[];
  /** Set when there are more. */
  cursor?: string;
}

export interface LogReaderOptions {
  engine: LogEngine;
  scope: Scope;
  /** Resolves what a query says about fleets and tags; without it such a query is refused. */
  groups?: DeviceGroups;
  /** Longest that one statement may run. */
  maxSeconds: number;
  /** Of the engine, for every statement. */
  settings?: EngineSettings;
}

/** Runs a SELECT about lines within the limits of a reader. */
export type Select = <T>(sql: string) => Promise<T[]>;

/** Bytes that one answer may take. */
const maxAnswerBytes = 256 * 1024 * 1024;
/** What counting by value may hold in memory before it goes on on disk. */
const maxGroupBytes = 256 * 1024 * 1024;

/** ClickHouse error codes. */
const timeoutExceeded = 159;
const resultTooLarge = 396;
const regexRefused = 427;

/**
 * Reads lines on behalf of someone: nothing outside of the scope can be found, counted or come close to. All methods
 * throw MillraceError: `PARAMETER_INVALID` for what cannot be asked, `OVERLOADED` when it takes too long, and
 * `STORE_FAILED`.
 */
export class LogReader {
  readonly #engine: LogEngine;
  readonly #scope: Scope;
  readonly #groups: DeviceGroups | undefined;
  readonly #maxSeconds: number;
  readonly #settings: EngineSettings;

  constructor({ engine, scope, groups, maxSeconds, settings = {} }: LogReaderOptions) {
    this.#engine = engine;
    this.#scope = scope;
    this.#groups = groups;
    this.#maxSeconds = maxSeconds;
    this.#settings = settings;
  }

  /** One page of lines. */
  async search(query: SearchQuery): Promise<SearchResult> {
    const asked = await this.#resolved(query);
    return page(await this.#select<LogRow>(searchSql(asked, this.#scope)), asked);
  }

  /** Counts lines by time, and within that by a value. */
  async histogram(query: HistogramQuery): Promise<Histogram> {
    return readHistogram(this.#select, await this.#resolved(query), this.#scope);
  }

  /** Counts lines by the values of fields, the most frequent first. */
  async facets(query: FacetQuery): Promise<Facets> {
    return readFacets(this.#select, await this.#resolved(query), this.#scope);
  }

  /** The lines around a line. @throws MillraceError `NOT_FOUND` */
  context(query: ContextQuery): Promise<Context> {
    return readContext(this.#select, query, this.#scope);
  }

  /** What is asked, without fleets and tags. */
  async #resolved<T extends LineConditions>(asked: T): Promise<T> {
    if (asked.query === undefined) return asked;
    return { ...asked, query: await resolveGroups(asked.query, this.#groups) };
  }

  readonly #select: Select = async <T>(sql: string) => {
    try {
      return await this.#engine.query<T>(sql, {
        max_execution_time: this.#maxSeconds,
        max_result_bytes: maxAnswerBytes,
        result_overflow_mode: 'throw',
        max_bytes_before_external_group_by: maxGroupBytes,
        ...this.#settings,
      });
    } catch (error) {
      throw this.#explain(error);
    }
  };

  #explain(error: unknown): unknown {
    if (!(error instanceof StoreError)) return error;
    switch (error.engineCode) {
      case timeoutExceeded:
        return new MillraceError(
          'OVERLOADED',
          `the search took longer than ${this.#maxSeconds} s: narrow it down by time, device or service`,
          { cause: error },
        );
      case resultTooLarge:
        return new MillraceError(
          'PARAMETER_INVALID',
          'limit: these lines are too large for one page; ask for fewer',
          { cause: error },
        );
      case regexRefused:
        return new MillraceError('QUERY_INVALID', 'query: the store refuses a regular expression in it', {
          cause: error,
        });
      default:
        return error;
    }
  }
}
