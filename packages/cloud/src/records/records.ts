import { join } from 'node:path';
import { eq, sql } from 'drizzle-orm';
import type { Logger } from 'pino';
import { type OpenedDatabase, openEmbedded, openServer } from './database.ts';
import { migrate } from './migrations.ts';
import { PeerTable } from './peer-table.ts';
import { devices, presence, tokens } from './schema.ts';

export interface DeviceRecord {
  uuid: string;
  name: string | null;
  keyHash: string;
  createdAtMs: number;
}

export interface TokenRecord {
  name: string;
  role: string;
  hash: string;
}

export interface PresenceRecord {
  uuid: string;
  online: boolean;
  changedAtMs: number;
}

export interface OpenRecordsOptions {
  /** The embedded database lives in `records` below it. */
  dataDir: string;
  /** A PostgreSQL server instead of the embedded one. */
  databaseUrl?: string;
  log: Logger;
}

/** What must survive beside the log lines: devices, tokens, who was online. */
export class Records implements AsyncDisposable {
  readonly #opened: OpenedDatabase;
  #closed = false;

  private constructor(opened: OpenedDatabase) {
    this.#opened = opened;
  }

  /**
   * Opens the database and brings its tables up to date.
   *
   * @throws MillraceError `DATA_DIR_UNUSABLE` or `CONFIG_INVALID`
   */
  static async open({ dataDir, databaseUrl, log }: OpenRecordsOptions): Promise<Records> {
    const opened = databaseUrl
      ? await openServer(databaseUrl, log)
      : await openEmbedded(join(dataDir, 'records'));
    try {
      await migrate(opened.database);
    } catch (error) {
      await opened.close();
      throw error;
    }
    return new Records(opened);
  }

  /** The processes of this cloud and what each answers for. */
  get peers(): PeerTable {
    return new PeerTable(this.#opened.database);
  }

  async device(uuid: string): Promise<DeviceRecord | undefined> {
    const [row] = await this.#opened.database.select().from(devices).where(eq(devices.uuid, uuid)).limit(1);
    return row;
  }

  async devices(): Promise<DeviceRecord[]> {
    return this.#opened.database.select().from(devices).orderBy(devices.uuid);
  }

  /** Adds a device. Returns false, and changes nothing, when its uuid is known already. */
  async addDevice(device: DeviceRecord): Promise<boolean> {
    const added = await this.#opened.database
      .insert(devices)
      .values(device)
      .onConflictDoNothing()
      .returning({ uuid: devices.uuid });
    return added.length > 0;
  }

  async token(name: string): Promise<TokenRecord | undefined> {
    const [row] = await this.#opened.database.select().from(tokens).where(eq(tokens.name, name)).limit(1);
    return row;
  }

  /** Looks a token up by its SHA-256 (hex). */
  async tokenByHash(hash: string): Promise<TokenRecord | undefined> {
    const [row] = await this.#opened.database.select().from(tokens).where(eq(tokens.hash, hash)).limit(1);
    return row;
  }

  /** Saves a token under its name, in place of the one that had the name. */
  async saveToken(token: TokenRecord): Promise<void> {
    await this.#opened.database
      .insert(tokens)
      .values({ ...token, createdAtMs: Date.now() })
      .onConflictDoUpdate({
        target: tokens.name,
        set: { role: token.role, hash: token.hash, createdAtMs: Date.now() },
      });
  }

  async removeToken(hash: string): Promise<void> {
    await this.#opened.database.delete(tokens).where(eq(tokens.hash, hash));
  }

  async presence(): Promise<PresenceRecord[]> {
    return this.#opened.database.select().from(presence);
  }

  async savePresence(record: PresenceRecord): Promise<void> {
    await this.#opened.database
      .insert(presence)
      .values(record)
      .onConflictDoUpdate({
        target: presence.uuid,
        set: { online: record.online, changedAtMs: record.changedAtMs },
      });
  }

  /** Nobody is connected to a broker that only just started: what was said before its last stop no longer holds. */
  async forgetPresence(): Promise<void> {
    await this.#opened.database.update(presence).set({ online: false }).where(eq(presence.online, true));
  }

  /** Throws when the database does not answer. */
  async ping(): Promise<void> {
    await this.#opened.database.execute(sql`SELECT 1`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#opened.close();
  }
}
