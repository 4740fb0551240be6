import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import { Backoff, type BackoffOptions } from '../delivery/backoff.ts';
import { orAborted, pause } from '../delivery/pause.ts';
import { type LineTaker, type LogSource, SourceOutlet, type SourceState } from '../logging/source.ts';
import { SyslogConnections } from './connections.ts';
import { SyslogDatagrams } from './datagrams.ts';
import { readSyslog } from './message.ts';

export interface SyslogOptions {
  taker: LineTaker;
  /** Address to listen on. */
  host: string;
  /** Port for both, UDP and TCP; 0 for any free one. */
  port: number;
  retry?: BackoffOptions;
  log?: Logger;
}

/** Dropped messages are told of together. */
const tellDropsMs = 1_000;

/**
 * Receives what programs and devices send by syslog, over UDP and TCP. There is no position: what was sent while
 * nobody listened is not sent again, and what was received is as safe as any line once it is in the journal.
 */
export class SyslogSource implements LogSource {
  readonly name = 'syslog';
  readonly #options: SyslogOptions;
  readonly #outlet: SourceOutlet;
  readonly #stopping = new AbortController();
  #run: Promise<void> | undefined;
  #error: MillraceError | undefined;
  #dropped = 0;
  #untold = 0;
  #tell: NodeJS.Timeout | undefined;
  #hasRefused = false;
  /** The port listened on; `undefined` when there is none. */
  port: number | undefined;

  constructor(options: SyslogOptions) {
    this.#options = options;
    this.#outlet = new SourceOutlet({ taker: options.taker, name: this.name, log: options.log });
  }

  get state(): SourceState {
    return {
      connected: this.port !== undefined,
      lines: this.#outlet.lines,
      dropped: this.#dropped,
      ...(this.port !== undefined && { detail: `${this.#options.host}:${this.port} (UDP, TCP)` }),
      ...(this.#error && { error: this.#error.message }),
    };
  }

  async start(): Promise<void> {
    const first = Promise.withResolvers<void>();
    this.#run ??= this.#listenOn(first.resolve).finally(first.resolve);
    await first.promise;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#run;
    clearTimeout(this.#tell);
    await this.#tellDrops();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #listenOn(onFirst: () => void): Promise<void> {
    const { signal } = this.#stopping;
    const backoff = new Backoff(this.#options.retry ?? {});
    while (!signal.aborted) {
      try {
        await this.#listen(() => {
          backoff.reset();
          onFirst();
        });
      } catch (error) {
        this.#failed(error);
      } finally {
        this.port = undefined;
      }
      onFirst();
      if (!signal.aborted) await pause(backoff.nextMs(), signal);
    }
  }

  /** Listens until the end, or until one of the two sockets fails. */
  async #listen(onListening: () => void): Promise<void> {
    const { host, port } = this.#options;
    const failure = Promise.withResolvers<void>();
    const options = { host, take: (message: Buffer) => this.#take(message), onFailed: failure.reject };
    await using connections = await SyslogConnections.listen({
      ...options,
      port,
      onRefused: () => this.#refused(),
    });
    await using _datagrams = await SyslogDatagrams.listen({
      ...options,
      port: connections.port,
      onDropped: (count) => this.#lost(count),
    });
    this.port = connections.port;
    this.#error = undefined;
    this.#options.log?.info({ host, port: this.port }, 'receiving syslog');
    onListening();
    await orAborted(failure.promise, this.#stopping.signal);
  }

  #take(message: Buffer): void | Promise<void> {
    return this.#outlet.deliver(readSyslog(message, Date.now()));
  }

  #lost(count: number): void {
    this.#dropped += count;
    this.#untold += count;
    this.#tell ??= setTimeout(() => void this.#tellDrops(), tellDropsMs);
  }

  async #tellDrops(): Promise<void> {
    this.#tell = undefined;
    const lost = this.#untold;
    if (lost === 0) return;
    this.#untold = 0;
    await this.#outlet.deliver({
      message: `lost ${lost} syslog ${lost === 1 ? 'message' : 'messages'}: they came by UDP faster than they could be kept`,
      timestamp: Date.now(),
      level: 'warn',
      source: { type: 'manager', name: 'syslog' },
      fields: { lost, reason: 'syslog overrun' },
    });
  }

  #refused(): void {
    if (this.#hasRefused) return;
    this.#hasRefused = true;
    this.#options.log?.warn('syslog: a connection was refused, since there are 64 already');
  }

  #failed(error: unknown): void {
    const known = this.#explain(error);
    const isNew = this.#error?.detail !== known.detail;
    this.#error = known;
    if (isNew) this.#options.log?.warn({ error: known.message }, 'syslog cannot be received; trying again');
  }

  #explain(cause: unknown): MillraceError {
    const { host, port } = this.#options;
    const place = `SYSLOG_PORT ${port} on ${host}`;
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'EADDRINUSE') return new MillraceError('PORT_TAKEN', `${place} is taken`, { cause });
    const why =
      code === 'EACCES'
        ? 'a port below 1024 needs root, or the capability CAP_NET_BIND_SERVICE; 5514 does not'
        : errorText(cause);
    return new MillraceError('SOURCE_UNREADABLE', `${place} cannot be listened on: ${why}`, { cause });
  }
}
