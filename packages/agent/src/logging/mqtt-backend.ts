import { completeMessage, MillraceError } from '@millrace/wire';
import { SessionLoop } from '../delivery/session-loop.ts';
import { DeviceStatus } from './mqtt/device-status.ts';
import { type MqttBackendState, type MqttLogBackendOptions, readMqttOptions } from './mqtt/options.ts';
import { lineTopic } from './mqtt/publish-lines.ts';
import { type MqttContext, mqttSession } from './mqtt/session.ts';
import type { LogBackend, LogInput } from './types.ts';

export type { MqttBackendState, MqttClientOptions, MqttLogBackendOptions } from './mqtt/options.ts';

/**
 * Publishes log lines to an MQTT broker, in the service layout (for people and tools) or the device layout (for
 * a cloud); see the topics in `@millrace/wire`. At least once with QoS 1 and 2: what a broken connection left
 * unconfirmed is sent again.
 */
export class MqttLogBackend implements LogBackend {
  readonly name = 'mqtt';
  readonly #context: MqttContext;
  readonly #onStateChange: ((state: MqttBackendState) => void) | undefined;
  #loop: SessionLoop | undefined;
  #connected = false;
  #lastError: string | undefined;

  /** @throws MillraceError `OPTION_INVALID` or `TOPIC_INVALID`, naming the option and what is allowed */
  constructor(options: MqttLogBackendOptions) {
    const settings = readMqttOptions(options);
    const { statusUuid: uuid, log } = settings;
    this.#context = {
      settings,
      counters: { published: 0, acked: 0, lines: 0, bytes: 0, refused: 0 },
      status: uuid === undefined ? undefined : new DeviceStatus({ uuid, log }),
    };
    this.#onStateChange = options.onStateChange;
  }

  /**
   * Starts delivering. Resolves once connected, or once the first attempt has failed: then that is logged, and
   * attempts go on until {@link disconnect}, since a device often starts before its network does.
   */
  async connect(): Promise<void> {
    const { log, backoff, refusedMs } = this.#context.settings;
    this.#loop ??= new SessionLoop({
      session: (stop, report) =>
        mqttSession(this.#context, stop, {
          ...report,
          connected: () => {
            this.#setConnected(true);
            report.connected();
          },
        }),
      onEnd: (failure) => {
        if (failure) this.#lastError = failure.message;
        this.#setConnected(false);
      },
      backoff,
      slowMs: refusedMs,
      log,
    });
    await this.#loop.start();
  }

  /** Stops reading, waits up to 2 s for what is under way (without a journal: for all that is held), and closes. */
  async disconnect(): Promise<void> {
    const loop = this.#loop;
    this.#loop = undefined;
    await loop?.stop();
    const { memory, log } = this.#context.settings;
    const left = memory?.lag().lines ?? 0;
    if (left > 0 && loop) log.warn({ lines: left }, 'disconnected with lines that did not arrive');
  }

  /**
   * Takes a line to send when there is a connection.
   *
   * @throws MillraceError `OPTION_INVALID` when the backend reads from a `feed`: lines enter there
   */
  log(message: LogInput): void {
    const { memory } = this.#context.settings;
    if (!memory) {
      throw new MillraceError('OPTION_INVALID', 'log() is not for a backend with a feed: write to the feed');
    }
    memory.log(message);
  }

  /** The topic that a line is published to when it travels alone. */
  buildTopic(message: LogInput): string {
    return lineTopic(this.#context.settings.layout, completeMessage(message));
  }

  get state(): MqttBackendState {
    const { lines: lag, lost } = this.#context.settings.feed.lag();
    return { connected: this.#connected, ...this.#context.counters, lag, lost, lastError: this.#lastError };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.disconnect();
  }

  #setConnected(connected: boolean): void {
    if (connected === this.#connected) return;
    this.#connected = connected;
    this.#onStateChange?.(this.state);
  }
}
