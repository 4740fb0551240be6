import { and, asc, eq, gt, inArray, isNull, type SQL, sql } from 'drizzle-orm';
import type { DeviceGroup, DeviceGroups } from '../query/index.ts';
import type { Database } from './database.ts';
import { noteAccessChange } from './notices.ts';
import { devices, deviceTags } from './schema.ts';

export type Tags = Record<string, string>;
export type Tag = readonly [key: string, value: string];

export interface DeviceRecord {
  uuid: string;
  name: string | null;
  /** Null for a device that somebody named, and that never registered here. */
  keyHash: string | null;
  createdAtMs: number;
  fleet: string | null;
}

export interface TaggedDevice extends DeviceRecord {
  tags: Tags;
}

export interface DeviceFilter {
  /** Only these. */
  uuids?: readonly string[];
  fleet?: string;
  /** Tags that it must all have, as key and value. */
  tags?: readonly Tag[];
  /** Behind this uuid, in the order of bytes. */
  after?: string;
  limit?: number;
}

/** In the order of bytes, as the log store has it, whatever the language of the database. */
const byUuid = sql`${devices.uuid} COLLATE "C"`;

/** Devices, the fleet each is in, and their tags. */
export class DeviceRecords implements DeviceGroups {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async get(uuid: string): Promise<DeviceRecord | undefined> {
    const [row] = await this.#database.select().from(devices).where(eq(devices.uuid, uuid)).limit(1);
    return row;
  }

  /** Those that a filter lets through, by uuid. */
  async list(filter: DeviceFilter = {}): Promise<TaggedDevice[]> {
    const { uuids, fleet, tags = [], after, limit } = filter;
    const where: SQL[] = [];
    if (uuids !== undefined) where.push(inUuids(devices.uuid, uuids));
    if (fleet !== undefined) where.push(eq(devices.fleet, fleet));
    if (after !== undefined) where.push(gt(byUuid, after));
    for (const [key, value] of tags) {
      const tagged = this.#database
        .select({ device: deviceTags.device })
        .from(deviceTags)
        .where(and(eq(deviceTags.key, key), eq(deviceTags.value, value)));
      where.push(inArray(devices.uuid, tagged));
    }
    const query = this.#database
      .select()
      .from(devices)
      .where(and(...where))
      .orderBy(asc(byUuid));
    const rows = limit === undefined ? await query : await query.limit(limit);
    const tagsOf = await this.#tagsOf(rows.map(({ uuid }) => uuid));
    return rows.map((row) => ({ ...row, tags: tagsOf.get(row.uuid) ?? {} }));
  }

  /** Adds a device. Returns false, and changes nothing, when one has registered under its uuid already. */
  async add(device: Omit<DeviceRecord, 'fleet' | 'keyHash'> & { keyHash: string; fleet?: string | null }) {
    const { name, keyHash, fleet = null } = device;
    const added = await this.#database
      .insert(devices)
      .values({ ...device, fleet })
      .onConflictDoUpdate({
        target: devices.uuid,
        // What somebody had said of it before it came stays.
        set: {
          keyHash,
          name: sql`coalesce(${devices.name}, ${name})`,
          fleet: sql`coalesce(${devices.fleet}, ${fleet})`,
        },
        setWhere: isNull(devices.keyHash),
      })
      .returning({ uuid: devices.uuid });
    return added.length > 0;
  }

  /** Changes what is given; a device that is known by its lines alone is noted down for it. */
  async change(
    uuid: string,
    { name, fleet, tags }: { name?: string | null; fleet?: string | null; tags?: Tags },
  ): Promise<void> {
    const set = { ...(name !== undefined && { name }), ...(fleet !== undefined && { fleet }) };
    const noted = this.#database.insert(devices).values({ uuid, createdAtMs: Date.now(), ...set });
    if (Object.keys(set).length === 0) await noted.onConflictDoNothing();
    else await noted.onConflictDoUpdate({ target: devices.uuid, set });
    if (tags === undefined) return;
    await this.#database.delete(deviceTags).where(eq(deviceTags.device, uuid));
    const rows = Object.entries(tags).map(([key, value]) => ({ device: uuid, key, value }));
    if (rows.length > 0) await this.#database.insert(deviceTags).values(rows);
  }

  /** Replaces the key of a device. Returns false when it is not known. */
  async setKey(uuid: string, keyHash: string): Promise<boolean> {
    const set = await this.#database
      .update(devices)
      .set({ keyHash })
      .where(eq(devices.uuid, uuid))
      .returning({ uuid: devices.uuid });
    await noteAccessChange(this.#database, { device: uuid });
    return set.length > 0;
  }

  /** The hash of the key of each of some devices that are known; null for one without. */
  async keyHashes(uuids: readonly string[]): Promise<Map<string, string | null>> {
    const rows = await this.#database
      .select({ uuid: devices.uuid, keyHash: devices.keyHash })
      .from(devices)
      .where(inUuids(devices.uuid, uuids));
    return new Map(rows.map(({ uuid, keyHash }) => [uuid, keyHash]));
  }

  /** Whether this is the key of any device. */
  async hasKey(keyHash: string): Promise<boolean> {
    const [row] = await this.#database
      .select({ uuid: devices.uuid })
      .from(devices)
      .where(eq(devices.keyHash, keyHash))
      .limit(1);
    return row !== undefined;
  }

  /** Forgets a device: its key, name, fleet and tags. Returns false when it was not known. */
  async remove(uuid: string): Promise<boolean> {
    const removed = await this.#database
      .delete(devices)
      .where(eq(devices.uuid, uuid))
      .returning({ uuid: devices.uuid });
    await noteAccessChange(this.#database, { device: uuid });
    return removed.length > 0;
  }

  /** The fleet of each device that is in one. */
  async fleetOfEach(): Promise<Map<string, string>> {
    const rows = await this.#database
      .select({ uuid: devices.uuid, fleet: devices.fleet })
      .from(devices)
      .where(sql`${devices.fleet} IS NOT NULL`);
    return new Map(rows.map(({ uuid, fleet }) => [uuid, fleet as string]));
  }

  /** Uuids of the devices of some fleets. */
  async inFleets(fleets: readonly string[]): Promise<string[]> {
    if (fleets.length === 0) return [];
    const rows = await this.#database
      .select({ uuid: devices.uuid })
      .from(devices)
      .where(inUuids(devices.fleet, fleets));
    return rows.map(({ uuid }) => uuid);
  }

  /** The values that there are: names of fleets with devices in them, or what devices have under a tag's key. */
  async groupValues(group: DeviceGroup): Promise<string[]> {
    const rows =
      group.kind === 'fleet'
        ? await this.#database.selectDistinct({ value: devices.fleet }).from(devices)
        : await this.#database
            .selectDistinct({ value: deviceTags.value })
            .from(deviceTags)
            .where(eq(deviceTags.key, group.key));
    return rows.flatMap(({ value }) => value ?? []);
  }

  /** Uuids of the devices that have one of these values. */
  async inGroup(group: DeviceGroup, values: readonly string[]): Promise<string[]> {
    if (group.kind === 'fleet') return this.inFleets(values);
    if (values.length === 0) return [];
    const rows = await this.#database
      .select({ uuid: deviceTags.device })
      .from(deviceTags)
      .where(and(eq(deviceTags.key, group.key), inUuids(deviceTags.value, values)));
    return rows.map(({ uuid }) => uuid);
  }

  async #tagsOf(uuids: readonly string[]): Promise<Map<string, Tags>> {
    const found = new Map<string, Tags>();
    if (uuids.length === 0) return found;
    const rows = await this.#database
      .select()
      .from(deviceTags)
      .where(inUuids(deviceTags.device, uuids))
      .orderBy(deviceTags.device, deviceTags.key);
    for (const { device, key, value } of rows) {
      let tags = found.get(device);
      if (!tags) {
        tags = {};
        found.set(device, tags);
      }
      tags[key] = value;
    }
    return found;
  }
}

/** As one parameter: PostgreSQL takes no more than 65 535 of them. */
function inUuids(
  column: typeof devices.uuid | typeof devices.fleet | typeof deviceTags.device | typeof deviceTags.value,
  values: readonly string[],
): SQL {
  return sql`${column} = ANY(${sql.param([...values])}::text[])`;
}
