import { errorText, type LogInput } from '@millrace/wire';
import type { Logger } from 'pino';
import type { Json, SourcePosition } from '../logging/types.ts';
import { type ContainerState, type EngineApi, EngineRefusal } from './api.ts';
import { Backoff } from './backoff.ts';
import { EngineLogError, LineReader, type LogLine } from './lines.ts';
import {
  advance,
  begin,
  clockMarginMs,
  type DockerPosition,
  type LogStream,
  parsePosition,
  positionKey,
  Resume,
  resumeFrom,
} from './position.ts';
import { type ContainerIdentity, type ServiceFields, serviceOf } from './services.ts';
import { type Nanos, nanosOfMs, parseNanos, TimestampReader } from './timestamp.ts';
import type { EngineSession } from './watcher.ts';

export interface ContainerReaderOptions {
  api: EngineApi;
  container: ContainerIdentity;
  /** The position saved before, if any. */
  saved: Json | undefined;
  /** Where reading begins without a position, in ms since 1970; asked at each attempt. */
  startMs(): number;
  /** Takes a line; a promise holds the container's stream back until it is settled. */
  deliver(line: LogInput, position: SourcePosition): void | Promise<void>;
  log?: Logger;
}

/** How one response ended: at its end, or with an error that may pass. */
interface Pass {
  /** Lines that had not been read before. */
  newLines: number;
  lines: LineReader;
  resume: Resume;
  failure?: unknown;
}

interface PassOptions {
  follow: boolean;
  marginMs: number;
  rotated?: ReadonlySet<LogStream>;
}

/** After a container has died its log stream ends by itself; after so long without a byte, it won't any more. */
const endTimeoutMs = 3_000;
const retry = { minMs: 250, maxMs: 10_000 };
/** What to ask for when the engine cannot read the log from the beginning: it reads the end from the end. */
const tails = [undefined, 10_000, 100, 0];

/**
 * Reads one container's log, from its position to the container's end and on through its restarts.
 *
 * A {@link run} follows the log while the container runs. When that stream ends, the engine is asked whether the
 * container still runs. If so, the log is followed again from the position. If not, it is read once more without
 * following, until nothing new comes, because the engine may end a followed stream before its last lines; and
 * what is left without a newline then counts as a last line. The run ends there; a start begins a new one.
 */
export class ContainerReader {
  readonly id: string;
  readonly key: string;
  /** The container is gone, its log is read to the end. */
  isGone = false;
  private readonly options: ContainerReaderOptions;
  private fields: ServiceFields;
  private position: DockerPosition | undefined;
  private running: Promise<void> | undefined;
  private session: EngineSession | undefined;
  private wanted = false;
  private dead = false;
  private hasBeenSaid = false;
  private tailStep = 0;
  /** What the stream that is being followed was asked to begin with. */
  private followedSince: Nanos | undefined;
  private pass: AbortController | undefined;
  /** The pass that has got bytes last: what is unfinished in it is all there is, once the container is gone. */
  private lastPass: Pass | undefined;
  private lastByteMs = 0;
  private isDelivering = false;

  constructor(options: ContainerReaderOptions) {
    this.options = options;
    this.id = options.container.id;
    this.key = positionKey(this.id);
    this.fields = serviceOf(options.container);
    this.position = parsePosition(options.saved);
  }

  get isRunning(): boolean {
    return this.running !== undefined;
  }

  /** Where reading begins without a position, in ms since 1970. */
  get startMs(): number {
    return this.options.startMs();
  }

  get hasPosition(): boolean {
    return this.position !== undefined;
  }

  /** Reads until the container's end; a call during a run makes it look once more before it ends. */
  run(session: EngineSession): Promise<void> {
    this.wanted = true;
    if (this.running && this.session === session) return this.running;
    this.session = session;
    const running = this.runAfter(this.running, session).finally(() => {
      if (this.running === running) this.running = undefined;
    });
    this.running = running;
    return running;
  }

  private async runAfter(before: Promise<void> | undefined, session: EngineSession): Promise<void> {
    // The run of a lost session may still be handing over its last line.
    await before;
    this.wanted = true;
    await this.loop(session);
  }

  /** The container's process has ended: its stream must end soon. */
  died(): void {
    this.dead = true;
    this.lastByteMs = performance.now();
  }

  identify(container: ContainerIdentity): void {
    this.fields = serviceOf(container);
  }

  /** To be called now and then: ends a stream that hangs, and one that a clock set back would leave silent. */
  check(nowMs: number): void {
    const hangs = this.dead && !this.isDelivering && performance.now() - this.lastByteMs > endTimeoutMs;
    // Engines up to 20.10 leave out lines older than `since` even while following.
    const isSilenced = this.followedSince !== undefined && nanosOfMs(nowMs) < this.followedSince;
    if (hangs || isSilenced)
      this.pass?.abort(new Error(hangs ? 'the log stream hangs' : 'the clock was set back'));
  }

  private async loop(session: EngineSession): Promise<void> {
    const { api } = this.options;
    const backoff = new Backoff(retry);
    let marginMs = clockMarginMs;
    while (this.wanted && !session.signal.aborted) {
      this.wanted = false;
      const pass = await this.follow(session, marginMs);
      if (session.signal.aborted) return;
      if (pass.newLines > 0) backoff.reset();
      // Engines up to 20.10 end a followed stream before its last lines, and a container that is removed on exit
      // can be read for some milliseconds more only: so before anything else is asked.
      if (pass.failure === undefined) await this.read(session, { follow: false, marginMs: 0 });
      if (pass.failure !== undefined && this.isFinal(pass.failure)) return;
      marginMs = 0;
      try {
        const state = await api.stateOf(this.id, session.signal);
        if (state?.isRunning || (state && pass.failure !== undefined)) {
          this.wanted = true;
          if (pass.newLines === 0 || pass.failure !== undefined) await backoff.wait(session.signal);
        } else if (!(await this.finish(session, state))) {
          this.wanted = true;
          await backoff.wait(session.signal);
        }
      } catch (error) {
        if (session.signal.aborted) return;
        this.options.log?.debug(
          { container: this.fields.serviceName, error: errorText(error) },
          'asking again',
        );
        this.wanted = true;
        await backoff.wait(session.signal);
      }
    }
  }

  private async follow(session: EngineSession, marginMs: number): Promise<Pass> {
    const point = this.resumePoint(session, marginMs);
    if (!point.isUncertain) return this.read(session, { follow: true, marginMs });
    const whole = await this.read(session, { follow: false, marginMs });
    if (whole.failure !== undefined || session.signal.aborted) return whole;
    const rotated = new Set(whole.resume.unmatched());
    return this.read(session, { follow: true, marginMs, rotated });
  }

  /** Reads what a container that has ended may still hold. `false` when that did not come to an end. */
  private async finish(session: EngineSession, state: ContainerState | undefined): Promise<boolean> {
    if (state) {
      let pass: Pass;
      do {
        pass = await this.read(session, { follow: false, marginMs: 0 });
        if (session.signal.aborted || pass.failure !== undefined) return false;
      } while (pass.newLines > 0);
    }
    const pass = this.lastPass;
    const unfinished = pass?.lines.unfinished() ?? [];
    this.lastPass = undefined;
    if (pass && unfinished.length > 0) {
      // A process that was started meanwhile may be writing this very line.
      const again = await this.options.api.stateOf(this.id, session.signal);
      if (again && (again.isRunning || again.startedAt !== state?.startedAt)) return false;
      for (const line of unfinished) await this.take(line, pass);
    }
    this.isGone = state === undefined;
    return true;
  }

  private resumePoint(session: EngineSession, marginMs: number) {
    return resumeFrom(this.position, {
      start: nanosOfMs(this.options.startMs()),
      // The engine's clock is known to the second only.
      now: nanosOfMs(Date.now() + session.clockOffsetMs + 2_000),
      marginMs,
    });
  }

  private async read(session: EngineSession, { follow, marginMs, rotated }: PassOptions): Promise<Pass> {
    const point = this.resumePoint(session, marginMs);
    const since = rotated && rotated.size > 0 ? '0'.repeat(point.since.length) : point.since;
    const pass: Pass = { newLines: 0, lines: new LineReader(), resume: new Resume(this.position, rotated) };
    const controller = new AbortController();
    this.pass = controller;
    const signal = AbortSignal.any([session.signal, controller.signal]);
    if (follow) this.followedSince = since;
    try {
      const tail = tails[this.tailStep];
      const response = await this.options.api.logs(this.id, { since, follow, tail }, signal);
      for await (const chunk of response as AsyncIterable<Buffer>) {
        this.lastByteMs = performance.now();
        this.lastPass = pass;
        pass.lines.push(chunk);
        if (pass.lines.isTerminal && pass.lines.restart === undefined) await this.findRestart(pass, signal);
        for (let line = pass.lines.next(); line; line = pass.lines.next()) {
          const taken = this.take(line, pass);
          if (taken) {
            this.isDelivering = true;
            await taken;
            this.isDelivering = false;
            this.lastByteMs = performance.now();
          }
        }
      }
    } catch (error) {
      pass.failure = controller.signal.aborted ? undefined : error;
      if (error instanceof EngineLogError) this.damaged(error, pass);
    } finally {
      this.isDelivering = false;
      this.pass = undefined;
      if (follow) {
        this.followedSince = undefined;
        this.dead = false;
      }
    }
    return pass;
  }

  private async findRestart(pass: Pass, signal: AbortSignal): Promise<void> {
    const state = await this.options.api.stateOf(this.id, signal);
    const endedAt = state && parseNanos(state.finishedAt);
    const startedAt = state && parseNanos(state.startedAt);
    // Where it was never restarted, no line is older than that.
    pass.lines.restart = {
      endedAt: endedAt ?? nanosOfMs(0),
      startedAt: (endedAt && startedAt) ?? nanosOfMs(0),
    };
  }

  private take(line: LogLine, pass: Pass): void | Promise<void> {
    const { stream, nanos } = line;
    const readBefore = pass.resume.readBefore(stream, nanos);
    const length = line.end - line.start;
    if (readBefore > length || (readBefore === length && readBefore > 0)) {
      return undefined;
    }
    pass.newLines++;
    const part = line.isUnfinished && pass.lines.isTerminal ? length : undefined;
    let position = advance(this.position ?? {}, stream, nanos, part);
    const other = stream === 'out' ? 'err' : 'out';
    if (position[other] === undefined) {
      const begun = pass.lines.openSince(other);
      if (begun !== undefined) position = begin(position, other, begun);
    }
    this.position = position;
    const { source, start, end } = line;
    let { ms } = line;
    let textStart = start + readBefore;
    if (readBefore > 0) {
      const own = new TimestampReader();
      const text = own.read(source, textStart, end);
      if (text >= 0) {
        textStart = text;
        ms = own.ms;
      }
    }
    return this.options.deliver(
      {
        ...this.fields,
        message: source.toString('utf8', textStart, end),
        timestamp: ms,
        isStdErr: stream === 'err',
      },
      { key: this.key, value: position as unknown as Json },
    );
  }

  /** Whether there is no use in trying again. Says so, once. */
  private isFinal(failure: unknown): boolean {
    if (!(failure instanceof EngineRefusal)) return false;
    const cannotBeRead = failure.statusCode === 501 || /does not support reading/.test(failure.message);
    if (cannotBeRead && !this.hasBeenSaid) {
      this.hasBeenSaid = true;
      this.options.log?.warn(
        { container: this.fields.serviceName, containerId: this.id },
        "this container's logs cannot be read: its logging driver does not keep them. Use json-file, local or journald",
      );
    }
    return cannotBeRead;
  }

  /** The engine gave up on the log (a power cut can leave holes in its file): next time begin behind the damage. */
  private damaged(error: EngineLogError, pass: Pass): void {
    if (pass.newLines > 0 || this.tailStep >= tails.length - 1) return;
    this.tailStep++;
    this.options.log?.warn(
      { container: this.fields.serviceName, containerId: this.id, error: error.message },
      "the engine cannot read all of this container's log; going on with its end, some lines may be missing",
    );
  }
}
