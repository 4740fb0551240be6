import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { MillraceError } from '@millrace/wire';
import type { Records } from '../records/records.ts';
import { type Caller, callerOf, validToken } from './callers.ts';
import { hashSecret, newSecret, readSecretFile, sameHash, writeSecretFile } from './secrets.ts';

/** A device's uuid: it becomes a topic level and a path segment, so it holds nothing that either gives a meaning. */
export const uuidPattern = /^[A-Za-z0-9_-]{1,64}$/;
/** Shortest key a device may bring. */
export const minKeyChars = 16;

export const joinKeyFile = 'join-key';
export const cliTokenFile = 'cli-token';

/** User name at the broker of whoever holds an admin token; no device can have it for its uuid. */
export const adminUser = 'admin';

const adminTokenName = 'admin';

export interface OpenIdentityOptions {
  records: Records;
  dataDir: string;
  /** Replaces the admin token set or made earlier. */
  adminToken?: string;
  /** In place of the one made and kept in the data folder. */
  joinKey?: string;
}

/** What came with a join key. */
export interface Joining {
  /** Name of the key. */
  by: string;
  /** Where the device is put. */
  fleet: string | null;
}

export interface Registration {
  uuid: string;
  apiKey: string;
  /** False when the device had registered before with the same key. */
  created: boolean;
}

/**
 * Who may do what: tokens (one for the admin, one of the local command line, made anew at each start), a key per
 * device, and the join keys by which unknown devices register.
 */
export class Identity {
  readonly joinKey: string;
  /** Set only when it was made at this start: nothing but its hash is kept, so this is the time to show it. */
  readonly newAdminToken: string | undefined;
  readonly #records: Records;
  readonly #joinKeyHash: string;

  private constructor(options: { records: Records; joinKey: string; newAdminToken?: string }) {
    this.#records = options.records;
    this.joinKey = options.joinKey;
    this.#joinKeyHash = hashSecret(options.joinKey);
    this.newAdminToken = options.newAdminToken;
  }

  /** Reads what earlier starts left, makes what is missing, and leaves the command line's token in the data folder. */
  static async open({ records, dataDir, adminToken, joinKey }: OpenIdentityOptions): Promise<Identity> {
    let newAdminToken: string | undefined;
    if (adminToken !== undefined) {
      await records.tokens.save({ name: adminTokenName, role: 'admin', hash: hashSecret(adminToken) });
    } else if (!(await records.tokens.get(adminTokenName))) {
      const made = newSecret();
      // Another process that starts at this moment on the same database may be quicker: then its token is the one.
      const isOurs = await records.tokens.add({
        name: adminTokenName,
        role: 'admin',
        hash: hashSecret(made),
        createdBy: null,
      });
      if (isOurs) newAdminToken = made;
    }
    await saveCliToken(records, dataDir);
    return new Identity({ records, joinKey: joinKey ?? (await keptJoinKey(dataDir)), newAdminToken });
  }

  /** Whether a bearer token is an admin's. */
  async isAdmin(token: string | undefined): Promise<boolean> {
    return (await validToken(this.#records, token))?.role === 'admin';
  }

  /** Whoever holds a bearer token. @throws MillraceError `FORBIDDEN` as {@link callerOf} does */
  caller(token: string | undefined): Promise<Caller | undefined> {
    return callerOf(this.#records, token);
  }

  /** Whether `key` is the key of this very device. */
  async isDevice(uuid: string, key: string | undefined): Promise<boolean> {
    if (!key || !uuidPattern.test(uuid)) return false;
    const device = await this.#records.devices.get(uuid);
    return device?.keyHash != null && sameHash(device.keyHash, hashSecret(key));
  }

  /** Whether `key` is the key of any device: for addresses that do not say whose. */
  async isOfDevice(key: string | undefined): Promise<boolean> {
    return key !== undefined && (await this.#records.devices.hasKey(hashSecret(key)));
  }

  /** What a join key lets a device do: register, and into which fleet. `undefined` for a key that is none. */
  async joining(key: string | undefined): Promise<Joining | undefined> {
    if (!key) return undefined;
    if (sameHash(hashSecret(key), this.#joinKeyHash)) return { by: 'join key', fleet: null };
    const token = await validToken(this.#records, key);
    if (token?.role !== 'join') return undefined;
    return { by: token.name, fleet: token.fleets?.[0] ?? null };
  }

  /**
   * Registers a device. The caller has checked the join key.
   *
   * @param apiKey the device's own choice; made here when it brings none
   * @throws MillraceError `BODY_INVALID` or `CONFLICT`
   */
  async register(
    device: { uuid: string; apiKey?: string; name?: string },
    { by, fleet }: Joining = { by: 'join key', fleet: null },
  ): Promise<Registration> {
    const { uuid, name } = device;
    if (!uuidPattern.test(uuid)) {
      throw new MillraceError('BODY_INVALID', 'uuid: must be 1 to 64 of A-Z, a-z, 0-9, "_" and "-"');
    }
    if (uuid === adminUser) throw new MillraceError('BODY_INVALID', `uuid: "${uuid}" is taken`);
    if (device.apiKey !== undefined && device.apiKey.length < minKeyChars) {
      throw new MillraceError('BODY_INVALID', `api_key: must have at least ${minKeyChars} characters`);
    }
    const apiKey = device.apiKey ?? newSecret();
    const keyHash = hashSecret(apiKey);
    const created = await this.#records.transaction(async (records) => {
      if (fleet !== null) await records.targetChanges.lock();
      const isNew = await records.devices.add({
        uuid,
        name: name ?? null,
        keyHash,
        createdAtMs: Date.now(),
        fleet,
      });
      if (isNew) {
        // What its fleet is to run is now its, too.
        if (fleet !== null) await records.targetChanges.note([uuid]);
        await records.audit.append({
          actor: by,
          action: 'device.register',
          subject: uuid,
          detail: { ...(name && { name }), ...(fleet !== null && { fleet }) },
        });
      }
      return isNew;
    });
    // A device that lost our answer asks again with the key it made; anyone else has another key.
    if (!created && !(await this.isDevice(uuid, apiKey))) {
      throw new MillraceError('CONFLICT', `device ${uuid} is registered already, with another key`);
    }
    return { uuid, apiKey, created };
  }
}

async function keptJoinKey(dataDir: string): Promise<string> {
  const path = join(dataDir, joinKeyFile);
  const kept = await readSecretFile(path);
  if (kept) return kept;
  const made = newSecret();
  await writeSecretFile(path, made);
  return made;
}

async function saveCliToken(records: Records, dataDir: string): Promise<void> {
  const path = join(dataDir, cliTokenFile);
  const token = newSecret();
  // The one before may be under another name, when the folder has moved or the machine was renamed.
  const before = await readSecretFile(path);
  if (before) await records.tokens.removeByHash(hashSecret(before));
  // Named after the place, so that processes that share a database do not take each other's away.
  const name = `local CLI ${hostname()}:${resolve(dataDir)}`;
  await records.tokens.save({ name, role: 'admin', hash: hashSecret(token) });
  await writeSecretFile(path, token);
}
