import { errorText, MillraceError } from '@millrace/wire';
import type { IClientOptions, IPublishPacket, MqttClient } from 'mqtt';
import { redact } from '../../delivery/secrets.ts';
import { SessionFailure } from '../../delivery/session-loop.ts';
import type { MqttSettings } from './options.ts';

// How long the broker has to close the connection after our goodbye.
const closeMs = 500;

/** What one publish came to. */
export type PublishOutcome = 'accepted' | 'refused';

/**
 * One connection to the broker, used until it breaks and then thrown away with everything MQTT.js keeps in it.
 * It counts as broken, too, when the broker leaves a publish unacknowledged for too long: a half-open TCP
 * connection swallows bytes for many minutes.
 */
export class MqttConnection {
  /** Aborted when the connection is gone; `failure` then says why. */
  readonly closed: AbortSignal;
  readonly #controller = new AbortController();
  readonly #client: MqttClient;
  readonly #settings: MqttSettings;
  readonly #stallTimer: NodeJS.Timeout;
  #error: unknown;
  #unconfirmed = 0;
  #confirmedAtMs = 0;

  /** Messages that the broker lets us have under way. */
  readonly maxInFlight: number;

  private constructor(client: MqttClient, settings: MqttSettings, receiveMaximum: number | undefined) {
    this.#client = client;
    this.#settings = settings;
    this.closed = this.#controller.signal;
    this.maxInFlight = Math.min(settings.maxInFlight, receiveMaximum ?? settings.maxInFlight);
    client.on('error', (error) => this.#break(error));
    client.on('disconnect', ({ reasonCode }) => {
      this.#error ??= new Error(`the broker ended the connection, reason code ${reasonCode}`);
    });
    client.on('close', () => this.#break(undefined));
    const { ackTimeoutMs } = settings;
    this.#stallTimer = setInterval(() => {
      if (this.#unconfirmed > 0 && performance.now() - this.#confirmedAtMs > ackTimeoutMs) {
        this.#break(new Error(`no acknowledgement for ${ackTimeoutMs} ms`));
      }
    }, ackTimeoutMs / 4);
  }

  /** @throws SessionFailure when the broker cannot be reached or refuses */
  static async open(
    settings: MqttSettings,
    will: IClientOptions['will'],
    stop: AbortSignal,
  ): Promise<MqttConnection> {
    // Loaded here, since a device that does not use MQTT need not hold it in memory.
    const { default: mqtt } = await import('mqtt');
    let client: MqttClient;
    try {
      client = mqtt.connect(settings.url.href, { ...settings.clientOptions, ...(will && { will }) });
    } catch (error) {
      throw connectionFailure(error, settings);
    }
    const { promise, resolve, reject } = Promise.withResolvers<MqttConnection>();
    let failure: unknown;
    const note = (error: unknown) => {
      failure ??= error;
    };
    const giveUp = () => client.end(true);
    // MQTT.js passes on only the stream's errors that have a code, and a WebSocket's have none.
    client.stream.on('error', note);
    client.on('error', note);
    client.once('close', () => reject(connectionFailure(failure, settings)));
    client.once('connect', ({ properties }) => {
      resolve(new MqttConnection(client, settings, properties?.receiveMaximum));
    });
    if (stop.aborted) giveUp();
    stop.addEventListener('abort', giveUp, { once: true });
    try {
      return await promise;
    } finally {
      stop.removeEventListener('abort', giveUp);
      client.off('error', note);
      client.stream.off('error', note);
    }
  }

  /** Why the connection is gone. */
  get failure(): SessionFailure {
    return connectionFailure(this.#error, this.#settings);
  }

  /** Publishes that the broker has not confirmed. */
  get unconfirmed(): number {
    return this.#unconfirmed;
  }

  /**
   * Sends. `done` is called once: when the broker has confirmed (QoS 1 and 2), or when the socket has taken the
   * bytes (QoS 0). Never when the connection breaks first. A broker that says no (MQTT 5) ends the connection,
   * unless it says no to this message for good.
   */
  publish(
    topic: string,
    payload: string | Buffer,
    options: { qos: 0 | 1 | 2; retain: boolean },
    done: (outcome: PublishOutcome, reason?: string) => void,
  ): void {
    if (this.closed.aborted) return;
    if (this.#unconfirmed === 0) this.#confirmedAtMs = performance.now();
    this.#unconfirmed++;
    this.#client.publish(topic, payload, options, (error) => {
      if (this.closed.aborted) return;
      this.#unconfirmed--;
      this.#confirmedAtMs = performance.now();
      if (!error) done('accepted');
      else if (isForGood(error)) done('refused', error.message);
      else this.#break(error);
    });
  }

  /** @throws SessionFailure when the broker does not allow it */
  async subscribe(topic: string, onMessage: (payload: Buffer) => void): Promise<void> {
    this.#client.on('message', (from: string, payload: Buffer, _packet: IPublishPacket) => {
      if (from === topic) onMessage(payload);
    });
    try {
      await this.#client.subscribeAsync(topic, { qos: 1 });
    } catch (error) {
      if (this.closed.aborted) throw this.failure;
      const { shownUrl } = this.#settings;
      throw new SessionFailure(
        new MillraceError('BROKER_REFUSED', `${shownUrl} does not let us subscribe to ${topic}`, {
          cause: error,
        }),
        { retry: 'slow' },
      );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }

  /** Says goodbye and closes; at once when publishes are unconfirmed, which makes the broker send the last will. */
  async end(): Promise<void> {
    clearInterval(this.#stallTimer);
    if (this.closed.aborted) return;
    // A broker that does not close its side must not keep us.
    const timer = setTimeout(() => this.#client.stream.destroy(), closeMs);
    await this.#client.endAsync(this.#unconfirmed > 0);
    clearTimeout(timer);
    this.#controller.abort();
  }

  #break(error: unknown): void {
    this.#error ??= error;
    if (this.closed.aborted) return;
    clearInterval(this.#stallTimer);
    this.#controller.abort();
    this.#client.end(true);
  }
}

// MQTT 5: topic name invalid, packet too large, payload format invalid. Sending the same again would not help.
const refusedForGood = [144, 149, 153];

function isForGood(error: Error): boolean {
  return refusedForGood.includes(codeOf(error) as number);
}

function codeOf(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
}

// CONNACK codes of MQTT 3.1.1 (identifier, credentials, authorization) and MQTT 5.
const refusals: unknown[] = [2, 4, 5, 133, 134, 135, 138, 140];

function connectionFailure(error: unknown, settings: MqttSettings): SessionFailure {
  const code = codeOf(error);
  const said = error === undefined ? 'the connection was closed' : errorText(error);
  const detail = `${settings.shownUrl}: ${redact(said, settings.secrets)}`;
  // A client certificate that is missing or not accepted ends the handshake with an alert.
  const refused =
    refusals.includes(code) || (typeof code === 'string' && /ALERT_(CERTIFICATE|UNKNOWN_CA|BAD_)/.test(code));
  return new SessionFailure(new MillraceError(refused ? 'BROKER_REFUSED' : 'BROKER_UNREACHABLE', detail), {
    retry: refused ? 'slow' : 'backoff',
  });
}
