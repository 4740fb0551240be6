export { MillraceClient } from './client.ts';
export { type Access, type ClientOptions, ServerProblem } from './connection.ts';
export type {
  ContextQuery,
  DeviceChanges,
  DeviceLogsQuery,
  DevicesQuery,
  ExportQuery,
  FacetsQuery,
  HistogramQuery,
  LineFilter,
  Moment,
  PatternsQuery,
  SearchQuery,
  TimeRange,
} from './queries.ts';
export type { AuditQuery, Fleets, NewToken, SavedSearches, SearchToSave, Tokens } from './records.ts';
export type { DaysQuery, Policies, PolicyToSet, StoreApi } from './store.ts';
export type { ExportFile, TailEvent } from './streams.ts';
export type { Deployed, Deployment, FleetDeployment, Targets } from './targets.ts';
