export { type Backup, Backups } from './backups.ts';
export { backUpOffline } from './offline.ts';
export { restore } from './restore.ts';
