import type { DeviceState } from '@millrace/wire';
import { bigint, boolean, index, integer, jsonb, pgTable, primaryKey, text } from 'drizzle-orm/pg-core';

/** Times are ms since 1970: the API speaks them too, and both drivers read them alike. */
const timeMs = (name: string) => bigint(name, { mode: 'number' });

/** Groups of devices; a device is in one or in none. The name is the identity and never changes. */
export const fleets = pgTable('fleets', {
  name: text('name').primaryKey(),
  description: text('description'),
  createdAtMs: timeMs('created_at_ms').notNull(),
});

/** What people know of devices: one row per registration, or per device that somebody named or put into a fleet. */
export const devices = pgTable(
  'devices',
  {
    uuid: text('uuid').primaryKey(),
    name: text('name'),
    /** SHA-256 of the device's key, in hex. The key itself is never kept. Null for one that never registered here. */
    keyHash: text('key_hash'),
    createdAtMs: timeMs('created_at_ms').notNull(),
    fleet: text('fleet').references(() => fleets.name, { onDelete: 'set null' }),
  },
  (table) => [index('devices_fleet').on(table.fleet)],
);

export const deviceTags = pgTable(
  'device_tags',
  {
    device: text('device')
      .notNull()
      .references(() => devices.uuid, { onDelete: 'cascade' }),
    key: text('key').notNull(),
    value: text('value').notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.device, table.key] }),
    index('device_tags_value').on(table.key, table.value),
  ],
);

/** Bearer tokens of people and programs, and join keys; one per name. */
export const tokens = pgTable(
  'tokens',
  {
    name: text('name').primaryKey(),
    role: text('role').notNull(),
    /** SHA-256 of the token, in hex. */
    hash: text('hash').notNull(),
    createdAtMs: timeMs('created_at_ms').notNull(),
    /** What it is limited to: the devices of these fleets, and these devices. Both null: nothing is left out. */
    fleets: text('fleets').array(),
    devices: text('devices').array(),
    createdBy: text('created_by'),
    expiresAtMs: timeMs('expires_at_ms'),
  },
  (table) => [index('tokens_hash').on(table.hash)],
);

/**
 * What devices said last on their status topic. Apart from `devices`, since behind an external broker a device
 * may report and send without ever having registered here.
 */
export const presence = pgTable('presence', {
  uuid: text('uuid').primaryKey(),
  online: boolean('online').notNull(),
  changedAtMs: timeMs('changed_at_ms').notNull(),
});

/** What devices report of themselves, as it is now. */
export const deviceStates = pgTable('device_states', {
  uuid: text('uuid').primaryKey(),
  state: jsonb('state').$type<DeviceState>().notNull(),
  reportedAtMs: timeMs('reported_at_ms').notNull(),
  /** When something other than a metric changed. */
  changedAtMs: timeMs('changed_at_ms').notNull(),
});

/** What changed in the state of a device, and when; the newest of each device. */
export const deviceStateChanges = pgTable(
  'device_state_changes',
  {
    id: timeMs('id').primaryKey().generatedAlwaysAsIdentity(),
    uuid: text('uuid').notNull(),
    atMs: timeMs('at_ms').notNull(),
    changes: jsonb('changes').$type<DeviceState>().notNull(),
  },
  (table) => [index('device_state_changes_uuid').on(table.uuid, table.id)],
);

/** Queries that people want to come back to. */
export const savedSearches = pgTable('saved_searches', {
  id: text('id').primaryKey(),
  name: text('name').notNull().unique(),
  query: text('query').notNull(),
  /** As the API takes them: a moment, or an age such as `1h`. */
  since: text('since'),
  until: text('until'),
  createdBy: text('created_by').notNull(),
  createdAtMs: timeMs('created_at_ms').notNull(),
  changedAtMs: timeMs('changed_at_ms').notNull(),
});

/** Who did what, when. A trigger refuses changes to it. */
export const audit = pgTable(
  'audit',
  {
    id: timeMs('id').primaryKey().generatedAlwaysAsIdentity(),
    atMs: timeMs('at_ms').notNull(),
    actor: text('actor').notNull(),
    action: text('action').notNull(),
    subject: text('subject').notNull(),
    detail: jsonb('detail').$type<Record<string, unknown>>().notNull(),
  },
  (table) => [index('audit_subject').on(table.subject, table.id)],
);

/** How long lines are kept, and how much devices may send: see `retention/policy-book.ts`. */
export const policies = pgTable('policies', {
  id: text('id').primaryKey(),
  /** Fleet, device, service and level in one, since no two policies may be for the same. */
  selector: text('selector').notNull().unique(),
  fleet: text('fleet').references(() => fleets.name, { onDelete: 'cascade' }),
  device: text('device'),
  service: text('service'),
  level: text('level'),
  retentionDays: integer('retention_days'),
  dailyQuotaBytes: bigint('daily_quota_bytes', { mode: 'number' }),
  changedAtMs: timeMs('changed_at_ms').notNull(),
});

/** Devices of which something was refused for being over their quota: one row for each and the day. */
export const quotaRefusals = pgTable(
  'quota_refusals',
  {
    device: text('device').notNull(),
    day: text('day').notNull(),
    sinceMs: timeMs('since_ms').notNull(),
    /** How often, and the bytes that came with it: known only of senders that cannot be told to keep them. */
    dropped: bigint('dropped', { mode: 'number' }).notNull(),
    droppedBytes: bigint('dropped_bytes', { mode: 'number' }).notNull(),
  },
  (table) => [primaryKey({ columns: [table.device, table.day] })],
);

/** The id of each app that was deployed by its name. */
export const appIds = pgTable('app_ids', {
  name: text('name').primaryKey(),
  appId: bigint('app_id', { mode: 'number' }).notNull().unique(),
});

/** Apps as somebody asked for them. One never changes. */
export const releases = pgTable('releases', {
  id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
  uuid: text('uuid').notNull().unique(),
  appId: bigint('app_id', { mode: 'number' }).notNull(),
  /** SHA-256 of what the app means, in hex. */
  content: text('content').notNull(),
  /** The app as it was given, as JSON: PostgreSQL's own JSON holds no NUL. */
  given: text('given').notNull(),
  createdAtMs: timeMs('created_at_ms').notNull(),
  createdBy: text('created_by').notNull(),
});

/** What a fleet, or a device for itself, is to run: a set of releases. One never changes; the old ones are its history. */
export const targets = pgTable(
  'targets',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    fleet: text('fleet').references(() => fleets.name, { onDelete: 'cascade' }),
    device: text('device'),
    releases: bigint('releases', { mode: 'number' }).array().notNull(),
    createdAtMs: timeMs('created_at_ms').notNull(),
    createdBy: text('created_by').notNull(),
  },
  (table) => [
    index('targets_fleet').on(table.fleet, table.id),
    index('targets_device').on(table.device, table.id),
  ],
);

/** The targets of devices for themselves. */
export const deviceTargets = pgTable('device_targets', {
  device: text('device').primaryKey(),
  target: bigint('target', { mode: 'number' })
    .notNull()
    .references(() => targets.id),
});

/** How a target is brought to the devices of a fleet: see `targets/rollout.ts`. */
export const rollouts = pgTable(
  'rollouts',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    fleet: text('fleet')
      .notNull()
      .references(() => fleets.name, { onDelete: 'cascade' }),
    target: bigint('target', { mode: 'number' })
      .notNull()
      .references(() => targets.id, { onDelete: 'cascade' }),
    /** `5` devices or `25%` of them. */
    batch: text('batch').notNull(),
    maxFailures: integer('max_failures').notNull(),
    patienceMs: bigint('patience_ms', { mode: 'number' }).notNull(),
    state: text('state').notNull(),
    reason: text('reason'),
    batchNo: integer('batch_no').notNull(),
    startedAtMs: timeMs('started_at_ms').notNull(),
    endedAtMs: timeMs('ended_at_ms'),
    startedBy: text('started_by').notNull(),
  },
  (table) => [index('rollouts_fleet').on(table.fleet, table.id)],
);

/** The newest rollout of each fleet that has a target, and the target that a device gets which no rollout has reached. */
export const fleetTargets = pgTable('fleet_targets', {
  fleet: text('fleet')
    .primaryKey()
    .references(() => fleets.name, { onDelete: 'cascade' }),
  stable: bigint('stable', { mode: 'number' }).references(() => targets.id, { onDelete: 'cascade' }),
  rollout: bigint('rollout', { mode: 'number' })
    .notNull()
    .references(() => rollouts.id, { onDelete: 'cascade' }),
});

/** Devices that a rollout of their fleet has reached. */
export const fleetDevices = pgTable(
  'fleet_devices',
  {
    device: text('device')
      .primaryKey()
      .references(() => devices.uuid, { onDelete: 'cascade' }),
    fleet: text('fleet')
      .notNull()
      .references(() => fleets.name, { onDelete: 'cascade' }),
    target: bigint('target', { mode: 'number' })
      .notNull()
      .references(() => targets.id, { onDelete: 'cascade' }),
    rollout: bigint('rollout', { mode: 'number' }).notNull(),
    batchNo: integer('batch_no').notNull(),
    state: text('state').notNull(),
    sinceMs: timeMs('since_ms').notNull(),
    error: text('error'),
  },
  (table) => [index('fleet_devices_fleet').on(table.fleet)],
);

/** Devices whose target has changed, with the number of the change: see `target-changes.ts`. */
export const targetChanges = pgTable(
  'target_changes',
  {
    device: text('device').primaryKey(),
    change: bigint('change', { mode: 'number' }).notNull(),
  },
  (table) => [index('target_changes_change').on(table.change)],
);
