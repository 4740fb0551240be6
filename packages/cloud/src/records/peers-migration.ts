/** The tables of `peer-table.ts`. */
export const peersMigration = {
  version: 5,
  name: 'peers',
  statements: [
    `CREATE TABLE cloud_peers (
       url text PRIMARY KEY,
       id text NOT NULL,
       secret text NOT NULL,
       beat bigint NOT NULL
     )`,
    `CREATE TABLE cloud_slots (
       slot int PRIMARY KEY,
       owner text,
       epoch bigint NOT NULL
     )`,
    'INSERT INTO cloud_slots SELECT slot, NULL, 0 FROM generate_series(0, 255) AS slot',
  ],
};
