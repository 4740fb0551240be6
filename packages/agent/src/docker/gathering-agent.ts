import { Agent, type ClientRequestArgs, type IncomingMessage } from 'node:http';
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { ChunkReader } from './chunks.ts';

const readBytes = 64 * 1024;
/**
 * A read that brought less is followed by a rest, in which the kernel collects what comes: each read has its price. A
 * shorter one behind much, since for small writes a socket's memory ends at some 40 KB, and then the engine waits.
 */
const fewBytes = 16 * 1024;
const restMs = 4;
const manyBytes = 32 * 1024;
const shortRestMs = 1;

const headEnd = '\r\n\r\n';
const maxHeadBytes = 64 * 1024;

/**
 * Connections for answers that come in many small chunks. One for each request, whose answer is to be read with
 * {@link partsOf}: Node's client sees the head, and the body only where it is not chunked or none that was asked for.
 * Only without TLS, which has records of its own.
 */
export class GatheringAgent extends Agent {
  override createConnection(options: ClientRequestArgs): Duplex {
    // The path of a socket, or host and port: what Node's own agent hands to it, too.
    return new GatheringSocket(options as NetConnectOpts);
  }
}

/**
 * The body of an answer, in parts. Each is valid until the next one is asked for: its memory is used again. Nothing is
 * read from the connection meanwhile. Who leaves before the end ends the connection.
 *
 * @throws Error when the answer breaks off before its end, or is no HTTP
 */
export function partsOf(response: IncomingMessage): AsyncIterable<Buffer> {
  const socket: Duplex = response.socket;
  return socket instanceof GatheringSocket && socket.hasBody ? socket.parts() : response;
}

class GatheringSocket extends Duplex {
  /** The head has been read, and the body is ours. */
  hasBody = false;
  private readonly socket: Socket;
  private readonly buffer = Buffer.allocUnsafeSlow(readBytes);
  private readonly chunks = new ChunkReader();
  private state: 'head' | 'asItIs' | 'body' = 'head';
  private head = '';
  /** What has been read of the body and was not taken yet: `buffer[bodyFrom..bodyTo)`. */
  private bodyFrom = 0;
  private bodyTo = 0;
  private failure: Error | undefined;
  /** To be called when there is something to take, or never will be. */
  private wake: (() => void) | undefined;
  private rest: NodeJS.Timeout | undefined;
  private lengthBefore = 0;
  private wantsMore = true;

  constructor(options: NetConnectOpts) {
    super();
    const { buffer } = this;
    this.socket = connect({ ...options, onread: { buffer, callback: (length) => this.arrived(length) } });
    this.socket.on('connect', () => this.emit('connect'));
    this.socket.on('end', () => {
      this.fail(undefined);
      this.push(null);
    });
    this.socket.on('error', (error) => this.destroy(error));
    this.socket.on('close', () => this.destroy());
  }

  async *parts(): AsyncGenerator<Buffer> {
    try {
      for (;;) {
        if (this.bodyTo > this.bodyFrom) yield this.buffer.subarray(this.bodyFrom, this.bodyTo);
        this.bodyFrom = 0;
        this.bodyTo = 0;
        if (this.chunks.hasEnded) return;
        if (this.failure) throw this.failure;
        const woken = new Promise<void>((resolve) => {
          this.wake = resolve;
        });
        this.goOn();
        await woken;
      }
    } finally {
      this.destroy();
    }
  }

  /** As a socket has it; for connections over TCP. */
  setKeepAlive(isOn: boolean, initialDelayMs?: number): this {
    this.socket.setKeepAlive(isOn, initialDelayMs);
    return this;
  }

  override _read(): void {
    this.wantsMore = true;
    this.goOn();
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.socket.write(bytes, done);
  }

  override _final(done: () => void): void {
    this.socket.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.rest);
    this.fail(error ?? undefined);
    this.socket.destroy();
    done(error);
  }

  /** Takes what lies in the buffer; whether to read on at once. */
  private arrived(length: number): boolean {
    if (this.state === 'body') {
      this.takeBody(0, length);
      if (length < fewBytes) {
        const ms = this.lengthBefore < manyBytes ? restMs : shortRestMs;
        this.rest ??= setTimeout(() => this.rested(), ms);
      }
      this.lengthBefore = length;
    } else if (this.state === 'head') this.takeHead(length);
    else this.wantsMore = this.push(Buffer.from(this.buffer.subarray(0, length)));
    return this.isReading;
  }

  /** Hands the head to Node's client; and what is behind it, unless that is ours. */
  private takeHead(length: number): void {
    const bytes = this.buffer.subarray(0, length);
    const before = this.head.length;
    this.head += bytes.toString('latin1');
    const found = this.head.indexOf(headEnd, Math.max(0, before - headEnd.length));
    const head = this.head.slice(0, found + 2);
    const isOurs =
      found >= 0 && head.startsWith('HTTP/1.1 200 ') && /\r\ntransfer-encoding: *chunked\r\n/i.test(head);
    const headLength = isOurs ? found + headEnd.length - before : length;
    if (isOurs) {
      this.state = 'body';
      this.hasBody = true;
      this.takeBody(headLength, length);
    } else if (found >= 0 || this.head.length > maxHeadBytes) this.state = 'asItIs';
    if (this.state !== 'head') this.head = '';
    this.wantsMore = this.push(Buffer.from(bytes.subarray(0, headLength)));
  }

  private takeBody(from: number, to: number): void {
    this.bodyFrom = from;
    this.bodyTo = this.chunks.read(this.buffer, from, to);
    this.failure = this.chunks.failure;
    if (this.bodyTo > from || this.chunks.hasEnded || this.failure) this.awake();
  }

  /** The connection is at its end. If the answer is not, it is cut off. */
  private fail(error: Error | undefined): void {
    if (this.chunks.hasEnded) return;
    this.failure ??= error ?? new Error('the connection ended before the answer did');
    this.awake();
  }

  private awake(): void {
    const { wake } = this;
    this.wake = undefined;
    wake?.();
  }

  /** Whether anybody waits for what would be read. */
  private get isReading(): boolean {
    if (this.rest !== undefined) return false;
    return this.state === 'body' ? this.wake !== undefined : this.wantsMore;
  }

  private rested(): void {
    this.rest = undefined;
    this.goOn();
  }

  private goOn(): void {
    if (this.isReading) this.socket.resume();
  }
}
