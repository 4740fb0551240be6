import { Duplex } from 'node:stream';

export interface GuardedConnectionOptions {
  /** The socket or WebSocket stream. */
  inner: Duplex;
  /** Address of the peer, as the operating system gives it. */
  address: string;
  /** False when a proxy stands between, so that the address is the proxy's. */
  direct: boolean;
  /** Largest MQTT packet accepted. */
  maxPacketBytes: number;
  /** Largest first packet (CONNECT, with its last will): the peer is still a stranger. */
  maxConnectBytes: number;
  /** What may wait for a slow peer before `write` asks to hold on. */
  maxWaitingBytes: number;
}

const connectType = 1;
/** What is read while earlier messages are being committed: it is what the next commit of this peer can hold. */
const readAheadBytes = 256 * 1024;
const lingerMs = 2000;

/**
 * A connection between a peer and the broker that watches the sizes of both directions.
 *
 * Inwards it reads the fixed header of each MQTT packet (type, then the length in 7-bit groups; MQTT 3.1.1,
 * 2.2) as the bytes pass, since the broker's parser would gather up to 256 MB before anyone could object.
 * Outwards it buffers a slow peer's packets up to `maxWaitingBytes`, so that the broker can see how far behind
 * one watcher is and pass it over instead of waiting for it with everybody else.
 */
export class GuardedConnection extends Duplex {
  readonly address: string;
  readonly direct: boolean;
  readonly #inner: Duplex;
  readonly #maxPacketBytes: number;
  readonly #maxConnectBytes: number;
  #first = true;
  /** Bytes of the current packet's body still to come; 0 while a header is being read. */
  #bodyLeft = 0;
  /** -1 before the type byte, then the number of length bytes read. */
  #lengthBytes = -1;
  #length = 0;

  constructor(options: GuardedConnectionOptions) {
    super({ readableHighWaterMark: readAheadBytes, writableHighWaterMark: options.maxWaitingBytes });
    this.address = options.address;
    this.direct = options.direct;
    this.#inner = options.inner;
    this.#maxPacketBytes = options.maxPacketBytes;
    this.#maxConnectBytes = options.maxConnectBytes;
    const { inner } = options;
    inner.on('data', (chunk: Buffer) => this.#take(chunk));
    inner.on('end', () => this.push(null));
    inner.on('error', (error) => this.destroy(error));
    inner.on('close', () => this.destroy());
  }

  #take(chunk: Buffer): void {
    const problem = this.#inspect(chunk);
    if (problem) this.destroy(new Error(problem));
    else if (!this.push(chunk)) this.#inner.pause();
  }

  #inspect(chunk: Buffer): string | undefined {
    let at = 0;
    while (at < chunk.length) {
      if (this.#bodyLeft > 0) {
        const passed = Math.min(this.#bodyLeft, chunk.length - at);
        this.#bodyLeft -= passed;
        at += passed;
        continue;
      }
      const byte = chunk[at++] as number;
      if (this.#lengthBytes < 0) {
        if (this.#first && byte >> 4 !== connectType) return 'the first packet is not an MQTT CONNECT';
        this.#lengthBytes = 0;
        this.#length = 0;
        continue;
      }
      this.#length += (byte & 0x7f) * 128 ** this.#lengthBytes;
      this.#lengthBytes++;
      if ((byte & 0x80) !== 0) {
        if (this.#lengthBytes === 4) return 'an MQTT packet has a malformed length';
        continue;
      }
      const max = this.#first ? this.#maxConnectBytes : this.#maxPacketBytes;
      if (this.#length > max) return `an MQTT packet of ${this.#length} bytes is over the limit of ${max}`;
      this.#first = false;
      this.#lengthBytes = -1;
      this.#bodyLeft = this.#length;
    }
    return undefined;
  }

  override _read(): void {
    this.#inner.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (this.#inner.write(chunk)) done();
    else this.#inner.once('drain', done);
  }

  override _writev(
    chunks: { chunk: Buffer; encoding: BufferEncoding }[],
    done: (error?: Error | null) => void,
  ): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), 'utf8', done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#inner.end(() => done());
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const inner = this.#inner;
    if (error) inner.destroy();
    else if (!inner.destroyed) {
      // Whoever is refused (CONNACK with a code, then close) must still be able to read why, but not for ever.
      const timer = setTimeout(() => inner.destroy(), lingerMs);
      inner.once('close', () => clearTimeout(timer));
      inner.end(() => inner.destroy());
    }
    done(error);
  }
}
