import type { LevelCounts } from '@millrace/wire';
import type { Logger } from 'pino';
import type { DeviceClock } from '../clock/device-clock.ts';
import type { JournalDisk } from './disk.ts';

export interface JournalOptions {
  /** Where segments lie; without one the journal lives in memory and forgets with the process. */
  disk?: JournalDisk;
  /** A segment is closed when it is larger. Default 5 MB. */
  maxFileBytes?: number;
  /** Most bytes of all segments together; what is shed to keep it, disk-budget.ts says. Default 200 MB. */
  maxBytes?: number;
  /** Segments older than this are dropped. Default 30 days. */
  maxAgeMs?: number;
  /** Lines and age of what is kept in memory. Defaults 1000 lines, 1 h. */
  recentLines?: number;
  recentAgeMs?: number;
  /** Mean time between syncs in the long run. Default 1000 ms. */
  syncIntervalMs?: number;
  /** Most bytes of lines kept in memory while the disk cannot be written. Default 16 MB. */
  maxOutageBytes?: number;
  /** How long writes may fail, with sources waiting, before the journal goes on in memory. Default 5000 ms. */
  outageGraceMs?: number;
  /** Time between attempts while the disk fails. Default 1000 ms. */
  diskRetryMs?: number;
  /** Default: that of the operating system. */
  clock?: DeviceClock;
  /**
   * How long network readers wait for a clock that was not set yet, from the first line that they cannot have for
   * that reason. Errors do not wait. Default one minute.
   */
  clockHoldMs?: number;
  log?: Logger;
}

export interface JournalStats {
  journal: string;
  /** Lines appended since the start of this process, and the bytes of their messages. */
  lines: number;
  logBytes: number;
  segments: number;
  diskBytes: number;
  /** Bytes written to disk by this process. */
  writtenBytes: number;
  /** Bytes written per byte of log: what the journal costs the flash. 0 before the first line. */
  writtenPerLogByte: number;
  syncs: number;
  /** True while the disk cannot be written and lines are only in memory. */
  memoryOnly: boolean;
  /** Lines shed, in memory or on disk, before every reader had confirmed them, by level: debug, info, warn, error. */
  shed: LevelCounts;
}

/** Called with every line as it is appended, before it is durable. */
export type LineListener = (text: string, journal: string, seq: number) => void;
