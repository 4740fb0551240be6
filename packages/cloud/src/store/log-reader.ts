import {
  type Context,
  type Facets,
  type Histogram,
  type LogPage,
  MillraceError,
  type Patterns,
} from '@millrace/wire';
import { type DeviceGroups, resolveGroups, type Scope } from '../query/index.ts';
import { conditionsSql, isByPlace, type LineConditions, readsMessages } from './conditions.ts';
import { type ContextQuery, readContext } from './context.ts';
import type { Density } from './density.ts';
import { type EngineSettings, type LogEngine, StoreError } from './engine.ts';
import { type Export, type ExportQuery, readExport } from './export.ts';
import { type FacetQuery, readFacets } from './facets.ts';
import { type HistogramQuery, readHistogram } from './histogram.ts';
import { type PatternsQuery, readPatterns } from './patterns.ts';
import type { RareSearches } from './rare-searches.ts';
import { type LogRow, type PagePart, page, type SearchQuery, searchSql, wholePage } from './search.ts';
import { columnSlices, findingSlices, newestSlices, readInSlices, type Slicing } from './slices.ts';
import type { IndexSettings } from './text-index.ts';

export interface LogReaderOptions {
  engine: LogEngine;
  scope: Scope;
  /** Resolves what a query says about fleets and tags; without it such a query is refused. */
  groups?: DeviceGroups;
  /** Longest that one statement may run. */
  maxSeconds: number;
  /** Ends what is running, when nobody waits for the answer any more. */
  signal?: AbortSignal;
  settings: Omit<IndexSettings, 'insert'>;
  /** About how many lines there are at what time. */
  density: () => Promise<Density>;
  rare: RareSearches;
}

/** Runs a SELECT about lines within the limits of a reader. */
export type Select = <T>(sql: string, settings?: EngineSettings) => Promise<T[]>;

/** Bytes that one answer may take. */
const maxAnswerBytes = 256 * 1024 * 1024;
/** What counting by value may hold in memory before it goes on on disk. */
const maxGroupBytes = 256 * 1024 * 1024;

/** Lines of a slice whose reading takes hardly longer than finding out what to read. */
const fewLines = 200_000;

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
  readonly #signal: AbortSignal | undefined;
  readonly #settings: LogReaderOptions['settings'];
  readonly #density: () => Promise<Density>;
  readonly #rare: RareSearches;

  constructor(options: LogReaderOptions) {
    this.#engine = options.engine;
    this.#scope = options.scope;
    this.#groups = options.groups;
    this.#maxSeconds = options.maxSeconds;
    this.#signal = options.signal;
    this.#settings = options.settings;
    this.#density = options.density;
    this.#rare = options.rare;
  }

  /** One page of lines. */
  async search(query: SearchQuery): Promise<LogPage> {
    const asked = await this.#resolved(query);
    const whole = wholePage(asked);
    const rows = readsMessages(asked) ? await this.#find(asked, whole) : await this.#newest(asked, whole);
    return page(rows, asked);
  }

  /** A page of lines that are told by what is in them. */
  async #find(asked: SearchQuery, whole: PagePart): Promise<LogRow[]> {
    const conditions = conditionsSql({ ...asked, since: undefined, until: undefined }, this.#scope);
    if (this.#rare.isKnown(conditions)) {
      const rows = await this.#selectOf(asked)<LogRow>(
        searchSql(asked, this.#scope, whole),
        this.#settings.find,
      );
      if (rows.length >= whole.limit) this.#rare.note(conditions, false);
      return rows;
    }
    const { rows, isRare } = await this.#inSlices(asked, whole, this.#settings.find, findingSlices);
    this.#rare.note(conditions, isRare);
    return rows;
  }

  async #newest(asked: SearchQuery, whole: PagePart): Promise<LogRow[]> {
    // In the order that lines lie in they are found at once.
    if (isOfFewDevices(asked, this.#scope)) {
      return this.#select<LogRow>(searchSql(asked, this.#scope, whole));
    }
    const slicing = asksForAll(asked) ? newestSlices : columnSlices;
    return (await this.#inSlices(asked, whole, {}, slicing)).rows;
  }

  async #inSlices(asked: SearchQuery, whole: PagePart, settings: EngineSettings, slicing: Slicing) {
    const select = this.#selectOf(asked);
    let slices = 0;
    let isRare = false;
    const rows = await readInSlices<LogRow>(
      { ...whole, order: asked.order },
      await this.#density(),
      async ({ lines, ...part }) => {
        const found = await select<LogRow>(searchSql(asked, this.#scope, part), {
          ...settings,
          ...(lines <= fewLines && this.#settings.small),
        });
        if (++slices === 2) isRare = part.limit === whole.limit;
        return found;
      },
      slicing,
    );
    return { rows, isRare };
  }

  /** Counts lines by time, and within that by a value. */
  async histogram(query: HistogramQuery): Promise<Histogram> {
    const asked = await this.#resolved(query);
    return readHistogram(this.#selectOf(asked), asked, this.#scope);
  }

  /** Counts lines by the values of fields, the most frequent first. */
  async facets(query: FacetQuery): Promise<Facets> {
    const asked = await this.#resolved(query);
    return readFacets(this.#selectOf(asked), asked, this.#scope);
  }

  /** The lines around a line. @throws MillraceError `NOT_FOUND` */
  context(query: ContextQuery): Promise<Context> {
    return readContext(this.#select, query, this.#scope);
  }

  /** Clusters lines by how they read. */
  async patterns(query: PatternsQuery): Promise<Patterns> {
    return readPatterns(this.#select, await this.#resolved(query), this.#scope);
  }

  /** All lines, as a stream. */
  async export(query: ExportQuery): Promise<Export> {
    return readExport(this.#select, await this.#resolved(query), this.#scope);
  }

  /** What is asked, without fleets and tags. */
  async #resolved<T extends LineConditions>(asked: T): Promise<T> {
    if (asked.query === undefined) return asked;
    return { ...asked, query: await resolveGroups(asked.query, this.#groups) };
  }

  /** For lines under conditions: with the settings for lines of anywhere, when they are. */
  #selectOf(asked: LineConditions): Select {
    if (isByPlace(asked, this.#scope)) return this.#select;
    return (sql, settings) => this.#select(sql, { ...this.#settings.anywhere, ...settings });
  }

  readonly #select: Select = async <T>(sql: string, more: EngineSettings = {}) => {
    try {
      const settings: EngineSettings = {
        max_execution_time: this.#maxSeconds,
        max_result_bytes: maxAnswerBytes,
        result_overflow_mode: 'throw',
        max_bytes_before_external_group_by: maxGroupBytes,
        ...this.#settings.read,
        ...more,
      };
      return await this.#engine.query<T>(sql, settings, this.#signal);
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

/** Whether nothing but the time decides which lines are meant. */
function asksForAll({ device, service, levels, stream, query }: LineConditions): boolean {
  return (
    [device, service, levels, stream].every((one) => one === undefined) &&
    (!query || query.kind === 'everything')
  );
}

function isOfFewDevices({ device }: LineConditions, { devices }: Scope): boolean {
  const few = 10;
  return (
    typeof device === 'string' ||
    (device !== undefined && device.length <= few) ||
    (devices !== 'all' && devices.size <= few)
  );
}
