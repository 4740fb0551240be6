import { resolve } from 'node:path';
import type { Logger } from 'pino';
import type { AgentConfig } from './config.ts';
import { FilesSource } from './files/source.ts';
import { JournaldSource } from './journald/source.ts';
import { findOwnUnit } from './journald/units.ts';
import type { GapCounts } from './logging/gap.ts';
import type { LineTaker, LogSource } from './logging/source.ts';
import type { PositionStore } from './logging/types.ts';
import { SyslogSource } from './syslog/source.ts';

interface SourceOptions {
  config: AgentConfig;
  env: Record<string, string | undefined>;
  taker: LineTaker;
  positions: PositionStore;
  /** Counts what could not be read. */
  gaps: GapCounts;
  log: Logger;
}

/** The sources besides the containers that the configuration asks for; none is started. */
export function createSources(options: SourceOptions): LogSource[] {
  const { config, env, log } = options;
  const sources: LogSource[] = [];
  if (config.journald !== 'off') {
    sources.push(
      new JournaldSource({
        ...options,
        directory: config.journaldDir,
        units: config.journaldUnits,
        ownUnit: findOwnUnit(env),
        historyMs: config.historyMs,
        isOptional: config.journald === 'auto',
        log,
      }),
    );
  }
  if (config.syslogPort !== undefined) {
    sources.push(new SyslogSource({ ...options, host: config.syslogHost, port: config.syslogPort }));
  }
  if (config.logFiles.length > 0) {
    sources.push(
      new FilesSource({
        ...options,
        patterns: config.logFiles,
        exceptBelow: resolve(config.dataDir),
        historyMs: config.historyMs,
      }),
    );
  }
  return sources;
}
