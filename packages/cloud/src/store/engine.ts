import { MillraceError } from '@millrace/wire';

/** A setting of ClickHouse that goes along with one statement. */
export type EngineSettings = Record<string, string | number>;

export interface InsertOptions {
  table: string;
  /** Format of the bytes. */
  format: 'CSV';
  /** Rows in the bytes; the engine must report no fewer as written. */
  rows: number;
  /** Bytes sent again under the same token within the engine's window are stored once. Never reuse it for others. */
  token: string;
  settings?: EngineSettings;
  /** Makes the insert fail, as a whole, if any of these claims is over by the time it begins. */
  fence?: InsertFence;
}

export interface InsertFence {
  /** Of each slot the claim under which its rows were admitted. */
  claims: ReadonlyMap<number, number>;
  /** Columns of the rows with their types. */
  structure: string;
  /** Where the table `fences` is. */
  database: string;
}

/** Longest statement: what may be read can be limited to many devices, each of which it names. */
export const maxQueryBytes = 16 * 1024 * 1024;

/** A ClickHouse, inside this process or elsewhere. The same SQL works on both. */
export interface LogEngine extends AsyncDisposable {
  readonly kind: 'embedded' | 'server';
  /** Where the tables are that statements name as `millrace.…`. */
  readonly database: string;
  /** Where it is, for people; without credentials. */
  readonly place: string;
  /**
   * Inserts rows as they lie. Resolves once they are committed to disk. The caller leaves the buffer alone until
   * then.
   *
   * @throws StoreError. By then the insert is no longer running: a query shows what of it was stored.
   */
  insertRows(bytes: Buffer, options: InsertOptions): Promise<void>;
  /**
   * Rows of a SELECT, one object each. The statement must hold no SETTINGS of its own. An abort of the signal ends the
   * statement in the engine, too, and this rejects.
   *
   * @throws StoreError
   */
  query<T>(sql: string, settings?: EngineSettings, signal?: AbortSignal): Promise<T[]>;
  /**
   * Runs a statement that returns nothing. Never an INSERT with VALUES: the embedded engine would take its rows
   * from this process's stdin.
   *
   * @throws StoreError
   */
  command(sql: string): Promise<void>;
  /** Waits for inserts that are running, ends queries, and lets go. */
  close(): Promise<void>;
}

/**
 * ClickHouse error codes that blame the rows rather than the store: trying the same bytes again is of no use.
 * https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
 */
const rowsAtFault = new Set([
  6, // CANNOT_PARSE_TEXT
  25, // CANNOT_PARSE_ESCAPE_SEQUENCE
  26, // CANNOT_PARSE_QUOTED_STRING
  27, // CANNOT_PARSE_INPUT_ASSERTION_FAILED
  32, // ATTEMPT_TO_READ_AFTER_EOF
  38, // CANNOT_PARSE_DATE
  41, // CANNOT_PARSE_DATETIME
  53, // TYPE_MISMATCH
  69, // ARGUMENT_OUT_OF_BOUND
  70, // CANNOT_CONVERT_TYPE
  72, // CANNOT_PARSE_NUMBER
  117, // INCORRECT_DATA
  306, // TOO_DEEP_RECURSION
  321, // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
  349, // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
  691, // UNKNOWN_ELEMENT_OF_ENUM
]);

/** FUNCTION_THROW_IF_VALUE_IS_NON_ZERO: nothing but a fence throws so. */
const fencedCode = 395;
const noRoom = new Set([
  75, // CANNOT_WRITE_TO_FILE_DESCRIPTOR
  243, // NOT_ENOUGH_SPACE
]);

/** `STORE_FAILED`, with what ClickHouse said. */
export class StoreError extends MillraceError {
  /** ClickHouse's error code; `undefined` when it did not answer. */
  readonly engineCode: number | undefined;

  constructor(detail: string, options: { engineCode?: number; cause?: unknown } = {}) {
    super('STORE_FAILED', detail, { cause: options.cause });
    this.name = 'StoreError';
    this.engineCode = options.engineCode;
  }

  /** True when another process has claimed what the insert was admitted under. */
  get fenced(): boolean {
    return this.engineCode === fencedCode;
  }

  /** True when there was no room on the disk. */
  get diskFull(): boolean {
    return this.engineCode !== undefined && noRoom.has(this.engineCode);
  }

  /** True when the rows themselves were refused, and not the store that failed. */
  get rowsRefused(): boolean {
    return this.engineCode !== undefined && rowsAtFault.has(this.engineCode);
  }
}

/** Cuts ClickHouse's stack traces and echoed rows down to what fits a log line. */
export function shortReason(message: string): string {
  const line = message.replaceAll('DB::Exception: ', '').split('\n', 1)[0] ?? '';
  return line.length > 400 ? `${line.slice(0, 400)}…` : line;
}
