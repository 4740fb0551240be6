/**
 * Takes the body of an HTTP answer out of its chunks (RFC 9112, 7.1), in place. The engine sends each line of a log as a
 * chunk of its own, and an HTTP client makes a buffer, an event and more of each; here all that has arrived at once
 * becomes one piece, without a copy. Extensions of chunks and trailers mean nothing to us and are passed over.
 */
export class ChunkReader {
  /** The last chunk has been read to its end; what comes behind it is not looked at. */
  hasEnded = false;
  /** What has arrived is not chunked as it should be; what came out before it is sound. */
  failure: Error | undefined;
  private state: State = 'size';
  private size = 0;
  private digits = 0;
  /** Bytes of the chunk still to come. */
  private left = 0;
  /** Bytes of an extension or of trailers so far. */
  private passedOver = 0;
  private isEmptyLine = true;

  /** Reads on in `bytes[from..to)`, cut anywhere; moves the body's part of it to `from` and returns where it ends. */
  read(bytes: Buffer, from: number, to: number): number {
    let end = from;
    let at = from;
    while (at < to && !this.hasEnded && this.failure === undefined) {
      if (this.state !== 'data') {
        this.state = this.next(bytes[at++] as number);
        continue;
      }
      const length = Math.min(this.left, to - at);
      bytes.copyWithin(end, at, at + length);
      end += length;
      at += length;
      this.left -= length;
      if (this.left === 0) this.state = 'dataEnd';
    }
    return end;
  }

  /** What follows a byte that is none of the data. */
  private next(byte: number): State {
    switch (this.state) {
      case 'size':
        return this.nextOfSize(byte);
      case 'extension':
        return byte === carriageReturn ? 'sizeEnd' : this.passOver('extension');
      case 'sizeEnd':
        return byte === newline ? this.endSize() : this.fail();
      case 'dataEnd':
        return byte === carriageReturn ? 'dataEndLine' : this.fail();
      case 'dataEndLine':
        return byte === newline ? 'size' : this.fail();
      default:
        return this.nextOfTrailer(byte);
    }
  }

  private nextOfSize(byte: number): State {
    const digit = hexDigit(byte);
    if (digit >= 0 && this.digits < maxDigits) {
      this.size = this.size * 16 + digit;
      this.digits++;
      return 'size';
    }
    if (this.digits === 0 || digit >= 0) return this.fail();
    if (byte === carriageReturn) return 'sizeEnd';
    return byte === semicolon || byte === space ? 'extension' : this.fail();
  }

  private endSize(): State {
    this.left = this.size;
    this.size = 0;
    this.digits = 0;
    return this.left > 0 ? 'data' : 'trailer';
  }

  /** Behind the last chunk: lines up to an empty one. */
  private nextOfTrailer(byte: number): State {
    if (byte === newline) {
      this.hasEnded = this.isEmptyLine;
      this.isEmptyLine = true;
    } else if (byte !== carriageReturn) this.isEmptyLine = false;
    return this.passOver('trailer');
  }

  private passOver(state: State): State {
    return this.passedOver++ < maxPassedOverBytes ? state : this.fail();
  }

  private fail(): State {
    this.failure = new Error('what arrives is not chunked as HTTP asks for');
    return this.state;
  }
}

type State = 'size' | 'extension' | 'sizeEnd' | 'data' | 'dataEnd' | 'dataEndLine' | 'trailer';

const carriageReturn = 0x0d;
const newline = 0x0a;
const semicolon = 0x3b;
const space = 0x20;
const maxDigits = 12;
/** In all, so that an engine gone mad cannot keep us reading what is no log. */
const maxPassedOverBytes = 1024 * 1024;

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}
