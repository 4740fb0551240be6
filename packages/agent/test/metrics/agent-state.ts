import type { AgentState } from '../../src/state.ts';

/** The state of an agent with both backends, each number another one. */
export const agentState: AgentState = {
  docker: { connected: true, containers: 3 },
  sources: { syslog: { connected: true, lines: 41, dropped: 42 }, journald: { connected: false, lines: 43 } },
  dropped: { level: 51, pattern: 52, repeat: 53, rate: 54 },
  missed: {
    rotated: { gaps: 55, bytes: 550 },
    cut: { gaps: 56, bytes: 560 },
    compressed: { gaps: 57, bytes: 0 },
  },
  mqtt: {
    ...{
      connected: false,
      published: 11,
      acked: 10,
      lines: 120,
      bytes: 1300,
      refused: 14,
      lag: 15,
      lost: 16,
    },
    lastError: undefined,
  },
  cloud: {
    ...{ connected: true, mode: 'stream', requests: 21, lines: 220, bytes: 2300, wireBytes: 240 },
    ...{ refused: 25, lag: 26, lost: 27, lastError: undefined },
  },
  report: { reportedAtMs: 1, reports: 61, wireBytes: 6100, lastError: undefined },
  journal: {
    ...{ journal: 'j1', lines: 1000, logBytes: 50_000, segments: 4, diskBytes: 9000, writtenBytes: 9500 },
    ...{ writtenPerLogByte: 0.19, syncs: 31, memoryOnly: false, shed: [5, 6, 7, 8], oldestSeconds: 3600 },
  },
  process: {
    ...{ uptimeSeconds: 60, cpuSeconds: 1.5, rssBytes: 80_000_000 },
    eventLoopDelayMs: { mean: 0.5, p99: 2, max: 9 },
  },
};
