/** By what division of devices among shards a process stores, and the one under which a slot was claimed. */
export const divisionMigration = {
  version: 7,
  name: 'division',
  statements: [
    'ALTER TABLE cloud_peers ADD COLUMN division text',
    'ALTER TABLE cloud_slots ADD COLUMN division text',
  ],
};
