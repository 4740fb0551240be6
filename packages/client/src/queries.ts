import type { Level } from '@millrace/wire';

/** Which lines are meant. All conditions must hold; one that is left out always does. */
export interface LineFilter {
  device?: string;
  service?: string;
  levels?: readonly Level[];
  stream?: 'stdout' | 'stderr';
  /** Words that must all occur in the message, without any meaning. */
  text?: string | readonly string[];
  /** In the query language of docs/search.md. */
  query?: string;
}

/** Ms since 1970, or what the API takes as text: ISO 8601, or an age such as `10m`. */
export type Moment = number | string | Date;

export interface TimeRange {
  /** Inclusive. */
  since?: Moment;
  /** Exclusive. */
  until?: Moment;
}

export interface SearchQuery extends LineFilter, TimeRange {
  /** Most lines of a page, 1 to 10 000; by default 100. */
  limit?: number;
  /** By default `desc`: the newest first. */
  order?: 'asc' | 'desc';
  /** Of the page before. */
  cursor?: string;
}

export interface HistogramQuery extends LineFilter, TimeRange {
  /** A field as a query names it, or `none`; by default `level`. */
  by?: string;
  buckets?: number;
  /** Length of a bucket: ms, or text such as `5m`. */
  step?: number | string;
  series?: number;
}

export interface FacetsQuery extends LineFilter, TimeRange {
  fields?: readonly string[];
  limit?: number;
}

export interface PatternsQuery extends LineFilter, TimeRange {
  limit?: number;
}

export interface ContextQuery {
  /** Of the line. */
  id: string;
  device?: string;
  before?: number;
  after?: number;
  within?: 'container' | 'device';
}

export interface ExportQuery extends LineFilter, TimeRange {
  /** By default `ndjson`. */
  format?: 'ndjson' | 'csv' | 'text';
  /** By default `asc`: the oldest first. */
  order?: 'asc' | 'desc';
  formulas?: 'escape' | 'keep';
}

export interface DeviceLogsQuery {
  count?: number | 'all';
  start?: Moment;
}

export interface DevicesQuery {
  fleet?: string;
  /** `key=value`; all must be there. */
  tag?: string | readonly string[];
  online?: boolean;
}

export interface DeviceChanges {
  name?: string | null;
  fleet?: string | null;
  /** All its tags: those left out are removed. */
  tags?: Record<string, string>;
}

type Value = string | number | boolean | Date | readonly string[] | undefined;

/** The parameters of an address, with its question mark; empty when there are none. */
export function parameters(query: { [name: string]: Value } | object): string {
  const out = new URLSearchParams();
  for (const [name, value] of Object.entries(query) as [string, Value][]) {
    if (value === undefined) continue;
    if (name === 'levels') out.set('level', (value as readonly string[]).join(','));
    else if (value instanceof Date) out.set(name, String(value.getTime()));
    else if (typeof value === 'object') for (const one of value) out.append(name, one);
    else out.set(name, String(value));
  }
  const text = out.toString();
  return text === '' ? '' : `?${text}`;
}
