import type { ServerResponse } from 'node:http';

export interface Ack {
  journal: string;
  /** Everything sent on this stream up to this seq is committed. */
  through: number;
}

export interface AckWriterOptions {
  response: ServerResponse;
  heartbeatMs: number;
  /** The peer reads the short form. */
  short?: boolean;
  /** Most journals with an ack that the peer has not read yet. A device has one, or a few after losing its disk. */
  maxJournals?: number;
}

/**
 * Streams acknowledgements as NDJSON, `{"ack":{"journal":…,"through":…}}` a line, with an empty line as heartbeat. In
 * the short form the seq alone stands for one of the same journal as the last: on a link that costs money a device that
 * prints a line now and then would pay more for the answers than for its lines.
 * To a peer that does not read them only the newest of each journal is kept.
 */
export class AckWriter implements Disposable {
  readonly #response: ServerResponse;
  readonly #maxJournals: number;
  readonly #isShort: boolean;
  readonly #heartbeat: NodeJS.Timeout;
  readonly #waiting = new Map<string, number>();
  #blocked = false;
  #lastJournal: string | undefined;
  #target: string | undefined;

  constructor({ response, heartbeatMs, short = false, maxJournals = 1000 }: AckWriterOptions) {
    this.#response = response;
    this.#maxJournals = maxJournals;
    this.#isShort = short;
    response.on('drain', this.#drained);
    this.#heartbeat = setInterval(() => this.#send('\n'), heartbeatMs);
  }

  write(ack: Ack): void {
    this.#waiting.set(ack.journal, ack.through);
    if (this.#waiting.size > this.#maxJournals) this.#response.destroy();
    this.#flush();
  }

  /** Tells the version of the device's target; to a peer that does not read, the newest alone. */
  target(version: string): void {
    this.#target = version;
    this.#flush();
  }

  /** Tells why the stream ends early; its status has gone out long ago. */
  problem(problem: object): void {
    this.#blocked = false;
    this.#flush();
    this.#send(`${JSON.stringify({ error: problem })}\n`);
  }

  readonly #drained = () => {
    this.#blocked = false;
    this.#flush();
  };

  #flush(): void {
    if (this.#blocked) return;
    let text = this.#target === undefined ? '' : `${JSON.stringify({ target: this.#target })}\n`;
    this.#target = undefined;
    for (const [journal, through] of this.#waiting) {
      const isSame = this.#isShort && journal === this.#lastJournal;
      text += isSame ? `${through}\n` : `${JSON.stringify({ ack: { journal, through } })}\n`;
      this.#lastJournal = journal;
    }
    this.#waiting.clear();
    if (text !== '') this.#send(text);
  }

  #send(text: string): void {
    if (this.#blocked || this.#response.destroyed || this.#response.writableEnded) return;
    this.#blocked = !this.#response.write(text);
  }

  /** Writes what still waits, whether or not the peer keeps up, and ends the heartbeat. The response stays open. */
  [Symbol.dispose](): void {
    clearInterval(this.#heartbeat);
    this.#response.off('drain', this.#drained);
    this.#blocked = false;
    this.#flush();
  }
}
