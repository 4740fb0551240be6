import { truncateUtf8 } from '@millrace/wire';
import type { Logger } from 'pino';
import { AckReader, type CloudAck } from '../../delivery/acks.ts';
import { orAborted } from '../../delivery/pause.ts';
import type { SendWindow } from '../../delivery/send-window.ts';
import type { MqttConnection } from './connection.ts';

const maxDetailBytes = 500;

interface Listener {
  window: SendWindow;
  onNews: () => void;
}

/**
 * The acknowledgements of a Millrace cloud over one connection, for one lane or two.
 *
 * `stored` says which seqs are stored, and that is what counts where it is given. `through` alone is the cloud's
 * conclusion from the order in which messages come, which two lanes upset: it holds for a single lane only.
 */
export class CloudAcks {
  /** The cloud says which seqs are stored: it copes with two lanes. */
  namesRanges = false;
  /** It has acknowledged something over this connection: it listens. */
  answered = false;
  readonly #listeners = new Set<Listener>();
  readonly #log: Logger;
  #refusal = '';

  private constructor(log: Logger) {
    this.#log = log;
  }

  /** @throws SessionFailure when the broker does not allow it */
  static async subscribe(
    connection: MqttConnection,
    { topic, over, log }: { topic: string; over: AbortSignal; log: Logger },
  ): Promise<CloudAcks> {
    const acks = new CloudAcks(log);
    const subscribed = connection.subscribe(topic, (payload) => {
      const text = payload.toString();
      const reader = new AckReader();
      for (const ack of [...reader.push(text), ...reader.end()]) acks.#take(ack);
      acks.#explain(text);
    });
    await orAborted(subscribed, over);
    return acks;
  }

  /** Hands acknowledgements to a lane's window until disposed of. `onNews` is called when one moved it. */
  listen(window: SendWindow, onNews: () => void): Disposable {
    const listener = { window, onNews };
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  /** Says, once per reason, why the cloud does not acknowledge. That is all there is to do: lines wait here. */
  #explain(text: string): void {
    if (!text.startsWith('{"error":')) return;
    let detail: unknown;
    try {
      detail = JSON.parse(text).error?.detail;
    } catch {
      return;
    }
    if (typeof detail !== 'string' || detail === this.#refusal) return;
    this.#refusal = detail;
    this.#log.warn(`the cloud refuses lines for now: ${truncateUtf8(detail, maxDetailBytes)}`);
  }

  #take({ journal, through, stored }: CloudAck): void {
    this.namesRanges = stored !== undefined;
    for (const { window, onNews } of this.#listeners) {
      let news = false;
      if (!stored) news = this.#listeners.size === 1 && window.ackThrough(journal, through);
      else for (const [first, last] of stored) news = window.ackRange(journal, first, last) || news;
      if (!news) continue;
      this.answered = true;
      onNews();
    }
  }
}
