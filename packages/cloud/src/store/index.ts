export type { LineConditions } from './conditions.ts';
export { type ContextQuery, maxContextLines } from './context.ts';
export { type LogEngine, StoreError } from './engine.ts';
export { maxFacets, maxFacetValues } from './facets.ts';
export { type HistogramQuery, maxBuckets, maxSeries } from './histogram.ts';
export { inspectCluster, inspectStore } from './inspect.ts';
export { LogReader } from './log-reader.ts';
export {
  type DeviceStats,
  LogStore,
  type OpenStoreOptions,
  openStore,
  type StoreSize,
} from './log-store.ts';
export type { Watermark } from './marks.ts';
export { maxPatterns, type PatternsQuery } from './patterns.ts';
export type { Deletion, Partition, RemovalReason } from './removal.ts';
export { restoreStore } from './restore.ts';
export { maxPageLines, type SearchQuery } from './search.ts';
export type { SeqRange } from './seq-ranges.ts';
export type { DayUsage, Removal, UsageQuery } from './usage.ts';
