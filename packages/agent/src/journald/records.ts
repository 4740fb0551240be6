const newline = 0x0a;

/** One line of output; of one that is longer than what may be held only both ends. */
export interface OutputRecord {
  text: string;
  /** Its length when it did not fit; `text` is then what it begins and ends with. */
  cutBytes?: number;
}

/** Splits a stream into lines, of which at most `maxBytes` are held. */
export class RecordSplitter {
  readonly #maxBytes: number;
  readonly #endBytes: number;
  #pieces: Buffer[] = [];
  #held = 0;
  #bytes = 0;
  /** The last bytes of a line that is too long. */
  #tail: Buffer | undefined;

  constructor({ maxBytes, endBytes }: { maxBytes: number; endBytes: number }) {
    this.#maxBytes = maxBytes;
    this.#endBytes = endBytes;
  }

  *push(chunk: Buffer): Generator<OutputRecord, void, void> {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(newline, start);
      if (end < 0) break;
      this.#add(chunk.subarray(start, end));
      yield this.#take();
      start = end + 1;
    }
    // A copy: the chunk is a buffer of the pipe's, many times as large.
    if (start < chunk.length) this.#add(Buffer.from(chunk.subarray(start)));
  }

  #add(piece: Buffer): void {
    this.#bytes += piece.length;
    if (this.#tail === undefined && this.#held + piece.length <= this.#maxBytes) {
      this.#pieces.push(piece);
      this.#held += piece.length;
      return;
    }
    if (this.#tail === undefined) {
      const held = Buffer.concat(this.#pieces);
      this.#pieces = [Buffer.from(held.subarray(0, this.#endBytes))];
      this.#tail = Buffer.from(held.subarray(-this.#endBytes));
    }
    this.#tail = Buffer.from(Buffer.concat([this.#tail, piece]).subarray(-this.#endBytes));
  }

  #take(): OutputRecord {
    const text = Buffer.concat([...this.#pieces, ...(this.#tail ? [this.#tail] : [])]).toString('utf8');
    const record = this.#tail ? { text, cutBytes: this.#bytes } : { text };
    this.#pieces = [];
    this.#held = 0;
    this.#bytes = 0;
    this.#tail = undefined;
    return record;
  }
}
