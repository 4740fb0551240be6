export { Claim, type Claims } from './claims.ts';
export type { Ack, InboundStream } from './inbound-stream.ts';
export {
  type Accepted,
  Ingest,
  type IngestLimits,
  type IngestOptions,
  type IngestStats,
  type IngestStore,
} from './ingest.ts';
export type { AdmittedLines, TailListener } from './tail.ts';
