import type { Rules } from '../shape/rules.ts';
import type { ContainerIdentity } from './services.ts';
import type { EngineSession } from './watcher.ts';

/** Reads one container's log, in whatever way. */
export interface LogReader {
  readonly id: string;
  readonly key: string;
  readonly isGone: boolean;
  readonly isRunning: boolean;
  readonly startMs: number;
  readonly hasPosition: boolean;
  /** @param hasEnded the container is known not to run */
  run(session: EngineSession | undefined, hasEnded: boolean): Promise<void>;
  died(): void;
  identify(container: ContainerIdentity): void;
  shape(rules: Rules | undefined): void;
  check(nowMs: number): void;
}
