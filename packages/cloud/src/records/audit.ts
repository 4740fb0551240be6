import { and, desc, eq, gte, lt, type SQL } from 'drizzle-orm';
import type { Database } from './database.ts';
import { audit } from './schema.ts';

/** One thing that was done. No secret is ever a part of it. */
export interface AuditEntry {
  /** Name of the token that did it. */
  actor: string;
  /** What was done, such as `device.change`. */
  action: string;
  /** To whom, such as the uuid of the device. */
  subject: string;
  detail: Record<string, unknown>;
}

export interface AuditRecord extends AuditEntry {
  /** Rises with every entry. */
  id: number;
  atMs: number;
}

export interface AuditFilter {
  actor?: string;
  action?: string;
  subject?: string;
  /** Ms since 1970, inclusive. */
  since?: number;
  /** Exclusive. */
  until?: number;
  /** Entries older than this one. */
  before?: number;
  limit: number;
}

export class Audit {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async append(entry: AuditEntry): Promise<void> {
    await this.#database.insert(audit).values({ ...entry, atMs: Date.now() });
  }

  /** The newest first. */
  async list({ actor, action, subject, since, until, before, limit }: AuditFilter): Promise<AuditRecord[]> {
    const where: SQL[] = [];
    if (actor !== undefined) where.push(eq(audit.actor, actor));
    if (action !== undefined) where.push(eq(audit.action, action));
    if (subject !== undefined) where.push(eq(audit.subject, subject));
    if (since !== undefined) where.push(gte(audit.atMs, since));
    if (until !== undefined) where.push(lt(audit.atMs, until));
    if (before !== undefined) where.push(lt(audit.id, before));
    return this.#database
      .select()
      .from(audit)
      .where(and(...where))
      .orderBy(desc(audit.id))
      .limit(limit);
  }
}
