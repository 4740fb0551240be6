import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { isIPv6 } from 'node:net';
import { kernelDrops } from './kernel-drops.ts';

export interface DatagramOptions {
  host: string;
  port: number;
  /** Takes a message; a promise says that there is no room for more until it is settled. */
  take(message: Buffer): void | Promise<void>;
  /** Messages were lost, here or in the kernel. */
  onDropped(count: number): void;
  onFailed(error: Error): void;
}

/** What the kernel holds while we are busy; it may grant less (`net.core.rmem_max`). */
const receiveBufferBytes = 1024 * 1024;
/** What is held while the backends have no room. */
const maxWaitingBytes = 1024 * 1024;
const checkIntervalMs = 5_000;

/**
 * Receives syslog messages over UDP, one per datagram. Nobody can hold a sender back, so what comes while the backends
 * have no room waits, up to a bound, and is then dropped and counted; so is what the kernel had to drop.
 */
export class SyslogDatagrams implements AsyncDisposable {
  readonly #options: DatagramOptions;
  readonly #socket: Socket;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #emptying: Promise<void> | undefined;
  #checks: NodeJS.Timeout | undefined;
  #kernelDrops = 0;
  #isClosed = false;

  private constructor(options: DatagramOptions) {
    this.#options = options;
    this.#socket = createSocket({
      type: isIPv6(options.host) ? 'udp6' : 'udp4',
      recvBufferSize: receiveBufferBytes,
    });
  }

  /** @throws Error of the system, when the port cannot be had */
  static async listen(options: DatagramOptions): Promise<SyslogDatagrams> {
    const datagrams = new SyslogDatagrams(options);
    const socket = datagrams.#socket;
    socket.on('message', (message) => datagrams.#receive(message));
    try {
      socket.bind({ address: options.host, port: options.port, exclusive: true });
      await once(socket, 'listening');
    } catch (error) {
      socket.close();
      throw error;
    }
    socket.on('error', options.onFailed);
    datagrams.#checks = setInterval(() => void datagrams.#countDrops(), checkIntervalMs);
    datagrams.#checks.unref();
    return datagrams;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    clearInterval(this.#checks);
    await this.#countDrops();
    this.#isClosed = true;
    const closed = once(this.#socket, 'close');
    this.#socket.close();
    await closed;
    await this.#emptying;
  }

  #receive(message: Buffer): void {
    if (!this.#emptying) {
      const taken = this.#options.take(message);
      if (taken) this.#emptying = this.#empty(taken);
      return;
    }
    if (this.#waitingBytes + message.length > maxWaitingBytes) {
      this.#options.onDropped(1);
      return;
    }
    this.#waiting.push(message);
    this.#waitingBytes += message.length;
  }

  async #empty(taken: Promise<void>): Promise<void> {
    await taken;
    while (this.#waiting.length > 0) {
      const messages = this.#waiting;
      this.#waiting = [];
      this.#waitingBytes = 0;
      for (const message of messages) await this.#options.take(message);
    }
    this.#emptying = undefined;
  }

  async #countDrops(): Promise<void> {
    const total = await kernelDrops(this.#socket.address());
    if (total > this.#kernelDrops) this.#options.onDropped(total - this.#kernelDrops);
    this.#kernelDrops = Math.max(total, this.#kernelDrops);
  }
}
