import type { Migration } from './migration.ts';

/**
 * Eight parts, and not five, become one: each merge compresses and indexes its lines again, which is what most of the CPU
 * of taking lines in goes to (decision 34). Parts that have lain for some time are merged by fewer, down to two.
 */
export const mergingMigration: Migration = {
  version: 6,
  name: 'merging',
  statements: ['ALTER TABLE millrace.logs MODIFY SETTING merge_selector_base = 8'],
};
