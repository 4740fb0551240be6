import { levels } from '@millrace/wire';
import type { SourceState } from '../logging/source.ts';
import type { AgentState } from '../state.ts';

export const metricsType = 'text/plain; version=0.0.4; charset=utf-8';

/** One sample: its labels and its value. */
type Sample = [labels: Record<string, string>, value: number];

/**
 * An agent's state in the text format of Prometheus (version 0.0.4). The library is loaded by the first call: most
 * devices are never asked.
 */
export async function renderMetrics(state: AgentState): Promise<string> {
  const { docker, sources, dropped, missed, mqtt, cloud, report, journal, process } = state;
  const { Counter, Gauge, Registry } = await import('prom-client');
  const registry = new Registry();
  const register =
    (kind: typeof Counter | typeof Gauge) =>
    (name: string, help: string, ...samples: Sample[]) => {
      const labelNames = Object.keys(samples[0]?.[0] ?? {});
      const metric = new kind({ name: `millrace_agent_${name}`, help, labelNames, registers: [registry] });
      for (const [labels, value] of samples) metric.inc(labels, value);
    };
  const counter = register(Counter);
  const gauge = register(Gauge);

  counter('lines_total', 'Lines captured since the start.', [{}, journal.lines]);
  counter('log_bytes_total', 'Bytes of the messages of these lines.', [{}, journal.logBytes]);
  counter(
    'shed_lines_total',
    'Lines shed before every backend had sent them, by level.',
    ...levels.map((level, rank): Sample => [{ level }, journal.shed[rank] ?? 0]),
  );

  counter(
    'dropped_lines_total',
    'Lines that rules kept out of the journal, by reason.',
    ...Object.entries(dropped).map(([reason, lines]): Sample => [{ reason }, lines]),
  );

  const perGap = (of: 'gaps' | 'bytes') =>
    Object.entries(missed).map(([reason, counts]): Sample => [{ reason }, counts[of]]);
  counter(
    'missed_stretches_total',
    'Stretches of logs that were gone before they could be read, by reason.',
    ...perGap('gaps'),
  );
  counter('missed_bytes_total', 'Bytes that these had at least.', ...perGap('bytes'));

  gauge('journal_bytes', 'Bytes of the journal on disk.', [{}, journal.diskBytes]);
  gauge('journal_segments', 'Files of the journal.', [{}, journal.segments]);
  gauge('journal_oldest_seconds', 'Age of the oldest line on disk.', [{}, journal.oldestSeconds]);
  gauge('journal_memory_only', '1 while the disk cannot be written.', [{}, Number(journal.memoryOnly)]);
  counter('flash_bytes_total', 'Bytes written to disk.', [{}, journal.writtenBytes]);
  gauge('flash_bytes_per_log_byte', 'Bytes written to disk per byte of log.', [
    {},
    journal.writtenPerLogByte,
  ]);
  counter('syncs_total', 'Times that the disk was synced.', [{}, journal.syncs]);

  gauge('engine_connected', '1 while the Docker engine answers.', [{}, Number(docker.connected)]);
  gauge('containers', 'Containers whose log is being read.', [{}, docker.containers]);

  const perSource = (value: (state: SourceState) => number) =>
    Object.entries(sources).map(([source, state]): Sample => [{ source }, value(state)]);
  if (Object.keys(sources).length > 0) {
    gauge('source_connected', '1 while it is read.', ...perSource(({ connected }) => Number(connected)));
    counter('source_lines_total', 'Lines read from it.', ...perSource(({ lines }) => lines));
    counter(
      'source_dropped_lines_total',
      'Lines of it that could not be kept.',
      ...perSource(({ dropped }) => dropped ?? 0),
    );
  }

  const each = (value: (state: NonNullable<typeof mqtt | typeof cloud>) => number): Sample[] => [
    ...(mqtt ? [[{ backend: 'mqtt' }, value(mqtt)] as Sample] : []),
    ...(cloud ? [[{ backend: 'cloud' }, value(cloud)] as Sample] : []),
  ];
  if (mqtt || cloud) {
    gauge('backend_connected', '1 while connected.', ...each(({ connected }) => Number(connected)));
    gauge('backend_lag_lines', 'Lines captured and not confirmed yet.', ...each(({ lag }) => lag));
    counter('backend_lines_total', 'Lines sent, repetitions included.', ...each(({ lines }) => lines));
    counter('backend_lost_lines_total', 'Lines shed before they were sent.', ...each(({ lost }) => lost));
    counter(
      'backend_refused_lines_total',
      'Lines that the far end refused for good.',
      ...each(({ refused }) => refused),
    );
    counter(
      'wire_bytes_total',
      'Bytes of payloads and bodies sent, as they are on the wire.',
      ...each((state) => ('wireBytes' in state ? state.wireBytes : state.bytes)),
    );
  }

  if (report) {
    counter('state_reports_total', 'Reports of the state that arrived.', [{}, report.reports]);
    counter('state_report_bytes_total', 'Bytes of their bodies.', [{}, report.wireBytes]);
  }

  counter('process_cpu_seconds_total', 'User and system time.', [{}, process.cpuSeconds]);
  gauge('process_resident_bytes', 'Resident memory.', [{}, process.rssBytes]);
  gauge('process_uptime_seconds', 'Time since the start.', [{}, process.uptimeSeconds]);
  const { mean, p99, max } = process.eventLoopDelayMs;
  gauge(
    'event_loop_delay_ms',
    'How late timers were since the last reading.',
    [{ of: 'mean' }, mean],
    [{ of: 'p99' }, p99],
    [{ of: 'max' }, max],
  );
  return registry.metrics();
}
