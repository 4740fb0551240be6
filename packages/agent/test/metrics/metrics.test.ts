import { once } from 'node:events';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { freePort } from '../../../../tests/support/ports.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { startAgent } from '../../src/main.ts';
import { ProcessMeter } from '../../src/metrics/process-meter.ts';
import { renderMetrics } from '../../src/metrics/prometheus.ts';
import { agentState } from './agent-state.ts';

/** Each sample of a text in the Prometheus format by its name and labels. Throws on a line that is none. */
function samplesOf(text: string): Map<string, number> {
  const samples = new Map<string, number>();
  const typed = new Set<string>();
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('# HELP ')) continue;
    const type = /^# TYPE (\w+) (counter|gauge)$/.exec(line);
    if (type) typed.add(type[1] as string);
    else {
      const sample = /^(\w+)(\{(?:\w+="[^"]*",?)*\})? ([0-9.e+-]+)$/.exec(line);
      if (!sample || !typed.has(sample[1] as string)) throw new Error(`not a sample: ${line}`);
      samples.set(`${sample[1]}${sample[2] ?? ''}`.replace('millrace_agent_', ''), Number(sample[3]));
    }
  }
  return samples;
}

test('every figure of the state is a sample', async () => {
  const samples = samplesOf(await renderMetrics(agentState));
  expect(Object.fromEntries(samples)).toEqual({
    lines_total: 1000,
    log_bytes_total: 50_000,
    'shed_lines_total{level="debug"}': 5,
    'shed_lines_total{level="info"}': 6,
    'shed_lines_total{level="warn"}': 7,
    'shed_lines_total{level="error"}': 8,
    'dropped_lines_total{reason="level"}': 51,
    'dropped_lines_total{reason="pattern"}': 52,
    'dropped_lines_total{reason="repeat"}': 53,
    'dropped_lines_total{reason="rate"}': 54,
    'missed_stretches_total{reason="rotated"}': 55,
    'missed_stretches_total{reason="cut"}': 56,
    'missed_stretches_total{reason="compressed"}': 57,
    'missed_bytes_total{reason="rotated"}': 550,
    'missed_bytes_total{reason="cut"}': 560,
    'missed_bytes_total{reason="compressed"}': 0,
    journal_bytes: 9000,
    journal_segments: 4,
    journal_oldest_seconds: 3600,
    journal_memory_only: 0,
    flash_bytes_total: 9500,
    flash_bytes_per_log_byte: 0.19,
    syncs_total: 31,
    state_reports_total: 61,
    state_report_bytes_total: 6100,
    engine_connected: 1,
    containers: 3,
    'source_connected{source="syslog"}': 1,
    'source_connected{source="journald"}': 0,
    'source_lines_total{source="syslog"}': 41,
    'source_lines_total{source="journald"}': 43,
    'source_dropped_lines_total{source="syslog"}': 42,
    'source_dropped_lines_total{source="journald"}': 0,
    'backend_connected{backend="mqtt"}': 0,
    'backend_connected{backend="cloud"}': 1,
    'backend_lag_lines{backend="mqtt"}': 15,
    'backend_lag_lines{backend="cloud"}': 26,
    'backend_lines_total{backend="mqtt"}': 120,
    'backend_lines_total{backend="cloud"}': 220,
    'backend_lost_lines_total{backend="mqtt"}': 16,
    'backend_lost_lines_total{backend="cloud"}': 27,
    'backend_refused_lines_total{backend="mqtt"}': 14,
    'backend_refused_lines_total{backend="cloud"}': 25,
    'wire_bytes_total{backend="mqtt"}': 1300,
    'wire_bytes_total{backend="cloud"}': 240,
    process_cpu_seconds_total: 1.5,
    process_resident_bytes: 80_000_000,
    process_uptime_seconds: 60,
    'event_loop_delay_ms{of="mean"}': 0.5,
    'event_loop_delay_ms{of="p99"}': 2,
    'event_loop_delay_ms{of="max"}': 9,
  });
});

test('without backends and sources there are no samples of any', async () => {
  const { mqtt: _mqtt, cloud: _cloud, ...state } = agentState;
  const names = [...samplesOf(await renderMetrics({ ...state, sources: {} })).keys()];
  expect(names.filter((name) => /^(backend|wire|source)_/.test(name))).toEqual([]);
});

test('a running agent answers GET /metrics and tells the same in GET /v1/device', async () => {
  await using dir = await tempDir();
  await using agent = await startAgent({
    env: {
      DATA_DIR: dir.path,
      DEVICE_API_PORT: String(await freePort()),
      API_PORT: String(await freePort()),
      DOCKER_HOST: `unix://${dir.path}/none.sock`,
    },
    log: pino({ level: 'info' }, { write: () => undefined }),
  });
  const response = await fetch(`${agent.deviceApiUrl}/metrics`);
  expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
  const samples = samplesOf(await response.text());
  // Its own log is among the lines.
  expect(samples.get('lines_total')).toBeGreaterThan(0);
  expect(samples.get('process_resident_bytes')).toBeGreaterThan(1e7);
  const device = (await (await fetch(`${agent.deviceApiUrl}/v1/device`)).json()) as Record<string, unknown>;
  expect(device).toMatchObject({
    uuid: agent.uuid,
    docker: { connected: false },
    journal: { oldestSeconds: 0 },
    process: { rssBytes: expect.any(Number), eventLoopDelayMs: { max: expect.any(Number) } },
  });
});

test('a blocked event loop is seen, once', async () => {
  using meter = new ProcessMeter();
  // The clock is what is measured here: a sample every 250 ms, and the block between two of them.
  const someSamples = () => once(AbortSignal.timeout(600), 'abort');
  await someSamples();
  const blockedUntil = performance.now() + 1000;
  while (performance.now() < blockedUntil);
  await someSamples();
  expect(meter.read().eventLoopDelayMs.max).toBeGreaterThan(500);
  expect(meter.read().eventLoopDelayMs).toEqual({ mean: 0, p99: 0, max: 0 });
});
