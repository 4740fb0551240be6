import { and, asc, eq, gt, sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { noteAccessChange } from './notices.ts';
import { tokens } from './schema.ts';

/**
 * What a token opens: `admin` everything, `reader` the lines and devices of its scope, `metrics` the figures of this
 * program, and `join` (a join key) the registration of devices, into its fleet if it names one.
 */
export const tokenRoles = ['admin', 'reader', 'metrics', 'join'] as const;
export type TokenRole = (typeof tokenRoles)[number];

export interface TokenRecord {
  name: string;
  role: string;
  hash: string;
  createdAtMs: number;
  /** What it is limited to; both null: nothing is left out. */
  fleets: string[] | null;
  devices: string[] | null;
  createdBy: string | null;
  expiresAtMs: number | null;
}

type NewToken = Pick<TokenRecord, 'name' | 'hash'> &
  Partial<Omit<TokenRecord, 'name' | 'hash' | 'role'>> & { role: TokenRole };

const byName = sql`${tokens.name} COLLATE "C"`;

export class TokenRecords {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async get(name: string): Promise<TokenRecord | undefined> {
    const [row] = await this.#database.select().from(tokens).where(eq(tokens.name, name)).limit(1);
    return row;
  }

  /** Looks a token up by its SHA-256 (hex). */
  async byHash(hash: string): Promise<TokenRecord | undefined> {
    const [row] = await this.#database.select().from(tokens).where(eq(tokens.hash, hash)).limit(1);
    return row;
  }

  /** By name, behind `after`. */
  async list({ after, limit }: { after?: string; limit: number }): Promise<TokenRecord[]> {
    return this.#database
      .select()
      .from(tokens)
      .where(and(after === undefined ? undefined : gt(byName, after)))
      .orderBy(asc(byName))
      .limit(limit);
  }

  /** Returns false, and changes nothing, when there is one of this name. */
  async add(token: NewToken): Promise<boolean> {
    const added = await this.#database
      .insert(tokens)
      .values({ createdAtMs: Date.now(), ...token })
      .onConflictDoNothing()
      .returning({ name: tokens.name });
    return added.length > 0;
  }

  /** Saves a token under its name, in place of the one that had the name. */
  async save({ name, role, hash }: { name: string; role: TokenRole; hash: string }): Promise<void> {
    const unlimited = { fleets: null, devices: null, createdBy: null, expiresAtMs: null };
    const set = { role, hash, createdAtMs: Date.now(), ...unlimited };
    await this.#database
      .insert(tokens)
      .values({ name, ...set })
      .onConflictDoUpdate({ target: tokens.name, set });
    await noteAccessChange(this.#database, 'tokens');
  }

  /** Returns false when there is none of this name. */
  async remove(name: string): Promise<boolean> {
    const removed = await this.#database
      .delete(tokens)
      .where(eq(tokens.name, name))
      .returning({ name: tokens.name });
    await noteAccessChange(this.#database, 'tokens');
    return removed.length > 0;
  }

  async removeByHash(hash: string): Promise<void> {
    await this.#database.delete(tokens).where(eq(tokens.hash, hash));
    await noteAccessChange(this.#database, 'tokens');
  }
}
