import type { Level } from './levels.ts';
import type { LogMessage } from './message.ts';

/** What the cloud's API answers, beside LogMessage. Times are ms since 1970, UTC. */

/** A line as the cloud has it. */
export interface StoredLine extends LogMessage {
  device: string;
  /** By the cloud's clock. */
  receivedAt: number;
}

/** A page of a search. */
export interface LogPage {
  logs: StoredLine[];
  /** Leads to the next page; none when this was the last. */
  cursor?: string;
  /** With the other order: leads to what lies before the first line, also when it comes later. None of an empty page. */
  back?: string;
}

/** Counts of one value, one for each bucket of a histogram. */
export interface Series {
  /** `null` for lines that have none. */
  value: string | null;
  count: number;
  counts: number[];
}

export interface Histogram {
  /** Beginning of the first bucket; a multiple of `stepMs`. */
  since: number;
  /** End of the last bucket, exclusive. */
  until: number;
  stepMs: number;
  count: number;
  counts: number[];
  /** Unless only lines were counted: the most frequent values, most lines first. */
  series?: Series[];
  /** Lines of the values that are not among `series`. */
  other?: { count: number; counts: number[] };
}

export interface Facet {
  field: string;
  /** Most lines first; equally many by value. Long values are cut, and counted by what is left. */
  values: { value: string; count: number }[];
  /** Values there are in all. */
  distinct: number;
  /** Lines with a value that is not among `values`. */
  otherLines: number;
  /** Lines without a value. */
  withoutLines: number;
}

export interface Facets {
  facets: Facet[];
}

export interface Context {
  line: StoredLine;
  /** Both in the order of a search, oldest first. */
  before: StoredLine[];
  after: StoredLine[];
}

/** An app of a device, in short. */
export interface DeviceApp {
  id: string;
  name: string | null;
  /** The release that runs: a uuid for one of the cloud's, a number for one of the device's own. */
  release: string | null;
  /** `done`, `downloading`, `applying changes`, `aborted`; `rejected` when the release that was asked for failed. */
  status: string | null;
}

/** What is known of a device. */
export interface Device {
  uuid: string;
  name: string | null;
  /** `null` for none. */
  fleet: string | null;
  tags: Record<string, string>;
  /** False for a device that is known by its lines alone. */
  registered: boolean;
  /** `null` when nothing was ever heard of it. */
  online: boolean | null;
  /** Since when `online` has been what it is. */
  onlineChangedAt: number | null;
  /** When it last reported its state. */
  reportedAt: number | null;
  /** What it reported of its apps, in short. */
  apps: DeviceApp[];
  createdAt: number | null;
  firstSeen: number | null;
  lastSeen: number | null;
  lines: number;
  /** Of its messages, uncompressed. */
  bytes: number;
  clockSkewMs: number | null;
  /** Lines between its oldest and its newest that are not here. */
  missing: number;
}

/** Lines of a device that are missing. */
export interface Gap {
  journal: string;
  /** Seqs, both included. */
  from: number;
  to: number;
  lines: number;
  since: number;
}

export interface Health {
  status: 'ok' | 'failing';
  checks: Record<string, 'ok' | 'failing'>;
}

/** A line as balena's API shows it. */
export interface BalenaLog {
  message: string;
  /** When it arrived. */
  createdAt: number;
  timestamp: number;
  isSystem: boolean;
  isStdErr: boolean;
  serviceId?: number;
}

/** Lines that read alike. */
export interface Pattern {
  /** What they have in common, with `<*>` for what differs: `connection to <*> refused after <*> ms`. */
  pattern: string;
  /** Lines among those that were examined. */
  count: number;
  /** Of the lines examined, 0 to 1. */
  share: number;
  levels: Record<Level, number>;
  firstSeen: number;
  lastSeen: number;
  /** The newest of them; its message may be cut. */
  example: { id: string; device: string; timestamp: number; message: string };
}

export interface Patterns {
  /** Most lines first. */
  patterns: Pattern[];
  /** Patterns there are in all, those that are not shown included. */
  distinct: number;
  /** Lines that match. */
  total: number;
  /** Lines that were looked at: fewer than `total` when there are too many, then an even sample of them. */
  examined: number;
}
