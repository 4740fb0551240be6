import { errorText, type LogInput, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import { EngineApi, identityOf, type ListedContainer } from '../docker/api.ts';
import type { BackoffOptions } from '../docker/backoff.ts';
import type { LogCursorOptions } from '../docker/cursor.ts';
import type { Docker } from '../docker/engine.ts';
import { FileReader } from '../docker/files/reader.ts';
import { LogFiles } from '../docker/files/source.ts';
import type { LogReader } from '../docker/log-reader.ts';
import { findOwnContainer } from '../docker/own-container.ts';
import { positionKeyPrefix } from '../docker/position.ts';
import { ContainerReader } from '../docker/reader.ts';
import { type ContainerIdentity, isLeftAlone } from '../docker/services.ts';
import { type ContainerEvent, type EngineSession, readingActions, watchEngine } from '../docker/watcher.ts';
import { type RuleSource, shapingOf } from '../shape/container-shaping.ts';
import { type DropCounts, noDrops } from '../shape/shaper.ts';
import { type GapCounts, noGaps } from './gap.ts';
import type { EncodedLog, LogBackend, PositionStore, SourcePosition } from './types.ts';

export interface MonitorOptions {
  /** Where the positions saved with the lines are found again. Without it every start reads from {@link historyMs}. */
  positions?: PositionStore;
  log?: Logger;
  /**
   * Where logs are read: from the files of the driver json-file (`files`), through the engine's API (`api`), or from
   * files where they can be read and else through the API (`auto`, the default).
   */
  logs?: 'auto' | 'files' | 'api';
  /** Rules for lines beside those on the containers' labels; call `reshape` when they have changed. */
  shaping?: RuleSource;
  /** Counts what could not be read; may be shared with other sources. */
  gaps?: GapCounts;
  /** How much of the past of a container that was never read is wanted. Default one hour. */
  historyMs?: number;
  /** When this device began to keep logs, in ms since 1970; `historyMs` counts back from it. Default: now. */
  firstSeenMs?: number;
  /** The container this process runs in, whose output is not read; found by itself if not given. */
  ownContainerId?: string;
  /** Called when the engine is reached, is lost, or still cannot be reached for another reason than before. */
  onStateChange?(state: MonitorState): void;
  /** Waits between attempts to reach the engine. Default 500 ms to 30 s. */
  retry?: BackoffOptions;
  /** How often a connected engine is asked whether it lives. Default 15 s. */
  heartbeatMs?: number;
  /** How long the engine may take to begin an answer. Default 10 s. */
  answerTimeoutMs?: number;
}

export interface MonitorState {
  engine: 'connected' | 'unreachable';
  /** Why the engine cannot be reached (`ENGINE_UNREACHABLE`). */
  error?: MillraceError;
  /** Containers whose log is being read at this moment. */
  containers: number;
  /** Lines handed to the backends since the monitor was made. */
  lines: number;
  /** Lines that a backend refused. Each was offered to the other backends all the same. */
  failures: number;
}

const checkIntervalMs = 1_000;
/** How many containers that have ended are read at once; those that run are all read at once. */
const maxEndedAtOnce = 4;

/**
 * Reads the logs of all containers of a Docker engine and hands each line to every backend, with the position
 * behind it. Never fails because the engine is down: it goes on trying, and goes on where it was.
 */
export class ContainerLogMonitor implements AsyncDisposable {
  private readonly backends: readonly LogBackend[];
  private readonly options: MonitorOptions;
  private readonly api: EngineApi;
  private readonly firstSeenMs: number;
  private readonly readers = new Map<string, LogReader>();
  private readonly files: LogFiles | undefined;
  private readonly stopping = new AbortController();
  private readonly runs = new Set<Promise<void>>();
  private started: Promise<void> | undefined;
  private watching: Promise<void> | undefined;
  private session: EngineSession | undefined;
  private ownId: string | undefined;
  private error: MillraceError | undefined;
  private lines = 0;
  private failures = 0;
  private readonly drops = noDrops();
  /** What could not be read; each is on record as a line, too. */
  readonly gaps: GapCounts;
  private readonly identities = new Map<string, ContainerIdentity>();
  private readonly failed = new Set<LogBackend>();

  /** @param docker a dockerode client, see `connectEngine` */
  constructor(backends: LogBackend | readonly LogBackend[], docker: Docker, options: MonitorOptions = {}) {
    this.backends = Array.isArray(backends) ? backends : [backends as LogBackend];
    this.options = options;
    this.api = new EngineApi({ docker, answerTimeoutMs: options.answerTimeoutMs ?? 10_000 });
    // A clock that is far behind now and set later must not hide what is logged meanwhile.
    this.firstSeenMs = Math.min(options.firstSeenMs ?? Date.now(), Date.now());
    this.ownId = options.ownContainerId;
    this.gaps = options.gaps ?? noGaps();
    if (options.logs === 'api') return;
    this.files = new LogFiles({
      encoded: this.encodedLog(),
      signal: this.stopping.signal,
      onFound: (container) => this.found(container),
      log: options.log,
    });
  }

  get state(): MonitorState {
    let containers = 0;
    for (const reader of this.readers.values()) if (reader.isRunning) containers++;
    return {
      engine: this.session ? 'connected' : 'unreachable',
      ...(this.error && { error: this.error }),
      containers,
      lines: this.lines,
      failures: this.failures,
    };
  }

  /** Lines that rules kept from the backends, by reason. */
  get dropped(): Readonly<DropCounts> {
    return this.drops;
  }

  /** The rules have changed: applies them to every container from its next line on. */
  reshape(): void {
    for (const [id, reader] of this.readers) {
      const container = this.identities.get(id);
      if (container) reader.shape(shapingOf(container, this.options.shaping).rules);
    }
  }

  /** Resolves after the first attempt to reach the engine, whether it succeeded or not. Further calls do nothing. */
  start(): Promise<void> {
    this.started ??= this.begin();
    return this.started;
  }

  /** Ends all reading. Resolves when the lines under way have been taken by the backends. */
  async stop(): Promise<void> {
    this.stopping.abort();
    this.files?.[Symbol.dispose]();
    await this.watching;
    await Promise.all(this.runs);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  private async begin(): Promise<void> {
    this.ownId ??= await findOwnContainer();
    if (this.stopping.signal.aborted) return;
    const firstAttempt = Promise.withResolvers<void>();
    const checks = setInterval(() => this.check(), checkIntervalMs);
    this.watching = watchEngine(
      {
        api: this.api,
        actions: readingActions,
        retry: this.options.retry ?? { minMs: 500, maxMs: 30_000 },
        heartbeatMs: this.options.heartbeatMs ?? 15_000,
        onConnected: (containers, session) => {
          this.connected(containers, session);
          firstAttempt.resolve();
        },
        onEvent: (event, session) => this.handle(event, session),
        onFailed: (error) => {
          this.disconnected(error);
          firstAttempt.resolve();
        },
        log: this.options.log,
      },
      this.stopping.signal,
    ).finally(() => {
      clearInterval(checks);
      this.session = undefined;
      firstAttempt.resolve();
    });
    await firstAttempt.promise;
  }

  private connected(containers: ListedContainer[], session: EngineSession): void {
    this.session = session;
    this.error = undefined;
    this.files?.useRoot(session.rootFolder);
    const ended: LogReader[] = [];
    for (const listed of containers) {
      if (listed.State === 'created') continue;
      const reader = this.readerOf(identityOf(listed));
      if (!reader) continue;
      if (listed.State === 'exited' || listed.State === 'dead') ended.push(reader);
      else this.read(reader, session);
    }
    this.forgetMissing(new Set(containers.map(({ Id }) => Id)), session);
    for (let i = 0; i < maxEndedAtOnce; i++) this.track(this.readEnded(ended, session));
    this.options.log?.info({ containers: containers.length }, 'reading the logs of the Docker engine');
    this.options.onStateChange?.(this.state);
  }

  private disconnected(cause: unknown): void {
    const was = this.error;
    this.session = undefined;
    this.error = new MillraceError('ENGINE_UNREACHABLE', errorText(cause), { cause });
    if (was?.detail === this.error.detail) return;
    this.options.log?.warn(
      { error: this.error.message },
      'the Docker engine cannot be reached; trying again',
    );
    this.options.onStateChange?.(this.state);
  }

  private handle({ action, container }: ContainerEvent, session: EngineSession): void {
    const known = this.readers.get(container.id);
    switch (action) {
      case 'start': {
        const reader = this.readerOf(container);
        if (reader) this.read(reader, session);
        break;
      }
      case 'die':
        known?.died();
        break;
      case 'rename':
        if (known) this.identify(known, container);
        break;
      case 'destroy':
        // Its log may still be flowing to us: the reader ends by itself when it has seen the last of it.
        known?.died();
        if (known) this.read(known, session, true);
        break;
    }
  }

  /** The kernel told of a container's log, perhaps before the engine tells of the container. */
  private found(container: ContainerIdentity): void {
    if (this.stopping.signal.aborted) return;
    const reader = this.readerOf(container);
    if (reader instanceof FileReader && !reader.isRunning)
      this.track(this.readToEnd(reader, undefined, false));
  }

  private readerOf(container: ContainerIdentity): LogReader | undefined {
    const known = this.readers.get(container.id);
    if (known) {
      this.identify(known, container);
      return known;
    }
    if (isLeftAlone(container) || this.isOwn(container.id)) return undefined;
    const { positions, log, historyMs = 3_600_000 } = this.options;
    const options: LogCursorOptions = {
      container,
      saved: positions?.position(positionKeyPrefix + container.id),
      // A clock that was ahead when this device began must not hide what is logged now.
      startMs: () => Math.min(this.firstSeenMs, Date.now()) - historyMs,
      deliver: (line, position) => this.deliver(line, position),
      move: (position) => {
        for (const backend of this.backends) backend.move?.(position);
      },
      ...shapingOf(container, this.options.shaping, log),
      drops: this.drops,
      gaps: this.gaps,
    };
    const reader = this.files?.readerOf(options) ?? this.apiReaderOf(options, log);
    if (!reader) return undefined;
    this.readers.set(container.id, reader);
    this.identities.set(container.id, container);
    return reader;
  }

  private apiReaderOf(options: LogCursorOptions, log: Logger | undefined): LogReader | undefined {
    if (this.options.logs !== 'files') return new ContainerReader({ ...options, api: this.api, log });
    const { id: containerId, name: container } = options.container;
    log?.warn(
      { container, containerId },
      'this container has no log file that can be read: it is left alone',
    );
    return undefined;
  }

  /** Labels never change, but rules may go by the name. */
  private identify(reader: LogReader, container: ContainerIdentity): void {
    const isRenamed = this.identities.get(container.id)?.name !== container.name;
    this.identities.set(container.id, container);
    reader.identify(container);
    if (isRenamed) reader.shape(shapingOf(container, this.options.shaping).rules);
  }

  /** The hostname tells only the first 12 digits of the id. */
  private isOwn(id: string): boolean {
    return this.ownId !== undefined && this.ownId.length >= 12 && id.startsWith(this.ownId);
  }

  private read(reader: LogReader, session: EngineSession, hasEnded = false): void {
    this.track(this.readToEnd(reader, session, hasEnded));
  }

  private async readToEnd(
    reader: LogReader,
    session: EngineSession | undefined,
    hasEnded: boolean,
  ): Promise<void> {
    await reader.run(session, hasEnded);
    if (!reader.isGone || this.readers.get(reader.id) !== reader) return;
    this.readers.delete(reader.id);
    this.identities.delete(reader.id);
    this.forget(reader.key);
  }

  /** Reads what containers wrote before they ended, while nobody was reading. */
  private async readEnded(queue: LogReader[], session: EngineSession): Promise<void> {
    for (let reader = queue.shift(); reader && !session.signal.aborted; reader = queue.shift()) {
      try {
        if (!reader.hasPosition) {
          const state = await this.api.stateOf(reader.id, session.signal);
          if (!state || !(Date.parse(state.finishedAt) >= reader.startMs)) {
            this.readers.delete(reader.id);
            this.identities.delete(reader.id);
            continue;
          }
        }
        await this.readToEnd(reader, session, true);
      } catch (error) {
        if (session.signal.aborted) return;
        const context = { containerId: reader.id, error: errorText(error) };
        this.options.log?.warn(context, 'an ended container could not be looked at');
      }
    }
  }

  /** Drops the positions of containers that were removed while nobody was watching. */
  private forgetMissing(present: ReadonlySet<string>, session: EngineSession): void {
    for (const [id, reader] of this.readers) if (!present.has(id)) this.read(reader, session, true);
    for (const key of this.options.positions?.positions(positionKeyPrefix).keys() ?? []) {
      const id = key.slice(positionKeyPrefix.length);
      if (!present.has(id) && !this.readers.has(id)) this.forget(key);
    }
  }

  private forget(key: string): void {
    for (const backend of this.backends) backend.forget?.(key);
  }

  private check(): void {
    const nowMs = Date.now() + (this.session?.clockOffsetMs ?? 0);
    for (const reader of this.readers.values()) reader.check(nowMs);
  }

  /** Lines take the short way where there is one backend, and it has one. */
  private encodedLog(): EncodedLog | undefined {
    const log = this.backends.length === 1 ? this.backends[0]?.encoded : undefined;
    if (!log) return undefined;
    return {
      present: (timestampMs) => log.present(timestampMs),
      add: (line, source) => {
        this.lines++;
        log.add(line, source);
      },
      flush: () => log.flush(),
    };
  }

  private deliver(line: LogInput, position: SourcePosition): void | Promise<void> {
    this.lines++;
    let waits: Promise<void>[] | undefined;
    for (const backend of this.backends) {
      try {
        const taken = backend.log(line, position);
        if (taken) {
          waits ??= [];
          waits.push(taken.catch((error: unknown) => this.refused(backend, error)));
        }
      } catch (error) {
        this.refused(backend, error);
      }
    }
    if (waits) return Promise.all(waits).then(() => undefined);
  }

  private refused(backend: LogBackend, error: unknown): void {
    this.failures++;
    if (this.failed.has(backend)) return;
    // Once, not for each line: what was refused is counted.
    this.failed.add(backend);
    this.options.log?.error(
      { backend: backend.name, error: errorText(error) },
      'a log backend refused a line',
    );
  }

  private track(run: Promise<void>): void {
    const tracked = run
      .catch((error: unknown) => {
        this.options.log?.error({ error: errorText(error) }, 'reading a container failed');
      })
      .finally(() => this.runs.delete(tracked));
    this.runs.add(tracked);
  }
}
