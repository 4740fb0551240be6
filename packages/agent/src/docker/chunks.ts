/**
 * Makes few HTTP chunks of many. The engine sends each line of a log as a chunk of its own, and an HTTP client makes a
 * buffer, an event and more of each; here all that has arrived at once becomes one chunk, before the client sees it.
 *
 * What goes in are the bytes of one connection, cut anywhere, with one response; what comes out means the same. It
 * is the client that understands HTTP: the head, the last chunk and whatever is not just as the engine sends it
 * go out as they came, so that an answer that was cut off still is one.
 */
export class ChunkGatherer {
  private state: 'head' | 'size' | 'sizeEnd' | 'data' | 'dataEnd' | 'asItIs' = 'head';
  private head = '';
  /** What has been read of a chunk's size, and its value. */
  private digits = '';
  private size = 0;
  /** Bytes of the chunk still to come. */
  private left = 0;
  private readonly emit: (bytes: Buffer) => void;

  /** @param emit takes what is to go on; the bytes are its own */
  constructor(emit: (bytes: Buffer) => void) {
    this.emit = emit;
  }

  /** Takes what has arrived. The bytes may be overwritten afterwards. */
  push(bytes: Buffer): void {
    if (this.state === 'asItIs') this.emit(Buffer.from(bytes));
    else if (this.state === 'head') this.pushHead(bytes);
    else this.pushBody(bytes);
  }

  private pushHead(bytes: Buffer): void {
    const before = this.head.length;
    this.head += bytes.toString('latin1');
    const end = this.head.indexOf(headEnd, Math.max(0, before - headEnd.length));
    const length = end < 0 ? bytes.length : end + headEnd.length - before;
    this.emit(Buffer.from(bytes.subarray(0, length)));
    if (end < 0) {
      if (this.head.length > maxHeadBytes) this.state = 'asItIs';
      return;
    }
    const head = this.head.slice(0, end + 2);
    const isChunked = head.startsWith('HTTP/1.1 200 ') && /\r\ntransfer-encoding: *chunked\r\n/i.test(head);
    this.state = isChunked ? 'size' : 'asItIs';
    this.head = '';
    if (length < bytes.length) this.push(bytes.subarray(length));
  }

  private pushBody(bytes: Buffer): void {
    // Room for the size in front, whatever it will be, and for the end behind.
    const out = Buffer.allocUnsafe(roomBytes + bytes.length + 2);
    let end = roomBytes;
    let at = 0;
    while (at < bytes.length && this.state !== 'asItIs') {
      if (this.state === 'data') {
        const length = Math.min(this.left, bytes.length - at);
        bytes.copy(out, end, at, at + length);
        end += length;
        at += length;
        this.left -= length;
        if (this.left === 0) this.state = 'dataEnd';
      } else if (this.state === 'size') at = this.readSize(bytes, at);
      else at = this.state === 'sizeEnd' ? this.readSizeEnd(bytes, at) : this.readDataEnd(bytes, at);
    }
    if (end > roomBytes) {
      const size = `${(end - roomBytes).toString(16)}\r\n`;
      const start = roomBytes - size.length;
      out.write(size, start, 'latin1');
      out.write('\r\n', end, 'latin1');
      this.emit(out.subarray(start, end + 2));
    }
    if (this.state !== 'asItIs') return;
    const rest = Buffer.from(bytes.subarray(at));
    this.emit(this.digits === '' ? rest : Buffer.concat([Buffer.from(this.digits, 'latin1'), rest]));
  }

  /** Reads on in a chunk's size. What is no usual size, or that of the last chunk, is left to the client. */
  private readSize(bytes: Buffer, from: number): number {
    for (let at = from; at < bytes.length; at++) {
      const byte = bytes[at] as number;
      const digit = hexDigit(byte);
      if (digit >= 0 && this.digits.length < maxDigits) {
        this.size = this.size * 16 + digit;
        this.digits += String.fromCharCode(byte);
      } else if (byte === carriageReturn && this.size > 0) {
        this.state = 'sizeEnd';
        return at + 1;
      } else {
        this.state = 'asItIs';
        return at;
      }
    }
    return bytes.length;
  }

  /** The newline behind a size. */
  private readSizeEnd(bytes: Buffer, at: number): number {
    if (bytes[at] !== newline) {
      this.digits += '\r';
      this.state = 'asItIs';
      return at;
    }
    this.state = 'data';
    this.left = this.size;
    this.size = 0;
    this.digits = '';
    return at + 1;
  }

  /** Carriage return and newline behind the data. */
  private readDataEnd(bytes: Buffer, at: number): number {
    const isFirst = this.digits === '';
    if (bytes[at] !== (isFirst ? carriageReturn : newline)) {
      this.state = 'asItIs';
      // The data has been given an end: with this behind it the client refuses it all the same.
      this.digits = '\r';
      return at;
    }
    this.digits = isFirst ? '\r' : '';
    if (!isFirst) this.state = 'size';
    return at + 1;
  }
}

const headEnd = '\r\n\r\n';
const maxHeadBytes = 64 * 1024;
const carriageReturn = 0x0d;
const newline = 0x0a;
const maxDigits = 7;
const roomBytes = 16;

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}
