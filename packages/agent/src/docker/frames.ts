/**
 * What `GET /containers/{id}/logs` sends, cut into pieces of one stream each.
 *
 * Without a terminal the engine multiplexes: per piece an 8-byte header (1 byte stream: 0 stdin, 1 stdout,
 * 2 stderr, 3 an error of the engine itself; 3 bytes of zero; 4 bytes length, big endian) and that many bytes
 * (moby, `pkg/stdcopy`). With a terminal there is one stream, sent as it is, and a piece here is one line of it.
 * Which of the two it is shows in the first byte: since we always ask for timestamps, a raw stream begins with a
 * digit. Chunks may be cut anywhere.
 */
export class FrameSplitter {
  /** 1 stdout, 2 stderr, 3 an error of the engine. */
  stream = 1;
  /** The piece is `source[start..end)`; valid until the next call of {@link next} or {@link push}. */
  source: Buffer = empty;
  start = 0;
  end = 0;
  /** The piece ended with a newline, which may be among the bytes that were passed over. */
  endsLine = false;
  /** How many bytes of the piece were passed over, behind those that are kept. */
  passedOver = 0;
  /** The stream is one of a terminal. `undefined` before the first byte. */
  isRaw: boolean | undefined;
  private readonly maxPieceBytes: number;
  private held: Buffer = empty;
  /** Its memory is not ours. */
  private isBorrowed = false;
  private offset = 0;
  /** How far `held` has been searched for a newline already. */
  private searched = 0;
  /** Bytes of the current frame still to be passed over. */
  private skip = 0;
  /** Bytes passed over behind {@link cut}. */
  private cutBytes = 0;
  /** Header of the frame whose first `maxPieceBytes` are held while the rest is passed over. */
  private cut: Buffer | undefined;

  /** @param options.maxPieceBytes what is kept of a longer piece */
  constructor({ maxPieceBytes }: { maxPieceBytes: number }) {
    this.maxPieceBytes = maxPieceBytes;
  }

  /** Takes what has arrived. Its memory may be used again once {@link next} has returned `false`. */
  push(chunk: Buffer): void {
    const rest = this.held.length - this.offset;
    this.held = rest === 0 ? chunk : Buffer.concat([this.held.subarray(this.offset), chunk]);
    this.searched = Math.max(0, this.searched - this.offset);
    this.offset = 0;
    this.isBorrowed = rest === 0;
    if (this.isRaw === undefined && this.held.length > 0) this.isRaw = (this.held[0] as number) > 3;
  }

  /**
   * Moves on to the next whole piece; `false` when more bytes are needed.
   *
   * @throws Error when the bytes are no frames
   */
  next(): boolean {
    if (this.isRaw ? this.nextRaw() : this.nextFrame()) return true;
    if (this.isBorrowed) this.keepRest();
    return false;
  }

  /** Takes what is left without a newline at the end of a raw stream as a last piece; `false` if there is none. */
  takeRest(): boolean {
    if (!this.isRaw) return false;
    if (this.cut) {
      this.emit(this.cut, 0, this.cut.length, false, this.cutBytes);
      this.cut = undefined;
      return true;
    }
    if (this.offset >= this.held.length) return false;
    this.emit(this.held, this.offset, this.held.length, false);
    this.offset = this.held.length;
    return true;
  }

  private keepRest(): void {
    const { held, offset } = this;
    this.isBorrowed = false;
    this.held = offset < held.length ? Buffer.from(held.subarray(offset)) : empty;
    this.searched = Math.max(0, this.searched - offset);
    this.offset = 0;
  }

  private nextFrame(): boolean {
    if (this.cut) return this.passOver(this.cut);
    const { held, offset } = this;
    if (held.length - offset < 8) return false;
    const stream = held[offset] as number;
    if (stream > 3 || held[offset + 1] !== 0 || held[offset + 2] !== 0 || held[offset + 3] !== 0) {
      throw new Error(`not a frame of a log stream: ${held.toString('hex', offset, offset + 8)}`);
    }
    const length = held.readUInt32BE(offset + 4);
    const start = offset + 8;
    const end = start + length;
    if (end <= held.length) {
      this.stream = stream === 0 ? 1 : stream;
      this.offset = end;
      const kept = Math.min(end, start + this.maxPieceBytes);
      this.emit(held, start, kept, held[end - 1] === 0x0a && length > 0, end - kept);
      return true;
    }
    if (length <= this.maxPieceBytes || held.length - start < this.maxPieceBytes) return false;
    this.stream = stream === 0 ? 1 : stream;
    const cut = Buffer.from(held.subarray(start, start + this.maxPieceBytes));
    this.cut = cut;
    this.skip = length - this.maxPieceBytes;
    this.cutBytes = this.skip;
    this.offset = start + this.maxPieceBytes;
    return this.passOver(cut);
  }

  private passOver(cut: Buffer): boolean {
    const passed = Math.min(this.skip, this.held.length - this.offset);
    this.offset += passed;
    this.skip -= passed;
    if (this.skip > 0) return false;
    this.cut = undefined;
    this.emit(cut, 0, cut.length, this.held[this.offset - 1] === 0x0a, this.cutBytes);
    return true;
  }

  private nextRaw(): boolean {
    const { held } = this;
    const newline = held.indexOf(0x0a, Math.max(this.offset, this.searched));
    if (this.cut) {
      const end = newline < 0 ? held.length : newline + 1;
      this.cutBytes += end - this.offset;
      this.offset = end;
      if (newline < 0) return false;
      this.emit(this.cut, 0, this.cut.length, true, this.cutBytes);
      this.cut = undefined;
      return true;
    }
    if (newline >= 0) {
      const start = this.offset;
      this.offset = newline + 1;
      const kept = Math.min(newline + 1, start + this.maxPieceBytes);
      this.emit(held, start, kept, true, newline + 1 - kept);
      return true;
    }
    this.searched = held.length;
    if (held.length - this.offset > this.maxPieceBytes) {
      this.cut = Buffer.from(held.subarray(this.offset, this.offset + this.maxPieceBytes));
      this.cutBytes = held.length - this.offset - this.maxPieceBytes;
      this.offset = held.length;
    }
    return false;
  }

  private emit(source: Buffer, start: number, end: number, endsLine: boolean, passedOver = 0): void {
    this.passedOver = passedOver;
    this.source = source;
    this.start = start;
    this.end = end;
    this.endsLine = endsLine;
  }
}

const empty = Buffer.alloc(0);
