import { type ChildProcess, execFile, fork } from 'node:child_process';
import { setPriority } from 'node:os';
import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import { HeldLog } from './held-log.ts';
import type { HoldOrder, Order, Report } from './messages.ts';

export interface LogHolderOptions {
  /** Ends it. */
  signal: AbortSignal;
  log?: Logger | undefined;
  /** How long without a new file until a log is no longer held, and without a log until the process ends. */
  restMs?: number;
}

export interface HoldOptions extends Omit<HoldOrder, 'log' | 'everyMs'> {
  /** How soon all files of the log may be gone that are there now. */
  lifeMs: number;
}

const retryMs = 60_000;

/** What compiles and collects garbage does it in the one thread there is, in small pieces; most of it is not needed. */
const nodeFlags = [
  '--single-threaded',
  '--v8-pool-size=0',
  '--max-semi-space-size=1',
  '--no-opt',
  '--no-maglev',
];

/** Before all that computes: a look takes some microseconds, and what comes too late is lost. */
const niceness = -20;

/** So many looks fall into the time in which all files of a log may be gone. */
const looksPerLife = 16;
const leastEveryMs = 0.25;

/**
 * The least of the real-time priorities (`SCHED_FIFO`, sched(7)): before all that has none it gets the processor at once
 * whenever it wants it. Niceness decides who gets how much, not who goes first.
 */
const realTimePriority = 1;

/**
 * Holds the files of logs open that are rotated faster than a process that does anything else can promise to look: for
 * some milliseconds of another's garbage collection or compression a file has come and gone. It has a process of its
 * own, which lives as long as there is such a log.
 */
export class LogHolder {
  private readonly options: LogHolderOptions;
  private readonly restMs: number;
  private process: HolderProcess | undefined;
  private failedMs = Number.NEGATIVE_INFINITY;

  constructor(options: LogHolderOptions) {
    this.options = options;
    this.restMs = options.restMs ?? 10_000;
    options.signal.addEventListener('abort', () => this.process?.stop(), { once: true });
  }

  get isRunning(): boolean {
    return this.process !== undefined;
  }

  /** A log that is to be held is, at once. */
  get isReady(): boolean {
    return this.process?.isReady === true;
  }

  get heldLogs(): number {
    return this.process?.heldLogs ?? 0;
  }

  /** Of its process, while that runs. */
  get pid(): number | undefined {
    return this.process?.pid;
  }

  /** A log may be about to be rotated fast: starting takes as long as it takes several files to come and go. */
  prepare(): void {
    this.process ??= this.start();
    this.process?.needed();
  }

  /** A log is about to come into being. All of its files are opened until somebody asks for it, soon, by {@link find}. */
  foresee(options: Omit<HoldOptions, 'knownIdentity'>): void {
    this.prepare();
    this.process?.foresee(options);
  }

  /** A log that was foreseen, for whoever reads it now. */
  find(path: string): HeldLog | undefined {
    return this.process?.find(path);
  }

  /** From now on its process opens the log's new files. `undefined` while it is not there: it is started then. */
  hold(options: HoldOptions): HeldLog | undefined {
    this.process ??= this.start();
    return this.process?.hold(options);
  }

  private start(): HolderProcess | undefined {
    const { signal, log } = this.options;
    if (signal.aborted || performance.now() - this.failedMs < retryMs) return undefined;
    const failed = (error: unknown) => {
      this.failedMs = performance.now();
      log?.warn(
        { error: errorText(error) },
        'files of logs that are rotated fast are not held by a process of their own',
      );
    };
    try {
      const process: HolderProcess = new HolderProcess({
        ...{ restMs: this.restMs, log },
        onEnd: (error) => {
          if (this.process === process) this.process = undefined;
          if (error !== undefined) failed(error);
        },
      });
      return process;
    } catch (error) {
      failed(error);
      return undefined;
    }
  }
}

interface HolderProcessOptions {
  restMs: number;
  log: Logger | undefined;
  /** It is gone; with an error unless it was asked to. */
  onEnd(error: unknown): void;
}

class HolderProcess {
  private readonly options: HolderProcessOptions;
  private readonly child: ChildProcess;
  private readonly held = new Map<number, HeldLog>();
  /** To be foreseen as soon as it is ready. */
  private readonly awaited = new Map<string, Omit<HoldOptions, 'knownIdentity'>>();
  private readonly foreseen = new Map<string, { log: HeldLog; sinceMs: number }>();
  private readonly rests: NodeJS.Timeout;
  private logs = 0;
  private hasSaidReady = false;
  private isStopping = false;
  private hasEnded = false;
  private neededMs = performance.now();

  constructor(options: HolderProcessOptions) {
    this.options = options;
    // It needs nothing of what the agent knows by its environment, tokens among it.
    const { PATH } = process.env;
    this.child = fork(new URL('./process.ts', import.meta.url), {
      execArgv: nodeFlags,
      env: PATH === undefined ? {} : { PATH },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.child.unref();
    this.child.channel?.unref();
    this.child.on('message', (report) => this.receive(report as Report));
    this.child.on('error', (error) => this.ended(error));
    this.child.on('exit', (code, signal) =>
      this.ended(this.isStopping ? undefined : new Error(`the process has ended: ${signal ?? code}`)),
    );
    this.rests = setInterval(() => this.rest(), options.restMs / 2).unref();
  }

  get pid(): number | undefined {
    return this.child.pid;
  }

  get isReady(): boolean {
    return this.hasSaidReady && !this.isStopping && !this.hasEnded;
  }

  get heldLogs(): number {
    return this.held.size;
  }

  needed(): void {
    this.neededMs = performance.now();
  }

  foresee(options: Omit<HoldOptions, 'knownIdentity'>): void {
    if (this.foreseen.has(options.path)) return;
    if (!this.isReady) this.awaited.set(options.path, options);
    else {
      const log = this.hold(options);
      if (log) this.foreseen.set(options.path, { log, sinceMs: performance.now() });
    }
  }

  find(path: string): HeldLog | undefined {
    this.awaited.delete(path);
    const found = this.foreseen.get(path);
    this.foreseen.delete(path);
    return found?.log;
  }

  hold({ lifeMs, ...options }: HoldOptions): HeldLog | undefined {
    this.needed();
    const { pid } = this.child;
    if (!this.isReady || pid === undefined) return undefined;
    const log = this.logs++;
    const held = new HeldLog({
      ...{ log, pid, room: options.room },
      tell: (order) => this.tell(order),
      onEnded: () => this.held.delete(log),
    });
    this.held.set(log, held);
    const everyMs = Math.max(leastEveryMs, lifeMs / looksPerLife);
    this.tell({ do: 'hold', log, everyMs, ...options });
    return held;
  }

  stop(): void {
    if (this.isStopping || this.hasEnded) return;
    this.isStopping = true;
    if (this.child.connected) this.child.disconnect();
    for (const log of this.held.values()) log.processEnded();
  }

  private receive(report: Report): void {
    if (report.told !== 'ready') this.held.get(report.log)?.receive(report);
    else {
      this.hasSaidReady = true;
      this.hurry();
      for (const options of this.awaited.values()) this.foresee(options);
      this.awaited.clear();
    }
  }

  /** It takes a privilege, which an agent need not have, and `chrt`, which all distributions have. */
  private hurry(): void {
    const { pid } = this.child;
    if (pid === undefined) return;
    try {
      setPriority(pid, niceness);
    } catch {
      // Then it is one among others.
    }
    execFile('chrt', ['--fifo', '--pid', String(realTimePriority), String(pid)], (error) => {
      if (error)
        this.options.log?.debug({ error: errorText(error) }, 'the holder of files goes before nobody');
    });
  }

  private rest(): void {
    const nowMs = performance.now();
    for (const [path, { log, sinceMs }] of this.foreseen) {
      if (nowMs - sinceMs <= this.options.restMs) continue;
      // Nobody reads it.
      this.foreseen.delete(path);
      log.discard();
    }
    for (const log of this.held.values()) if (nowMs - log.lastMs > this.options.restMs) log.end();
    // On a busy machine it takes long to start.
    if (this.held.size > 0 || !this.hasSaidReady) this.neededMs = nowMs;
    else if (nowMs - this.neededMs > this.options.restMs) this.stop();
  }

  private tell(order: Order): void {
    // Whether it gets there shows in what comes back.
    if (this.child.connected) this.child.send(order, () => undefined);
  }

  private ended(error: unknown): void {
    if (this.hasEnded) return;
    this.hasEnded = true;
    clearInterval(this.rests);
    for (const log of this.held.values()) log.processEnded();
    // What was taken of them nobody can ask for any more.
    for (const { log } of this.foreseen.values()) log.discard();
    this.options.onEnd(error);
  }
}
