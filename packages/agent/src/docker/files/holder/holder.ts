import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import { HeldLog } from './held-log.ts';
import { type HoldOrder, lockAt, type Order, roomAt, sharedBytes, type ThreadStart } from './messages.ts';

export interface LogHolderOptions {
  /** Ends it. */
  signal: AbortSignal;
  log?: Logger | undefined;
  /** How long without a new file until a log is no longer held, and without a log until the thread ends. */
  restMs?: number;
}

export interface HoldOptions extends Pick<HoldOrder, 'path' | 'knownIdentity' | 'plainFiles' | 'everyMs'> {
  /** How many files may be held besides those that are open. */
  room: number;
}

const retryMs = 60_000;

/** It makes some strings and numbers at each look; read from the sources, their types are to be taken out first. */
const resourceLimits = { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 1, stackSizeMb: 1 };

/**
 * Holds the files of logs open that are rotated faster than a thread that does anything else can promise to look: for
 * some milliseconds of another's garbage collection or compression a file has come and gone. It has a thread of its
 * own, which lives as long as there is such a log.
 */
export class LogHolder {
  private readonly options: LogHolderOptions;
  private readonly restMs: number;
  private thread: HolderThread | undefined;
  private failedMs = Number.NEGATIVE_INFINITY;

  constructor(options: LogHolderOptions) {
    this.options = options;
    this.restMs = options.restMs ?? 10_000;
    options.signal.addEventListener('abort', () => this.thread?.stop(), { once: true });
  }

  get isRunning(): boolean {
    return this.thread !== undefined;
  }

  /** A log that is to be held is, at once. */
  get isReady(): boolean {
    return this.thread?.isReady === true;
  }

  get heldLogs(): number {
    return this.thread?.heldLogs ?? 0;
  }

  /** A log may be about to be rotated fast: starting takes as long as it takes several files to come and go. */
  prepare(): void {
    this.thread ??= this.start();
    this.thread?.needed();
  }

  /**
   * From now on the thread opens the log's new files, as soon as it is unlocked: whoever asks has the lock. `undefined`
   * while the thread is not there: it is started then, to be asked again.
   */
  hold(options: HoldOptions): HeldLog | undefined {
    this.thread ??= this.start();
    return this.thread?.hold(options);
  }

  private start(): HolderThread | undefined {
    const { signal, log } = this.options;
    if (signal.aborted || performance.now() - this.failedMs < retryMs) return undefined;
    const failed = (error: unknown) => {
      this.failedMs = performance.now();
      log?.warn(
        { error: errorText(error) },
        'files of logs that are rotated fast are not held by a thread of their own',
      );
    };
    try {
      const thread: HolderThread = new HolderThread(this.restMs, failed, () => {
        if (this.thread === thread) this.thread = undefined;
      });
      return thread;
    } catch (error) {
      failed(error);
      return undefined;
    }
  }
}

class HolderThread {
  private readonly worker: Worker;
  private readonly orders: MessagePort;
  private readonly wakeCount = new Int32Array(new SharedArrayBuffer(4));
  private readonly ready = new Int32Array(new SharedArrayBuffer(4));
  private readonly held = new Set<HeldLog>();
  private readonly restMs: number;
  private readonly rests: NodeJS.Timeout;
  private isStopping = false;
  private neededMs = performance.now();

  constructor(restMs: number, onError: (error: unknown) => void, onEnd: () => void) {
    this.restMs = restMs;
    const { port1, port2 } = new MessageChannel();
    this.orders = port1;
    this.worker = new Worker(new URL('./thread.ts', import.meta.url), {
      workerData: { orders: port2, wake: this.wakeCount, ready: this.ready } satisfies ThreadStart,
      transferList: [port2],
      name: 'log-holder',
      resourceLimits,
      // What it opens belongs to whoever it hands it to, and is not to be closed when it ends.
      trackUnmanagedFds: false,
    });
    this.worker.unref();
    this.worker.on('error', onError);
    this.worker.once('exit', () => {
      this.isStopping = true;
      clearInterval(this.rests);
      onEnd();
      for (const log of this.held) log.threadEnded();
      port1.close();
    });
    this.rests = setInterval(() => this.rest(), restMs / 2).unref();
  }

  get isReady(): boolean {
    return !this.isStopping && Atomics.load(this.ready, 0) === 1;
  }

  get heldLogs(): number {
    return this.held.size;
  }

  needed(): void {
    this.neededMs = performance.now();
  }

  hold({ room, ...order }: HoldOptions): HeldLog | undefined {
    this.needed();
    if (!this.isReady) return undefined;
    const { port1, port2 } = new MessageChannel();
    const shared = new Int32Array(new SharedArrayBuffer(sharedBytes));
    shared[roomAt] = room;
    shared[lockAt] = 1;
    const log: HeldLog = new HeldLog({
      ...{ port: port1, shared, knownIdentity: order.knownIdentity, everyMs: order.everyMs },
      onEnded: () => this.held.delete(log),
    });
    this.held.add(log);
    this.tell({ ...order, shared, port: port2 }, [port2]);
    return log;
  }

  stop(): void {
    if (this.isStopping) return;
    this.isStopping = true;
    this.tell('stop');
  }

  private rest(): void {
    const nowMs = performance.now();
    for (const log of this.held) if (nowMs - log.lastMs > this.restMs) log.end();
    if (this.held.size > 0) this.neededMs = nowMs;
    else if (nowMs - this.neededMs > this.restMs) this.stop();
  }

  private tell(order: Order, transfer: MessagePort[] = []): void {
    this.orders.postMessage(order, transfer);
    Atomics.add(this.wakeCount, 0, 1);
    Atomics.notify(this.wakeCount, 0);
  }
}
