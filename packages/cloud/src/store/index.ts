export { type LogEngine, StoreError } from './engine.ts';
export {
  type DeviceStats,
  LogStore,
  type OpenStoreOptions,
  openStore,
  type SearchResult,
} from './log-store.ts';
export type { Watermark } from './marks.ts';
export { maxPageLines, type SearchQuery, type StoredLine } from './search.ts';
export type { SeqRange } from './seq-ranges.ts';
