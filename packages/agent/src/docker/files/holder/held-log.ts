import { closeSync } from 'node:fs';
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import {
  type FromThread,
  type HeldFiles,
  lookedAt,
  microseconds,
  roomAt,
  type ToThread,
  tryLock,
  unlock,
} from './messages.ts';

export interface HeldLogOptions {
  port: MessagePort;
  shared: Int32Array;
  /** The newest file that is open. */
  knownIdentity: string;
  /** How often the thread looks. */
  everyMs: number;
  onEnded(): void;
}

/** It comes a little late as a rule. */
const lateLooks = 2;

/** A log whose new files are opened by the holder's thread, or by whoever reads it while he has the lock. */
export class HeldLog {
  /** Nothing comes behind what {@link take} gives, and there is no lock any more. */
  hasEnded = false;
  /** When files came last, by `performance.now()`. */
  lastMs = performance.now();
  private readonly options: HeldLogOptions;
  private readonly waiting: HeldFiles[] = [];
  private knownIdentity: string;
  private isDiscarded = false;

  constructor(options: HeldLogOptions) {
    this.options = options;
    this.knownIdentity = options.knownIdentity;
    options.port.on('message', (message: FromThread) => this.receive(message));
    options.port.unref();
  }

  /** The thread should have looked again by now: it does not get the processor, or has not begun. */
  get isLate(): boolean {
    const { shared, everyMs } = this.options;
    return Math.abs(microseconds() - Atomics.load(shared, lookedAt)) > lateLooks * everyMs * 1000;
  }

  /** `false` while the thread is looking. Who has the lock must {@link take} before he looks himself. */
  tryLock(): boolean {
    return tryLock(this.options.shared);
  }

  /**
   * @param newestIdentity that is open now
   * @param room how many more files may be held
   */
  unlock(newestIdentity: string | undefined, room: number): void {
    if (newestIdentity !== undefined && newestIdentity !== this.knownIdentity && !this.hasEnded) {
      this.knownIdentity = newestIdentity;
      this.options.port.postMessage({ knownIdentity: newestIdentity } satisfies ToThread);
    }
    Atomics.store(this.options.shared, roomAt, room);
    unlock(this.options.shared);
  }

  /** What the thread has opened since this was last called, oldest first. Whoever takes it closes it. */
  take(): HeldFiles[] {
    this.drain();
    return this.waiting.splice(0);
  }

  /** The newest that was taken is this one. */
  taken(identity: string): void {
    this.knownIdentity = identity;
  }

  /** A file was read to its end and closed. */
  closed(): void {
    Atomics.add(this.options.shared, roomAt, 1);
  }

  /** Asks the thread to look no more. */
  end(): void {
    if (!this.hasEnded) this.options.port.postMessage('end' satisfies ToThread);
  }

  /** Ends it, and closes what has come and what is on its way. */
  discard(): void {
    this.isDiscarded = true;
    for (const files of this.waiting.splice(0)) closeFiles(files);
    this.drain();
    this.end();
  }

  /** The thread is gone; what it had said before still counts. */
  threadEnded(): void {
    this.drain();
    this.ended();
  }

  private drain(): void {
    const { port } = this.options;
    for (let got = receiveMessageOnPort(port); got; got = receiveMessageOnPort(port)) {
      this.receive(got.message as FromThread);
    }
  }

  private receive(message: FromThread): void {
    if (message === 'ended') this.ended();
    else if (this.isDiscarded) closeFiles(message);
    else {
      this.lastMs = performance.now();
      this.waiting.push(message);
    }
  }

  private ended(): void {
    if (this.hasEnded) return;
    this.hasEnded = true;
    this.options.port.close();
    this.options.onEnded();
  }
}

function closeFiles({ fds }: HeldFiles): void {
  for (const fd of fds) closeSync(fd);
}
