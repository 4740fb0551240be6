/**
 * A numbered step of the schema. Steps are never changed once released. Each statement can be run again without
 * harm (IF NOT EXISTS), since ClickHouse has no transactions around them and a step may have been cut off.
 */
export interface Migration {
  version: number;
  name: string;
  statements: (string | ConditionalStatement)[];
}

/** For statements that have no IF EXISTS of their own. */
export interface ConditionalStatement {
  /** A SELECT; without a row there is nothing left to do. */
  onlyIf: string;
  statement: string;
}
