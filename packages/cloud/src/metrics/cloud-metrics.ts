import { type ErrorCode, errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { BrokerStats } from '../broker/embedded.ts';
import type { IngestStats } from '../ingest/ingest.ts';
import type { QuotaStats } from '../retention/quota-book.ts';
import type { SweeperStats } from '../retention/sweeper.ts';
import type { StoreSize } from '../store/index.ts';
import { ProcessMeter } from './process-meter.ts';

/** One sample: its labels and its value. */
type Sample = readonly [labels: Record<string, string>, value: number];

/** Where the figures are, asked at each scrape. */
export interface MetricsSources {
  ingest: () => IngestStats;
  /** Lines that are open to be watched, and what their watchers were too slow for. */
  tails: () => { watchers: number; skippedLines: number };
  /** Of the embedded broker; absent with an external one. */
  broker?: () => BrokerStats;
  /** Payloads that could not be read. */
  setAside: () => number;
  storeSize: () => Promise<StoreSize>;
  retention: () => { sweeper: SweeperStats; quotas: QuotaStats };
  /** Each throws when its part does not work. */
  checks: Record<string, () => Promise<void>>;
}

/** Longest that one part is waited for: a scrape that takes longer is given up by Prometheus after 10 s. */
const partTimeoutMs = 4000;

/** What this program counts, in the text format of Prometheus. Times are seconds, sizes bytes. */
export class CloudMetrics implements Disposable {
  readonly contentType: string;
  readonly #log: Logger;
  readonly #lasting = new Registry();
  readonly #meter = new ProcessMeter();
  readonly #insertSeconds: Histogram;
  readonly #refusals: Counter;
  #scrape: Promise<string> | undefined;

  constructor({ log }: { log: Logger }) {
    this.#log = log;
    this.contentType = this.#lasting.contentType;
    const registers = [this.#lasting];
    this.#insertSeconds = new Histogram({
      name: 'millrace_cloud_insert_duration_seconds',
      help: 'Time to commit a flight of lines, failures and pauses included.',
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      registers,
    });
    this.#refusals = new Counter({
      name: 'millrace_cloud_http_refusals_total',
      help: 'Requests that were answered with a problem document, by its code.',
      labelNames: ['code'],
      registers,
    });
  }

  noteCommit(tookMs: number): void {
    this.#insertSeconds.observe(tookMs / 1000);
  }

  noteRefusal(code: ErrorCode): void {
    this.#refusals.inc({ code });
  }

  /** Several that ask at once get the same answer: a scrape asks the store. */
  render(sources: MetricsSources): Promise<string> {
    this.#scrape ??= this.#render(sources).finally(() => {
      this.#scrape = undefined;
    });
    return this.#scrape;
  }

  async #render(sources: MetricsSources): Promise<string> {
    const momentary = new Registry();
    const [up, size] = await Promise.all([
      Promise.all(
        Object.entries(sources.checks).map(
          async ([part, check]): Promise<Sample> => [{ part }, Number(await this.#answers(part, check()))],
        ),
      ),
      this.#sizeOf(sources),
    ]);
    const write = writer(momentary);
    write.gauge('up', '1 while a part of this program works.', up);
    writeIngest(write, sources.ingest(), sources.setAside());
    writeWatchers(write, sources);
    if (size) writeStore(write, size);
    writeRetention(write, sources.retention());
    writeProcess(write, this.#meter);
    const merged = Registry.merge([momentary, this.#lasting]);
    return merged.metrics();
  }

  async #sizeOf(sources: MetricsSources): Promise<StoreSize | undefined> {
    let size: StoreSize | undefined;
    const asked = sources.storeSize().then((found) => {
      size = found;
    });
    await this.#answers('store', asked);
    return size;
  }

  async #answers(part: string, work: Promise<void>): Promise<boolean> {
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(new Error(`no answer in ${partTimeoutMs} ms`)), partTimeoutMs);
    try {
      await Promise.race([work, late]);
      return true;
    } catch (error) {
      this.#log.debug({ part, error: errorText(error) }, 'a part gave no figures');
      return false;
    } finally {
      clearTimeout(timer);
    }
  }

  [Symbol.dispose](): void {
    this.#meter[Symbol.dispose]();
  }
}

type Writer = ReturnType<typeof writer>;

function writer(registry: Registry) {
  const register =
    (kind: typeof Counter | typeof Gauge) =>
    (name: string, help: string, samples: number | readonly Sample[]) => {
      const all: readonly Sample[] = typeof samples === 'number' ? [[{}, samples]] : samples;
      const labelNames = Object.keys(all[0]?.[0] ?? {});
      const metric = new kind({ name: `millrace_cloud_${name}`, help, labelNames, registers: [registry] });
      for (const [labels, value] of all) metric.inc(labels, value);
    };
  return { counter: register(Counter), gauge: register(Gauge) };
}

function writeIngest({ counter, gauge }: Writer, stats: IngestStats, setAside: number): void {
  const perProtocol = (value: (of: IngestStats['received']['http']) => number) =>
    Object.entries(stats.received).map(([protocol, of]): Sample => [{ protocol }, value(of)]);
  counter(
    'received_lines_total',
    'Lines received, known ones included.',
    perProtocol(({ lines }) => lines),
  );
  counter(
    'received_bytes_total',
    'Bytes of these lines, uncompressed.',
    perProtocol(({ bytes }) => bytes),
  );
  counter(
    'acks_total',
    'Acknowledgements sent to devices.',
    perProtocol(({ acks }) => acks),
  );
  counter('admitted_lines_total', 'Lines that were new, and went to the store.', stats.lines);
  counter('duplicate_lines_total', 'Lines that were known already.', stats.duplicates);
  counter('repeated_lines_total', 'Lines known under another journal id.', stats.repeated);
  counter('skipped_lines_total', 'Seqs that devices have skipped; some may have come since.', stats.gapLines);
  counter('rewritten_lines_total', 'Lines that took the slow path.', stats.rewritten);
  counter(
    'raw_lines_total',
    'Lines that are kept as text, since nothing else could be made of them.',
    stats.raw,
  );
  counter('oversized_lines_total', 'Lines of which only the beginning is kept.', stats.oversized);
  counter('mqtt_payloads_set_aside_total', 'MQTT payloads that could not be read.', setAside);
  counter(
    'refused_payloads_total',
    'Messages, or rests of them, that were turned away, by reason.',
    Object.entries(stats.rejected).map(([reason, n]): Sample => [{ reason }, n]),
  );
  counter('committed_lines_total', 'Lines that are on disk.', stats.commits.lines);
  counter('insert_failures_total', 'Inserts that failed and were tried again.', stats.commits.failures);
  gauge('streams', 'Log-streams that are open.', stats.streams);
  gauge('waiting_bytes', 'Bytes of rows on their way to the store.', stats.waitingBytes);
  gauge('held_bytes', 'Bytes received that wait for room.', stats.heldBytes);
  gauge('ledgers', 'Journals whose state is in memory.', stats.ledgers);
}

function writeWatchers({ counter, gauge }: Writer, { tails, broker }: MetricsSources): void {
  const { watchers, skippedLines } = tails();
  gauge('tail_watchers', 'Tails that are open.', watchers);
  counter('tail_skipped_lines_total', 'Lines that watchers were too slow for.', skippedLines);
  if (!broker) return;
  const stats = broker();
  gauge('mqtt_clients', 'Clients of the embedded broker.', stats.clients);
  counter('mqtt_refusals_total', 'What the embedded broker has refused.', [
    [{ what: 'connection' }, stats.refusedConnections],
    [{ what: 'publish' }, stats.refusedPublishes],
    [{ what: 'subscription' }, stats.refusedSubscriptions],
    [{ what: 'retained' }, stats.retainedRefused],
  ]);
  counter('mqtt_passed_over_total', 'Messages that slow MQTT subscribers did not get.', stats.passedOver);
}

function writeStore({ gauge }: Writer, { bytes, rows, parts }: StoreSize): void {
  gauge('store_bytes', 'Bytes of the stored lines on disk.', bytes);
  gauge('store_rows', 'Lines stored.', rows);
  gauge('store_parts', 'Parts of the table of lines.', parts);
}

function writeRetention(
  { counter, gauge }: Writer,
  { sweeper, quotas }: ReturnType<MetricsSources['retention']>,
): void {
  const removals = Object.entries(sweeper.dropped);
  counter(
    'removed_partitions_total',
    'Partitions of the store, or parts of one, that were removed.',
    removals.map(([why, { count }]): Sample => [{ why }, count]),
  );
  counter(
    'removed_lines_total',
    'Lines of the partitions that were removed whole.',
    removals.map(([why, { lines }]): Sample => [{ why }, lines]),
  );
  gauge(
    'store_over_cap',
    '1 while the store is over its cap and nothing may be removed.',
    Number(sweeper.overCap),
  );
  counter(
    'quota_refusals_total',
    'Times that lines of a device over its quota were refused.',
    quotas.refusals,
  );
  counter('quota_dropped_total', 'Of them those whose sender cannot keep them.', quotas.dropped);
  counter('quota_dropped_bytes_total', 'Bytes of these.', quotas.droppedBytes);
}

function writeProcess({ counter, gauge }: Writer, meter: ProcessMeter): void {
  const { cpuSeconds, rssBytes, uptimeSeconds, eventLoopDelaySeconds } = meter.read();
  counter('process_cpu_seconds_total', 'User and system time.', cpuSeconds);
  gauge('process_resident_bytes', 'Resident memory.', rssBytes);
  gauge('process_uptime_seconds', 'Time since the start.', uptimeSeconds);
  gauge(
    'event_loop_delay_seconds',
    'How late timers were since the last reading.',
    Object.entries(eventLoopDelaySeconds).map(([of, value]): Sample => [{ of }, value]),
  );
}
