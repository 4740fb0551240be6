/** The tables of `releases.ts`, `targets.ts` and `rollouts.ts`. */
export const deployMigration = {
  version: 6,
  name: 'targets, releases, rollouts',
  statements: [
    `CREATE TABLE app_ids (
       name text PRIMARY KEY,
       app_id bigint NOT NULL UNIQUE
     )`,
    `CREATE TABLE releases (
       id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
       uuid text NOT NULL UNIQUE,
       app_id bigint NOT NULL,
       content text NOT NULL,
       given text NOT NULL,
       created_at_ms bigint NOT NULL,
       created_by text NOT NULL
     )`,
    `CREATE TABLE targets (
       id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
       fleet text REFERENCES fleets (name) ON DELETE CASCADE,
       device text,
       releases bigint[] NOT NULL,
       created_at_ms bigint NOT NULL,
       created_by text NOT NULL
     )`,
    'CREATE INDEX targets_fleet ON targets (fleet, id)',
    'CREATE INDEX targets_device ON targets (device, id)',
    `CREATE TABLE device_targets (
       device text PRIMARY KEY,
       target bigint NOT NULL REFERENCES targets (id)
     )`,
    `CREATE TABLE rollouts (
       id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
       fleet text NOT NULL REFERENCES fleets (name) ON DELETE CASCADE,
       target bigint NOT NULL REFERENCES targets (id) ON DELETE CASCADE,
       batch text NOT NULL,
       max_failures int NOT NULL,
       patience_ms bigint NOT NULL,
       state text NOT NULL,
       reason text,
       batch_no int NOT NULL,
       started_at_ms bigint NOT NULL,
       ended_at_ms bigint,
       started_by text NOT NULL
     )`,
    'CREATE INDEX rollouts_fleet ON rollouts (fleet, id)',
    `CREATE TABLE fleet_targets (
       fleet text PRIMARY KEY REFERENCES fleets (name) ON DELETE CASCADE,
       stable bigint REFERENCES targets (id) ON DELETE CASCADE,
       rollout bigint NOT NULL REFERENCES rollouts (id) ON DELETE CASCADE
     )`,
    `CREATE TABLE fleet_devices (
       device text PRIMARY KEY REFERENCES devices (uuid) ON DELETE CASCADE,
       fleet text NOT NULL REFERENCES fleets (name) ON DELETE CASCADE,
       target bigint NOT NULL REFERENCES targets (id) ON DELETE CASCADE,
       rollout bigint NOT NULL,
       batch_no int NOT NULL,
       state text NOT NULL,
       since_ms bigint NOT NULL,
       error text
     )`,
    'CREATE INDEX fleet_devices_fleet ON fleet_devices (fleet)',
    `CREATE TABLE target_changes (
       device text PRIMARY KEY,
       change bigint NOT NULL
     )`,
    'CREATE INDEX target_changes_change ON target_changes (change)',
    `CREATE TABLE target_clock (
       change bigint NOT NULL,
       pushed bigint NOT NULL,
       pusher text,
       pusher_until_ms bigint NOT NULL
     )`,
    'INSERT INTO target_clock VALUES (0, 0, NULL, 0)',
  ],
};
