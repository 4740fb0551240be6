import type { ApiBinderState } from './api-binder.ts';
import type { TargetState } from './apps/remote/follower.ts';
import type { JournalStats } from './journal/options.ts';
import type { CloudBackendState } from './logging/cloud/options.ts';
import type { GapCounts } from './logging/gap.ts';
import type { MqttBackendState } from './logging/mqtt/options.ts';
import type { SourceState } from './logging/source.ts';
import type { ProcessFigures } from './metrics/process-meter.ts';
import type { DropCounts } from './shape/shaper.ts';

/** What an agent knows of itself: `GET /v1/device`, and in numbers `GET /metrics`. */
export interface AgentState {
  docker: { connected: boolean; containers: number; error?: string };
  /** What is read besides the containers, by its name: `journald`, `syslog`, `files`. Only what the settings ask for. */
  sources: Record<string, SourceState>;
  /** Lines that rules kept out of the journal, by reason. */
  dropped: Readonly<DropCounts>;
  /** Stretches of logs that could not be read, by reason, and how many bytes at least they had. */
  missed: Readonly<GapCounts>;
  mqtt?: MqttBackendState;
  cloud?: CloudBackendState;
  /** Reports of the device's state. */
  report?: Readonly<ApiBinderState>;
  /** What the cloud wants to run here. */
  target?: Readonly<TargetState>;
  journal: JournalStats & {
    /** Age of the oldest line kept on disk, in seconds; 0 without any. */
    oldestSeconds: number;
  };
  process: ProcessFigures;
}
