import { Agent, type ClientRequestArgs } from 'node:http';
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { ChunkGatherer } from './chunks.ts';

const readBytes = 64 * 1024;
/**
 * A read that brought less is followed by a rest, in which the kernel collects what comes: each read has its price. A
 * shorter one behind much, since for small writes a socket's memory ends at some 40 KB, and then the engine waits.
 */
const fewBytes = 16 * 1024;
const restMs = 4;
const manyBytes = 32 * 1024;
const shortRestMs = 1;

/**
 * Connections for answers that come in many small chunks: see {@link ChunkGatherer}. One for each request. Only without
 * TLS, which has records of its own.
 */
export class GatheringAgent extends Agent {
  override createConnection(options: ClientRequestArgs): Duplex {
    // The path of a socket, or host and port: what Node's own agent hands to it, too.
    return new GatheringSocket(options as NetConnectOpts);
  }
}

class GatheringSocket extends Duplex {
  private readonly socket: Socket;
  private rest: NodeJS.Timeout | undefined;
  private wantsMore = true;

  constructor(options: NetConnectOpts) {
    super();
    const gatherer = new ChunkGatherer((bytes) => {
      this.wantsMore = this.push(bytes);
    });
    const buffer = Buffer.allocUnsafeSlow(readBytes);
    let before = 0;
    this.socket = connect({
      ...options,
      onread: {
        buffer,
        callback: (length) => {
          gatherer.push(buffer.subarray(0, length));
          if (length < fewBytes) {
            this.rest ??= setTimeout(() => this.goOn(), before < manyBytes ? restMs : shortRestMs);
          }
          before = length;
          return this.wantsMore && this.rest === undefined;
        },
      },
    });
    this.socket.on('connect', () => this.emit('connect'));
    this.socket.on('end', () => this.push(null));
    this.socket.on('error', (error) => this.destroy(error));
    this.socket.on('close', () => this.destroy());
  }

  /** As a socket has it; for connections over TCP. */
  setKeepAlive(isOn: boolean, initialDelayMs?: number): this {
    this.socket.setKeepAlive(isOn, initialDelayMs);
    return this;
  }

  override _read(): void {
    this.wantsMore = true;
    if (this.rest === undefined) this.socket.resume();
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.socket.write(bytes, done);
  }

  override _final(done: () => void): void {
    this.socket.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.rest);
    this.socket.destroy();
    done(error);
  }

  private goOn(): void {
    this.rest = undefined;
    if (this.wantsMore) this.socket.resume();
  }
}
