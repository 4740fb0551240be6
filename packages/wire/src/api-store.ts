import type { Problem } from './errors.ts';
import type { Level } from './levels.ts';

/** What the cloud's API answers about what is kept. Times are ms since 1970; days are UTC, `2026-11-20`. */

/** How long lines are kept, and how much devices may send. `null` is any, or nothing said. */
export interface Policy {
  id: string;
  fleet: string | null;
  device: string | null;
  service: string | null;
  level: Level | null;
  retentionDays: number | null;
  dailyQuotaBytes: number | null;
  changedAt: number;
}

/** What arrived on a day. */
export interface DayOfUsage {
  day: string;
  lines: number;
  /** Of messages, uncompressed. */
  bytes: number;
}

export interface Usage extends DayOfUsage {
  device: string;
}

export interface DeviceUsage {
  device: string;
  days: DayOfUsage[];
  /** `null` for a device that may send any amount. */
  quota: {
    dailyBytes: number;
    usedBytes: number;
    refusedSince: number | null;
    dropped: number;
    droppedBytes: number;
  } | null;
}

/** What is stored, until when, and what was removed last. */
export interface StoreUse {
  bytesOnDisk: number;
  maxBytes: number | null;
  overCap: boolean;
  partitions: {
    day: string;
    retentionDays: number;
    lines: number;
    bytesOnDisk: number;
    expiresAt: number;
  }[];
  removals: {
    day: string;
    retentionDays: number;
    why: 'expired' | 'disk-cap' | 'deleted';
    lines: number;
    bytes: number;
    removedAt: number;
  }[];
}

export interface Backup {
  name: string;
  /** On the machine of the cloud. */
  path: string;
  createdAt: number;
  lines: number;
  /** False when the records are in a server, which is backed up by its own means. */
  records: boolean;
}

export interface Backups {
  /** Those that are whole, the newest first. */
  backups: Backup[];
  /** Name of the one that is being made. */
  running: string | null;
  /** The last one, if it came to nothing. */
  failed: { name: string; problem: Problem } | null;
}
