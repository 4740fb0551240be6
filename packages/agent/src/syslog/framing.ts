const newline = 0x0a;
const nul = 0x00;

/** Longest message that is held; of a longer one the rest is counted. */
const defaultMaxBytes = 60 * 1024;
const counted = /^([1-9]\d{0,6}) </;
/** `9999999 <` */
const maxPrefixBytes = 9;

/**
 * Takes messages out of a stream as RFC 6587 has them: with their length in front (`83 <34>1 …`), or ended by a
 * newline or NUL. Senders do either, so each message is looked at. Holds one message, cut to its bound.
 */
export class SyslogFraming {
  readonly #maxBytes: number;
  #pieces: Buffer[] = [];
  #held = 0;
  #cutBytes = 0;
  /** What is left of a message whose length is known. */
  #remaining: number | undefined;
  /** The first bytes of a message, until they tell how it ends. */
  #prefix: Buffer = Buffer.alloc(0);
  #isBegun = false;

  constructor({ maxBytes = defaultMaxBytes }: { maxBytes?: number } = {}) {
    this.#maxBytes = maxBytes;
  }

  /** The messages that end in `chunk`. */
  *push(chunk: Buffer): Generator<Buffer, void, void> {
    let rest = chunk;
    while (rest.length > 0) {
      if (!this.#isBegun) {
        rest = this.#begin(rest);
        if (!this.#isBegun) return;
      }
      if (this.#remaining === undefined) {
        const end = endOf(rest);
        this.#hold(end < 0 ? rest : rest.subarray(0, end));
        if (end < 0) return;
        rest = rest.subarray(end + 1);
      } else {
        const taken = rest.subarray(0, this.#remaining);
        this.#hold(taken);
        this.#remaining -= taken.length;
        rest = rest.subarray(taken.length);
        if (this.#remaining > 0) return;
      }
      const message = this.#take();
      if (message.length > 0) yield message;
    }
  }

  /** What the stream ended in the middle of; `undefined` when there is nothing. */
  rest(): Buffer | undefined {
    if (this.#prefix.length > 0) this.#hold(this.#prefix);
    const message = this.#take();
    return message.length > 0 ? message : undefined;
  }

  /** Finds out how a message ends; returns what is to be read on with. */
  #begin(chunk: Buffer): Buffer {
    const bytes = this.#prefix.length > 0 ? Buffer.concat([this.#prefix, chunk]) : chunk;
    const start = bytes.toString('latin1', 0, maxPrefixBytes);
    const match = counted.exec(start);
    // The beginning of a length, so far.
    if (!match && bytes.length < maxPrefixBytes && /^[1-9]\d{0,6} ?$/.test(start)) {
      this.#prefix = Buffer.from(bytes);
      return bytes;
    }
    this.#prefix = Buffer.alloc(0);
    this.#isBegun = true;
    if (!match) return bytes;
    this.#remaining = Number(match[1]);
    return bytes.subarray((match[1] as string).length + 1);
  }

  #hold(piece: Buffer): void {
    const room = this.#maxBytes - this.#held;
    // A copy: the piece lies in a buffer of the socket's, many times as large.
    if (room > 0 && piece.length > 0) this.#pieces.push(Buffer.from(piece.subarray(0, room)));
    this.#held += Math.min(room, piece.length);
    this.#cutBytes += Math.max(0, piece.length - room);
  }

  #take(): Buffer {
    if (this.#cutBytes > 0) this.#pieces.push(Buffer.from(`… [truncated ${this.#cutBytes} bytes]`));
    const message = Buffer.concat(this.#pieces);
    this.#pieces = [];
    this.#held = 0;
    this.#cutBytes = 0;
    this.#remaining = undefined;
    this.#prefix = Buffer.alloc(0);
    this.#isBegun = false;
    return message;
  }
}

function endOf(bytes: Buffer): number {
  const line = bytes.indexOf(newline);
  const zero = (line < 0 ? bytes : bytes.subarray(0, line)).indexOf(nul);
  return zero < 0 ? line : zero;
}
