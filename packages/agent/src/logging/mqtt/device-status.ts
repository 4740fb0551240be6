import { deviceTopic } from '@millrace/wire';
import type { IClientOptions } from 'mqtt';
import type { Logger } from 'pino';
import { aborted, withDeadline } from '../../delivery/pause.ts';
import type { MqttConnection } from './connection.ts';

const offline = JSON.stringify({ online: false });
const publishOptions = { qos: 1, retain: true } as const;
// Many brokers (AWS IoT, Mosquitto 2.0.11) end the connection over a topic that is not allowed, and do not say why.
// So when this many connections in a row have ended before a line arrived, the next one does without the status.
const maxFailures = 2;

/**
 * The device's presence on `device/{uuid}/status`, retained: `{"online":true,"since":<ms>}` while connected, and
 * `{"online":false}` after a goodbye or, as last will, without one.
 */
export class DeviceStatus {
  readonly #topic: string;
  readonly #log: Logger;
  #failures = 0;
  #active = false;

  constructor(options: { uuid: string; log: Logger }) {
    this.#topic = deviceTopic(options.uuid, 'status');
    this.#log = options.log;
  }

  /** The last will for the next connection; `undefined` where the broker seems to forbid the topic. */
  get will(): IClientOptions['will'] {
    const active = this.#failures < maxFailures;
    return active ? { topic: this.#topic, payload: Buffer.from(offline), ...publishOptions } : undefined;
  }

  online(connection: MqttConnection): void {
    this.#active = this.#failures < maxFailures;
    if (!this.#active) return;
    const online = JSON.stringify({ online: true, since: Date.now() });
    connection.publish(this.#topic, online, publishOptions, () => {});
  }

  /** Says goodbye, and waits until the broker has it or `over` is aborted. */
  async offline(connection: MqttConnection, over: AbortSignal): Promise<void> {
    if (!this.#active || over.aborted) return;
    const said = new AbortController();
    connection.publish(this.#topic, offline, publishOptions, () => said.abort());
    using answered = withDeadline([said.signal, over], Number.POSITIVE_INFINITY);
    await aborted(answered.signal);
  }

  /** The connection broke. `progressed`: lines had arrived over it. */
  broken(progressed: boolean): void {
    // A line comes behind the status, so one that arrived shows that the status did no harm.
    if (this.#active) this.#failures = progressed ? 0 : this.#failures + 1;
    else if (!progressed) this.#failures = 0;
    if (this.#active && this.#failures === maxFailures) {
      this.#log.warn(
        { topic: this.#topic },
        'the broker seems to forbid the status topic: trying without it',
      );
    }
  }
}
