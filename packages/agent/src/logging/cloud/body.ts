import { constants, createGzip, type Gzip } from 'node:zlib';
import { orAborted } from '../../delivery/pause.ts';
import type { FeedBatch } from '../types.ts';

// From this size on a batch gains nothing from the window of the one before, and its own gzip member may lie ready.
const wholeMemberBytes = 32 * 1024;

/**
 * The body of a long request: batches, flushed one by one, so that each can be read at once at the other end.
 * Small ones share one compressor, which makes them several times smaller; a large one goes as a gzip member of
 * its own between two of the stream's.
 */
export class StreamBody implements Disposable {
  readonly #compression: 'gzip' | 'none';
  readonly #write: (chunk: Buffer) => void;
  #gzip: Gzip | undefined;

  constructor(options: { compression: 'gzip' | 'none'; write: (chunk: Buffer) => void }) {
    this.#compression = options.compression;
    this.#write = options.write;
  }

  /** Resolves when the batch has gone to `write`, or the signal is aborted: then this body is at its end. */
  async batch(batch: FeedBatch, signal: AbortSignal): Promise<void> {
    if (this.#compression === 'none') {
      this.#write(batch.encoded());
      return;
    }
    if (batch.linesBytes >= wholeMemberBytes) {
      await this.end(signal);
      if (!signal.aborted) this.#write(batch.gzip());
      return;
    }
    await this.#compress([batch.encoded()], signal);
  }

  /** A blank line, which means nothing. */
  async blank(signal: AbortSignal): Promise<void> {
    if (this.#compression === 'none') this.#write(Buffer.from('\n'));
    else await this.#compress(['\n'], signal);
  }

  /** Ends the gzip member that is open, if there is one. */
  async end(signal: AbortSignal): Promise<void> {
    const gzip = this.#gzip;
    if (!gzip) return;
    this.#gzip = undefined;
    const ended = new Promise<void>((resolve) => gzip.once('end', resolve));
    gzip.end();
    await orAborted(ended, signal);
  }

  [Symbol.dispose](): void {
    this.#gzip?.destroy();
  }

  async #compress(pieces: (string | Buffer)[], signal: AbortSignal): Promise<void> {
    this.#gzip ??= this.#openGzip();
    const gzip = this.#gzip;
    for (const piece of pieces) gzip.write(piece);
    const flushed = new Promise<void>((resolve) => gzip.flush(constants.Z_SYNC_FLUSH, () => resolve()));
    await orAborted(flushed, signal);
  }

  #openGzip(): Gzip {
    const gzip = createGzip();
    gzip.on('data', (chunk: Buffer) => this.#write(chunk));
    return gzip;
  }
}
