import { AckReader, type CloudAck } from '../../delivery/acks.ts';
import { orAborted } from '../../delivery/pause.ts';
import type { SendWindow } from '../../delivery/send-window.ts';
import type { MqttConnection } from './connection.ts';

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

  private constructor() {}

  /** @throws SessionFailure when the broker does not allow it */
  static async subscribe(connection: MqttConnection, topic: string, over: AbortSignal): Promise<CloudAcks> {
    const acks = new CloudAcks();
    const subscribed = connection.subscribe(topic, (payload) => {
      const reader = new AckReader();
      for (const ack of [...reader.push(payload.toString()), ...reader.end()]) acks.#take(ack);
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
