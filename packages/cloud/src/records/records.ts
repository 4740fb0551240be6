import { join } from 'node:path';
import { sql } from 'drizzle-orm';
import type { Logger } from 'pino';
import { Audit, type AuditEntry } from './audit.ts';
import {
  type AccessListener,
  type Database,
  guarded,
  type OpenedDatabase,
  openEmbedded,
  openServer,
  recordsError,
} from './database.ts';
import { DeviceRecords } from './devices.ts';
import { FleetRecords } from './fleets.ts';
import { migrate } from './migrations.ts';
import { PeerTable } from './peer-table.ts';
import { PolicyRecords } from './policies.ts';
import { PresenceRecords } from './presence.ts';
import { QuotaRefusals } from './refusals.ts';
import { ReleaseRecords } from './releases.ts';
import { RolloutRecords } from './rollouts.ts';
import { SavedSearches } from './searches.ts';
import { DeviceStates } from './states.ts';
import { TargetChanges } from './target-changes.ts';
import { TargetRecords } from './targets.ts';
import { TokenRecords } from './tokens.ts';

export interface OpenRecordsOptions {
  /** The embedded database lives in `records` below it. */
  dataDir: string;
  /** A PostgreSQL server instead of the embedded one. */
  databaseUrl?: string;
  log: Logger;
}

/**
 * The records by what they are about: of the database, or of a transaction in it. Every method throws MillraceError
 * `RECORDS_FAILED` when the database does not do its part.
 */
class RecordTables {
  readonly devices: DeviceRecords;
  readonly fleets: FleetRecords;
  readonly tokens: TokenRecords;
  readonly presence: PresenceRecords;
  readonly states: DeviceStates;
  readonly searches: SavedSearches;
  readonly policies: PolicyRecords;
  readonly refusals: QuotaRefusals;
  readonly releases: ReleaseRecords;
  readonly targets: TargetRecords;
  readonly rollouts: RolloutRecords;
  readonly targetChanges: TargetChanges;
  readonly audit: Audit;

  constructor(database: Database) {
    this.devices = guarded(new DeviceRecords(database));
    this.fleets = guarded(new FleetRecords(database));
    this.tokens = guarded(new TokenRecords(database));
    this.presence = guarded(new PresenceRecords(database));
    this.states = guarded(new DeviceStates(database));
    this.searches = guarded(new SavedSearches(database));
    this.policies = guarded(new PolicyRecords(database));
    this.refusals = guarded(new QuotaRefusals(database));
    this.releases = guarded(new ReleaseRecords(database));
    this.targets = guarded(new TargetRecords(database));
    this.rollouts = guarded(new RolloutRecords(database));
    this.targetChanges = guarded(new TargetChanges(database));
    this.audit = guarded(new Audit(database));
  }
}

export type { AccessListener, RecordTables };

/** What must survive beside the log lines: devices, fleets, tokens, saved searches, and who did what. */
export class Records extends RecordTables implements AsyncDisposable {
  readonly #opened: OpenedDatabase;
  #closed = false;

  private constructor(opened: OpenedDatabase) {
    super(opened.database);
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

  /** Runs changes that belong together: all happen, or, when `work` throws, none. */
  async transaction<T>(work: (records: RecordTables) => Promise<T>): Promise<T> {
    try {
      return await this.#opened.database.transaction((tx) => work(new RecordTables(tx)));
    } catch (error) {
      throw recordsError(error);
    }
  }

  /**
   * Tells what this or another process changed, until the handle is disposed of. Of the embedded database, which has but
   * one process, nothing: that one knows.
   */
  onAccessChange(listener: AccessListener): AsyncDisposable {
    return this.#opened.listen?.(listener) ?? { [Symbol.asyncDispose]: async () => undefined };
  }

  /** The processes of this cloud and what each answers for. */
  get peers(): PeerTable {
    return new PeerTable(this.#opened.database);
  }

  /** Like {@link transaction}, with an entry of the audit that is there exactly if the changes are. */
  audited<T>(entry: AuditEntry, work: (records: RecordTables) => Promise<T>): Promise<T> {
    return this.transaction(async (records) => {
      const result = await work(records);
      await records.audit.append(entry);
      return result;
    });
  }

  /** All of the embedded database, for a backup; `undefined` for a server, which has its own means. */
  async dump(): Promise<Uint8Array | undefined> {
    return this.#opened.dump?.();
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
