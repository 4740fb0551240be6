import { MillraceError, type Problem } from '@millrace/wire';

/** A stretch of the query's text, in UTF-16 code units as JavaScript counts them. */
export interface Span {
  offset: number;
  length: number;
}

export interface QueryProblem extends Problem, Span {
  expected: string;
}

/** `QUERY_INVALID`, with the place in the query and what would be right there. */
export class QueryError extends MillraceError {
  readonly span: Span;
  /** What would be right there. */
  readonly expected: string;

  constructor({ offset, length }: Span, expected: string, found?: string) {
    const instead = found === undefined ? '' : `, found ${found}`;
    super('QUERY_INVALID', `query: expected ${expected} at character ${offset + 1}${instead}`);
    this.name = 'QueryError';
    this.span = { offset, length };
    this.expected = expected;
  }

  override toProblem(): QueryProblem {
    return { ...super.toProblem(), ...this.span, expected: this.expected };
  }
}
