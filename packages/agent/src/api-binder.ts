import {
  type AppState,
  type DeviceState,
  type DeviceStateReport,
  errorText,
  type LogMessage,
  maxRecentLogs,
  statePath,
  targetVersionHeader,
} from '@millrace/wire';
import type { Logger } from 'pino';
import { Backoff, type BackoffOptions } from './delivery/backoff.ts';
import { CallFailure, callCloud } from './delivery/cloud-call.ts';
import { withDeadline } from './delivery/pause.ts';
import type { LocalLogBackend } from './logging/local-backend.ts';
import { differences, haveMoved } from './state-report/differences.ts';
import { systemFacts } from './state-report/system-facts.ts';
import type { SystemMeter } from './state-report/system-meter.ts';

export interface ApiBinderOptions {
  /** Base URL of the cloud. */
  cloudEndpoint: string;
  deviceUuid: string;
  apiKey: string;
  agentVersion: string;
  meter: Pick<SystemMeter, 'read'>;
  /** The apps as they are now, by id; `undefined` as long as the device has had none. */
  apps?: () => Promise<Record<string, AppState> | undefined>;
  /** With it each report of metrics brings the newest lines along. */
  recentLogs?: Pick<LocalLogBackend, 'getLogs'>;
  /** Told of the version of the device's target, if the cloud has one, with each answer. */
  onTarget?: ((version: string) => void) | undefined;
  log: Logger;
  /** Default 10 000: at most one report in this time. */
  minIntervalMs?: number;
  /** Default 300 000: metrics are reported this often, whether they moved or not. */
  metricsIntervalMs?: number;
  /**
   * Default 60 000: metrics are looked at this often, and reported when they have moved. Apps, once there are any, are
   * looked at after each `minIntervalMs`.
   */
  sampleIntervalMs?: number;
  backoff?: BackoffOptions;
  timeoutMs?: number;
}

export interface ApiBinderState {
  /** Ms since 1970; `undefined` before the first report. */
  reportedAtMs: number | undefined;
  reports: number;
  /** Bytes of the bodies sent. */
  wireBytes: number;
  lastError: string | undefined;
}

/** Most bytes of `recent_logs`, encoded; the cloud takes a report of 1 MB. */
const maxRecentBytes = 512 * 1024;

/**
 * Reports the device's state to the cloud: what has changed since the last report that arrived, so an outage piles
 * nothing up, and the first report after it says how things are then.
 */
export class ApiBinder implements AsyncDisposable {
  readonly #options: ApiBinderOptions;
  readonly #minIntervalMs: number;
  readonly #metricsIntervalMs: number;
  readonly #sampleIntervalMs: number;
  readonly #backoff: Backoff;
  readonly #stopping = new AbortController();
  /** What the cloud knows. */
  #known: DeviceState = {};
  #metrics: DeviceState = {};
  #reportedMetrics: DeviceState = {};
  #metricsDueMs = 0;
  #sampleDueMs = 0;
  #running: Promise<void> | undefined;
  #wake: () => void = () => undefined;
  #changed = false;
  readonly #state: ApiBinderState = {
    reportedAtMs: undefined,
    reports: 0,
    wireBytes: 0,
    lastError: undefined,
  };

  constructor(options: ApiBinderOptions) {
    this.#options = options;
    this.#minIntervalMs = options.minIntervalMs ?? 10_000;
    this.#metricsIntervalMs = options.metricsIntervalMs ?? 300_000;
    this.#sampleIntervalMs = options.sampleIntervalMs ?? 60_000;
    this.#backoff = new Backoff({
      minMs: this.#minIntervalMs,
      maxMs: this.#metricsIntervalMs,
      ...options.backoff,
    });
  }

  get state(): Readonly<ApiBinderState> {
    return this.#state;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Something that is reported may have changed: it is looked at soon. */
  noteChange(): void {
    this.#changed = true;
    this.#wake();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const pauseMs = await this.#turn();
      // Between two reports is the shortest pause there is; then whatever comes first, a change or the next sample.
      await this.#sleep(this.#minIntervalMs, false);
      await this.#sleep(pauseMs - this.#minIntervalMs, true);
    }
  }

  /** Reports what there is to report, and returns the time until the next look, in ms. */
  async #turn(): Promise<number> {
    this.#changed = false;
    try {
      await this.reportCurrentState();
      this.#backoff.reset();
      this.#state.lastError = undefined;
      return this.#known.apps ? 0 : this.#sampleIntervalMs;
    } catch (error) {
      if (this.#stopping.signal.aborted) return 0;
      const reason = error instanceof CallFailure ? error.message : errorText(error);
      if (reason !== this.#state.lastError) {
        this.#options.log.warn({ error: reason }, 'the state could not be reported; trying again');
      }
      this.#state.lastError = reason;
      const afterMs = error instanceof CallFailure ? error.afterMs : 0;
      // A cloud that does not know the device may not know its state either.
      if (error instanceof CallFailure && error.code === 'CLOUD_REFUSED') this.#known = {};
      // A change is no reason to ask a cloud sooner that does not answer.
      await this.#sleep(Math.max(afterMs, this.#backoff.nextMs()), false);
      return 0;
    }
  }

  /**
   * Sends what has changed, if anything has; metrics when it is their time, or when they have moved.
   *
   * @throws CallFailure when the report did not arrive
   */
  async reportCurrentState(): Promise<void> {
    const { deviceUuid, meter, apps, agentVersion } = this.#options;
    if (performance.now() >= this.#sampleDueMs) {
      this.#metrics = await meter.read();
      this.#sampleDueMs = performance.now() + this.#sampleIntervalMs;
    }
    const includeMetrics =
      Date.now() >= this.#metricsDueMs || haveMoved(this.#reportedMetrics, this.#metrics);
    const metrics = includeMetrics ? this.#metrics : this.#reportedMetrics;
    const ownApps = await apps?.();
    const now: DeviceState = {
      ...systemFacts(),
      agent_version: agentVersion,
      ...metrics,
      ...(ownApps && { apps: ownApps }),
    };
    const report: DeviceStateReport = differences(this.#known, now);
    if (includeMetrics) {
      const recent = await this.#recentLogs();
      if (recent.length > 0) report.recent_logs = recent;
    }
    if (Object.keys(report).length > 0) await this.#send(JSON.stringify({ [deviceUuid]: report }));
    this.#known = now;
    this.#reportedMetrics = metrics;
    if (includeMetrics) this.#metricsDueMs = Date.now() + this.#metricsIntervalMs;
  }

  async #send(body: string): Promise<void> {
    const { cloudEndpoint: endpoint, apiKey, timeoutMs = 30_000, onTarget } = this.#options;
    const { signal } = this.#stopping;
    const call = { method: 'PATCH', path: statePath, endpoint, apiKey, body, timeoutMs, signal } as const;
    const { headers } = await callCloud(call);
    const target = headers[targetVersionHeader];
    if (typeof target === 'string') onTarget?.(target);
    this.#state.reportedAtMs = Date.now();
    this.#state.reports += 1;
    this.#state.wireBytes += Buffer.byteLength(body);
  }

  /** Of the time between two reports, and some more: the cloud knows again what comes twice. */
  async #recentLogs(): Promise<LogMessage[]> {
    const { recentLogs } = this.#options;
    if (!recentLogs) return [];
    const since = Date.now() - this.#metricsIntervalMs - this.#sampleIntervalMs;
    const lines = await recentLogs.getLogs({ since, limit: maxRecentLogs });
    let bytes = 0;
    const fits = lines.toReversed().filter((line) => {
      bytes += JSON.stringify(line).length;
      return bytes <= maxRecentBytes;
    });
    return fits.toReversed();
  }

  async #sleep(ms: number, untilChanged: boolean): Promise<void> {
    if (ms <= 0 || (untilChanged && this.#changed)) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    using deadline = withDeadline(this.#stopping.signal, ms);
    deadline.signal.addEventListener('abort', () => resolve(), { once: true });
    if (deadline.signal.aborted) return;
    if (untilChanged) this.#wake = resolve;
    await promise;
    this.#wake = () => undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }
}
