export { agentSettings } from './config.ts';
export { connectEngine } from './docker/engine.ts';
export { FolderDisk, type JournalDisk } from './journal/disk.ts';
export {
  type Damage,
  type InspectedSegment,
  inspectJournal,
  type MissingSeqs,
  readJournal,
  type SegmentReport,
} from './journal/inspect.ts';
export { Journal, type JournalOptions } from './journal/journal.ts';
export { CloudLogBackend, type CloudLogBackendOptions } from './logging/cloud-backend.ts';
export { LocalLogBackend, type LocalLogBackendOptions } from './logging/local-backend.ts';
export { ContainerLogMonitor } from './logging/monitor.ts';
export { MqttLogBackend, type MqttLogBackendOptions } from './logging/mqtt-backend.ts';
export * from './logging/types.ts';
export { type Agent, type AgentOptions, type AgentState, startAgent } from './main.ts';
