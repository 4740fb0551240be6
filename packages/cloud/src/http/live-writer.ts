import type { ServerResponse } from 'node:http';
import type { StoredLine } from '@millrace/wire';

/** How what happens is written. */
export interface LiveFormat {
  line(line: StoredLine): string;
  /** So many lines were passed over. */
  skipped(count: number): string;
  /** Lines may be missing, nobody knows how many. */
  gap: string;
  /** Shows that the connection still stands. */
  heartbeat: string;
}

export interface LiveWriterOptions {
  format: LiveFormat;
  heartbeatMs: number;
  /** What may wait for the reader before lines are passed over. */
  maxWaitingBytes: number;
  /** Called for each line that is passed over. */
  onSkipped: () => void;
}

/** Writes lines to one watcher as they come, and counts instead of queueing when it does not keep up. */
export class LiveWriter implements Disposable {
  readonly #response: ServerResponse;
  readonly #format: LiveFormat;
  readonly #maxWaitingBytes: number;
  readonly #heartbeat: NodeJS.Timeout;
  readonly #onSkipped: () => void;
  #skipped = 0;
  #hasGap = false;

  constructor(response: ServerResponse, options: LiveWriterOptions) {
    const { format, heartbeatMs, maxWaitingBytes, onSkipped } = options;
    this.#response = response;
    this.#format = format;
    this.#maxWaitingBytes = maxWaitingBytes;
    this.#onSkipped = onSkipped;
    response.on('drain', () => this.#caughtUp());
    this.#heartbeat = setInterval(() => {
      if (response.writableLength === 0) response.write(format.heartbeat);
    }, heartbeatMs);
  }

  write(line: StoredLine): void {
    // Once behind, stay out until all has been read: or every other line would come with a gap of its own.
    if (this.#skipped > 0 || this.#response.writableLength > this.#maxWaitingBytes) {
      this.#skipped++;
      this.#onSkipped();
      return;
    }
    this.#heartbeat.refresh();
    this.#response.write(this.#format.line(line));
  }

  /** Lines that never came this far. */
  skip(count: number): void {
    this.#skipped += count;
    this.#tellSoon();
  }

  /** Lines may have been missed that never came this far. */
  gap(): void {
    this.#hasGap = true;
    this.#tellSoon();
  }

  /** At once when there is room. Only a response that was full says that it has been emptied. */
  #tellSoon(): void {
    if (!this.#response.writableNeedDrain) this.#caughtUp();
  }

  #caughtUp(): void {
    const skipped = this.#skipped === 0 ? '' : this.#format.skipped(this.#skipped);
    const gap = this.#hasGap ? this.#format.gap : '';
    this.#skipped = 0;
    this.#hasGap = false;
    if (skipped !== '' || gap !== '') this.#response.write(skipped + gap);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#heartbeat);
  }
}
