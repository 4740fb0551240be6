import type { Level } from '@millrace/wire';

/**
 * What a query says, once it has been read. Both ways of answering it start here: SQL over what is stored
 * (to-sql.ts) and a predicate over a line at hand (to-predicate.ts). They must agree on every line.
 */
export type Query =
  | { kind: 'everything' }
  | { kind: 'and' | 'or'; parts: Query[] }
  | { kind: 'not'; part: Query }
  | { kind: 'levels'; levels: readonly Level[] }
  | { kind: 'stderr'; isStdErr: boolean }
  | { kind: 'match'; target: Target; test: Test }
  /** Of devices that belong together. Becomes `devices` before the query is answered, see groups.ts. */
  | { kind: 'group'; group: DeviceGroup; test: Test }
  | { kind: 'devices'; devices: ReadonlySet<string> };

/** What devices are told apart by: their fleet, or what they have under a tag's key. */
export type DeviceGroup = { kind: 'fleet' } | { kind: 'tag'; key: string };

export type Target =
  | { kind: 'message' }
  | { kind: 'name'; name: NameColumn }
  /** A key of the line's `fields`, dots included. */
  | { kind: 'field'; path: string };

/** Columns that hold a name; compared as it is, case included. */
export const nameColumns = ['device', 'service', 'app', 'container'] as const;
export type NameColumn = (typeof nameColumns)[number];

export type Test =
  /** In a message: occurs, also inside words. Elsewhere: is the whole value. */
  | { kind: 'text'; text: string }
  | { kind: 'wildcard'; pieces: readonly Piece[] }
  /** In the syntax of RE2, found anywhere. */
  | { kind: 'regex'; source: string; ignoreCase: boolean }
  /** Of fields only. */
  | { kind: 'range'; from?: Bound; to?: Bound }
  | { kind: 'exists' };

/** A part of a word: text, any run of characters, or any one character. */
export type Piece = string | { any: true } | { one: true };

export interface Bound {
  value: number;
  inclusive: boolean;
}

export const everyLine: Query = { kind: 'everything' };
