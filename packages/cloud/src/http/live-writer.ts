import type { ServerResponse } from 'node:http';
import type { StoredLine } from '@millrace/wire';

/** How what happens is written. */
export interface LiveFormat {
  line(line: StoredLine): string;
  /** So many lines were passed over. */
  skipped(count: number): string;
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
    if (this.#response.writableLength === 0) this.#caughtUp();
  }

  #caughtUp(): void {
    if (this.#skipped === 0) return;
    const count = this.#skipped;
    this.#skipped = 0;
    this.#response.write(this.#format.skipped(count));
  }

  [Symbol.dispose](): void {
    clearInterval(this.#heartbeat);
  }
}
