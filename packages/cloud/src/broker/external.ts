import { setTimeout as pause } from 'node:timers/promises';
import {
  deviceLogsFilter,
  deviceStatusFilter,
  deviceTopic,
  errorText,
  MillraceError,
  parseDeviceTopic,
} from '@millrace/wire';
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt';
import type { Logger } from 'pino';
import { uuidPattern } from '../identity/identity.ts';
import type { Presence } from '../identity/presence.ts';
import type { DeviceInbox } from './inbox.ts';

export interface ExternalBrokerOptions {
  /** Address of the broker. Its user name and password are given apart. */
  url: string;
  /** The broker keeps undelivered messages under this id; it must be the same after a restart. */
  clientId: string;
  username?: string;
  password?: string;
  /** PEM of the certificate authority. */
  ca?: Buffer;
  /** Of the processes that name the same group, the broker gives each message to one. */
  share?: string;
  inbox: DeviceInbox;
  presence: Presence;
  log: Logger;
  /** First wait before connecting again; doubles up to `maxBackoffMs`, each with full jitter. */
  backoffMs?: number;
  maxBackoffMs?: number;
  /** Payload bytes that may be on their way to the store before the broker is left waiting. */
  maxInFlightBytes?: number;
}

const maxInFlight = 256;
const connectTimeoutMs = 15_000;
const confirmTimeoutMs = 10_000;
/** A broker that has given up a subscription sends nothing more for this long once all is answered: it has nothing more. */
const quietMs = 100;

/**
 * Reads device lines from an MQTT broker that someone else runs.
 *
 * QoS 1 in a persistent session, and the PUBACK goes out after the commit: what this process had not stored, the
 * broker delivers again. MQTT.js answers for itself, one message after another, once `handleMessage` calls back
 * without an error; an error makes it pass on to the next message without an answer. So we always give it one,
 * and write each PUBACK ourselves when its message is committed, in the order of arrival (MQTT 3.1.1, 4.6).
 * That way many messages share one commit.
 *
 * Here the uuid of the topic is the identity: it is the broker's access rules that must keep devices apart.
 */
export class ExternalBroker implements AsyncDisposable {
  readonly #options: ExternalBrokerOptions;
  readonly #log: Logger;
  readonly #backoffMs: number;
  readonly #maxBackoffMs: number;
  readonly #maxInFlightBytes: number;
  #client: MqttClient | undefined;
  #connected = false;
  #attempt = 0;
  #retry: NodeJS.Timeout | undefined;
  #inFlight = 0;
  #inFlightBytes = 0;
  /** The reader that waits for room, one at most, since MQTT.js hands over one message at a time. */
  #waiting: (() => void) | undefined;
  #lastAnswer: Promise<void> = Promise.resolve();
  #complained = '';
  #taken = 0;
  #leaving = false;
  #closed = false;

  constructor(options: ExternalBrokerOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#backoffMs = options.backoffMs ?? 500;
    this.#maxBackoffMs = options.maxBackoffMs ?? 30_000;
    this.#maxInFlightBytes = options.maxInFlightBytes ?? 32 * 1024 * 1024;
  }

  get connected(): boolean {
    return this.#connected;
  }

  /**
   * Publishes a message that the broker keeps for those who come later; an empty one clears it.
   *
   * @throws MillraceError `BROKER_UNREACHABLE` when the broker does not confirm it
   */
  async publishRetained(topic: string, payload: string): Promise<void> {
    const client = this.#client;
    if (!client || !this.#connected) throw new MillraceError('BROKER_UNREACHABLE', 'not connected');
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => reject(new Error('no answer')), confirmTimeoutMs);
    client.publish(topic, payload, { qos: 1, retain: true }, (error) => (error ? reject(error) : resolve()));
    try {
      await promise;
    } catch (cause) {
      throw new MillraceError('BROKER_UNREACHABLE', `${topic} was not confirmed: ${errorText(cause)}`, {
        cause,
      });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Starts to connect, and goes on trying for as long as it takes. */
  start(): void {
    this.#connect();
  }

  #connect(): void {
    if (this.#closed || this.#leaving) return;
    const { url, clientId, username, password, ca } = this.#options;
    const options: IClientOptions = {
      clientId,
      username,
      password,
      ca,
      // A member of a group that is gone must not be given messages to keep: the others are there for them.
      clean: this.#options.share !== undefined,
      // MQTT.js would resend and queue by its own rules; we start a new client instead.
      reconnectPeriod: 0,
      connectTimeout: connectTimeoutMs,
      // A member of a group that fell silent is given its share of the messages until the broker notices.
      keepalive: this.#options.share === undefined ? 30 : 10,
      resubscribe: false,
      queueQoSZero: false,
    };
    const client = mqtt.connect(url, options);
    this.#client = client;
    client.handleMessage = (packet, next) => {
      if (packet.cmd === 'publish') this.#take(client, packet, () => next(new Error('answered later')));
      else next();
    };
    client.on('connect', () => this.#subscribe(client));
    client.on('error', (error) => this.#complain(errorText(error)));
    client.once('close', () => {
      if (this.#client === client) this.#lost(client);
    });
  }

  get #filters(): string[] {
    const { share } = this.#options;
    const group = share === undefined ? '' : `$share/${share}/`;
    return [`${group}${deviceLogsFilter}`, `${group}${deviceStatusFilter}`];
  }

  #subscribe(client: MqttClient): void {
    client.subscribe(
      Object.fromEntries(this.#filters.map((filter) => [filter, { qos: 1 as const }])),
      (error, granted) => {
        const refused = granted?.filter(({ qos }) => qos === 128).map(({ topic }) => topic) ?? [];
        if (error || refused.length > 0) {
          this.#complain(
            error ? errorText(error) : `it refused the subscription to ${refused.join(' and ')}`,
          );
          client.end(true);
          return;
        }
        this.#connected = true;
        this.#attempt = 0;
        this.#complained = '';
        this.#log.info({ broker: shownUrl(this.#options.url) }, 'reading from the MQTT broker');
      },
    );
  }

  #lost(client: MqttClient): void {
    this.#connected = false;
    client.end(true);
    if (this.#closed || this.#leaving) return;
    this.#complain('the connection closed');
    const ceiling = Math.min(this.#maxBackoffMs, this.#backoffMs * 2 ** this.#attempt++);
    this.#retry = setTimeout(() => this.#connect(), Math.random() * ceiling);
  }

  /** Says what is wrong once, and again only when it is something else or it worked in between. */
  #complain(reason: string): void {
    if (this.#closed || this.#complained !== '') return;
    this.#complained = reason;
    this.#log.warn(
      { broker: shownUrl(this.#options.url), reason },
      'the MQTT broker cannot be read from; trying on',
    );
  }

  #take(
    client: MqttClient,
    packet: { topic: string; payload: string | Buffer; qos: number; dup: boolean; messageId?: number },
    next: () => void,
  ): void {
    // Of its own session: the broker keeps what has no answer, and delivers it after the restart.
    if (this.#leaving && this.#options.share === undefined) {
      next();
      return;
    }
    this.#taken++;
    const topic = parseDeviceTopic(packet.topic);
    const payload = typeof packet.payload === 'string' ? Buffer.from(packet.payload) : packet.payload;
    const answer = () => {
      if (packet.qos === 1 && packet.messageId !== undefined) puback(client, packet.messageId);
    };
    if (!topic || !uuidPattern.test(topic.uuid)) {
      this.#log.warn({ topic: packet.topic }, 'a message under a uuid that cannot be one was left alone');
      this.#answerInOrder(Promise.resolve(), answer);
      next();
      return;
    }
    if (topic.channel === 'status') {
      this.#options.presence.status(topic.uuid, payload);
      this.#answerInOrder(Promise.resolve(), answer);
      next();
      return;
    }
    this.#inFlight++;
    this.#inFlightBytes += payload.length;
    const stored = this.#options.inbox.logs(topic.uuid, payload, packet.dup).then((acks) => {
      if (!client.connected) return;
      for (const ack of acks) client.publish(deviceTopic(topic.uuid, 'logs/ack'), ack, { qos: 0 });
    });
    this.#answerInOrder(stored, answer);
    stored
      .catch((error) => {
        this.#log.warn(
          { device: topic.uuid, error: errorText(error) },
          'lines were not stored and not confirmed',
        );
      })
      .finally(() => {
        this.#inFlight--;
        this.#inFlightBytes -= payload.length;
        this.#waiting?.();
      });
    this.#whenRoom(next);
  }

  #answerInOrder(stored: Promise<void>, answer: () => void): void {
    const before = this.#lastAnswer;
    // A message that was not stored gets no answer; those behind it must not wait for one.
    this.#lastAnswer = stored.then(
      () => before.then(answer),
      () => before,
    );
  }

  #whenRoom(next: () => void): void {
    if (this.#inFlight < maxInFlight && this.#inFlightBytes < this.#maxInFlightBytes) {
      next();
      return;
    }
    this.#waiting = () => {
      this.#waiting = undefined;
      this.#whenRoom(next);
    };
  }

  /**
   * Takes no more, and returns when all that was taken is answered. A member of a group leaves it first, so that others are
   * given what comes, and takes what the broker had set aside for it: nobody else would be given that.
   */
  async leave(): Promise<void> {
    if (this.#leaving) return;
    this.#leaving = true;
    clearTimeout(this.#retry);
    const client = this.#client;
    if (client?.connected && this.#options.share !== undefined) {
      // Whether it worked or not, what is left is the same.
      await new Promise<void>((resolve) => client.unsubscribe(this.#filters, () => resolve()));
      for (let taken = -1; taken !== this.#taken && client.connected; ) {
        taken = this.#taken;
        await this.#lastAnswer;
        await pause(quietMs);
      }
    }
    await this.#lastAnswer;
  }

  /** Answers what is being committed, then leaves. The broker keeps the session. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#retry);
    await this.#lastAnswer;
    const client = this.#client;
    if (client) await new Promise<void>((resolve) => client.end(!client.connected, {}, () => resolve()));
    this.#connected = false;
  }
}

/** PUBACK (MQTT 3.1.1, 3.4): type 4, length 2, packet identifier. */
function puback(client: MqttClient, messageId: number): void {
  // An answer on a newer connection would be for a message of another number.
  if (client.connected && client.stream.writable) {
    client.stream.write(Buffer.from([0x40, 2, messageId >> 8, messageId & 0xff]));
  }
}

/** A URL without the credentials in it. */
export function shownUrl(url: string): string {
  const parsed = URL.parse(url);
  return parsed ? `${parsed.protocol}//${parsed.host}` : 'the broker';
}
