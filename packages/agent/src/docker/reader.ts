import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import type { Rules } from '../shape/rules.ts';
import { type ContainerState, type EngineApi, EngineRefusal } from './api.ts';
import { Backoff } from './backoff.ts';
import { LogCursor, type LogCursorOptions, type Pass } from './cursor.ts';
import { EngineLogError, LineReader } from './lines.ts';
import { clockMarginMs, type LogStream, Resume } from './position.ts';
import { isRisky, proofMs, RateWindow } from './rotation.ts';
import type { ContainerIdentity } from './services.ts';
import { type Nanos, nanosOfMs, parseNanos } from './timestamp.ts';
import type { EngineSession } from './watcher.ts';

export interface ContainerReaderOptions extends LogCursorOptions {
  api: EngineApi;
  log?: Logger;
}

interface PassOptions {
  follow: boolean;
  marginMs: number;
  rotated?: ReadonlySet<LogStream>;
}

/** After a container has died its log stream ends by itself; after so long without a byte, it won't any more. */
const endTimeoutMs = 3_000;
const retry = { minMs: 250, maxMs: 10_000 };
/** After holding the engine back for so long it may have fallen behind a rotation. */
const stallMs = 500;
/** A stream that brings less in a second is no reason to ask whether its log is rotated. */
const fewBytes = 16 * 1024;
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
  private readonly cursor: LogCursor;
  private running: Promise<void> | undefined;
  private session: EngineSession | undefined;
  private wanted = false;
  private dead = false;
  private hasBeenSaid = false;
  private tailStep = 0;
  /** What the stream that is being followed was asked to begin with. */
  private followedSince: Nanos | undefined;
  private rotationBytes: number | undefined;
  private knowsRotation = false;
  /**
   * Ends the stream that is being followed. One that is not followed is never ended by us: the engine may search a
   * long log for a while before it sends anything, and an end that is not the log's would pass for it.
   */
  private following: AbortController | undefined;
  /** The pass that has got bytes last: what is unfinished in it is all there is, once the container is gone. */
  private lastPass: Pass | undefined;
  private lastByteMs = 0;
  private isDelivering = false;

  constructor(options: ContainerReaderOptions) {
    this.options = options;
    this.id = options.container.id;
    this.cursor = new LogCursor(options);
    this.key = this.cursor.key;
  }

  get isRunning(): boolean {
    return this.running !== undefined;
  }

  /** Where reading begins without a position, in ms since 1970. */
  get startMs(): number {
    return this.cursor.startMs;
  }

  get hasPosition(): boolean {
    return this.cursor.current !== undefined;
  }

  /** Reads until the container's end; a call during a run makes it look once more before it ends. */
  run(session: EngineSession): Promise<void> {
    this.wanted = true;
    if (this.running && this.session === session) return this.running;
    if (!this.running) this.dead = false;
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
    // What waits for a line that continues it would otherwise be handed on when the position is forgotten already.
    await this.cursor.flush();
  }

  /** The container's process has ended: its stream must end soon. */
  died(): void {
    this.dead = true;
    this.lastByteMs = performance.now();
  }

  identify(container: ContainerIdentity): void {
    this.cursor.identify(container);
  }

  /** From now on these rules hold for its lines. */
  shape(rules: Rules | undefined): void {
    this.cursor.shape(rules);
  }

  /** To be called now and then: ends a stream that hangs, and one that a clock set back would leave silent. */
  check(nowMs: number): void {
    const hangs = this.dead && !this.isDelivering && performance.now() - this.lastByteMs > endTimeoutMs;
    // Engines up to 20.10 leave out lines older than `since` even while following.
    const isSilenced = this.followedSince !== undefined && nanosOfMs(nowMs) < this.followedSince;
    if (hangs || isSilenced)
      this.following?.abort(new Error(hangs ? 'the log stream hangs' : 'the clock was set back'));
  }

  private async loop(session: EngineSession): Promise<void> {
    const { api } = this.options;
    const backoff = new Backoff(retry);
    let marginMs = clockMarginMs;
    while (this.wanted && !session.signal.aborted) {
      this.wanted = false;
      const pass = await this.follow(session, marginMs);
      if (session.signal.aborted) return;
      if (pass.failure === undefined) pass.newLines += await this.sweep(session);
      if (pass.newLines > 0) backoff.reset();
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
          { container: this.cursor.fields.serviceName, error: errorText(error) },
          'asking again',
        );
        this.wanted = true;
        await backoff.wait(session.signal);
      }
    }
  }

  private async follow(session: EngineSession, marginMs: number): Promise<Pass> {
    if (this.resumePoint(session, marginMs).isUncertain) {
      let whole = await this.read(session, { follow: false, marginMs });
      const rotated = new Set(whole.resume.unmatched());
      if (whole.failure === undefined && rotated.size > 0) {
        whole = await this.read(session, { follow: false, marginMs, rotated });
      }
      if (whole.failure !== undefined || session.signal.aborted) return whole;
    }
    return this.read(session, { follow: true, marginMs });
  }

  /**
   * Reads to the log's end without following, and again while the log grows so fast that following could not be
   * trusted. Done at once when a followed stream has ended, before anything else is asked: engines up to 20.10 end
   * it before its last lines, and a container that is removed on exit can be read for some milliseconds more only.
   */
  private async sweep(session: EngineSession): Promise<number> {
    let newLines = 0;
    for (;;) {
      const sinceMs = performance.now();
      const pass = await this.read(session, { follow: false, marginMs: 0 });
      const tookMs = performance.now() - sinceMs;
      newLines += pass.newLines;
      if (pass.failure !== undefined || session.signal.aborted) return newLines;
      if (this.rotationBytes === undefined || !isRisky(pass.newBytes, tookMs, this.rotationBytes))
        return newLines;
    }
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
      const again = state && (await this.options.api.stateOf(this.id, session.signal));
      if (again && (again.isRunning || again.startedAt !== state?.startedAt)) return false;
      for (const line of unfinished) await this.cursor.take(line, pass);
    }
    this.isGone = state === undefined;
    return true;
  }

  private resumePoint(session: EngineSession, marginMs: number) {
    // The engine's clock is known to the second only.
    return this.cursor.resumePoint(Date.now() + session.clockOffsetMs + 2_000, marginMs);
  }

  private async read(session: EngineSession, { follow, marginMs, rotated }: PassOptions): Promise<Pass> {
    const point = this.resumePoint(session, marginMs);
    const since = rotated && rotated.size > 0 ? '0'.repeat(point.since.length) : point.since;
    let pass = this.passOf(follow, false, rotated);
    const rate = new RateWindow();
    const controller = new AbortController();
    const signal = AbortSignal.any([session.signal, controller.signal]);
    if (follow) {
      this.following = controller;
      this.followedSince = since;
    }
    let proof: NodeJS.Timeout | undefined;
    try {
      const tail = tails[this.tailStep];
      const parts = await this.options.api.logs(this.id, { since, follow, tail }, signal);
      if (follow && (await this.rotates(signal))) {
        const sinceMs = performance.now();
        await this.read(session, { follow: false, marginMs: 0 });
        await this.sweep(session);
        const proved = this.passOf(true, true);
        pass = proved;
        // The engine searches the same files for it as it did for us just now.
        const withinMs = proofMs + 2 * (performance.now() - sinceMs);
        proof = setTimeout(() => this.prove(proved, controller), withinMs);
      }
      for await (const chunk of parts) {
        this.lastByteMs = performance.now();
        this.lastPass = pass;
        const bytesBefore = pass.newBytes;
        pass.lines.push(chunk);
        if (pass.lines.isTerminal && pass.lines.restart === undefined) await this.findRestart(pass, signal);
        for (let line = pass.lines.next(); line && !pass.isDoubtful; line = pass.lines.next()) {
          const taken = this.cursor.take(line, pass);
          if (taken) await this.hold(Promise.all([this.cursor.added(), taken]), follow, pass, signal);
        }
        const full = this.cursor.added();
        if (full) await this.hold(full, follow, pass, signal);
        const grown = rate.add(pass.newBytes - bytesBefore, performance.now());
        if (follow && grown > fewBytes && (await this.rotates(signal))) {
          pass.isDoubtful ||= isRisky(grown, 0, this.rotationBytes ?? Number.POSITIVE_INFINITY);
        }
        if (pass.isDoubtful) {
          // What it holds unread is not what the container left unfinished.
          this.lastPass = undefined;
          break;
        }
      }
    } catch (error) {
      pass.failure = controller.signal.aborted ? undefined : error;
      if (error instanceof EngineLogError) this.damaged(error, pass);
    } finally {
      clearTimeout(proof);
      // What came before a failure.
      await this.cursor.added();
      this.isDelivering = false;
      if (follow) {
        this.following = undefined;
        this.followedSince = undefined;
        this.dead = false;
      }
    }
    return pass;
  }

  private passOf(isFollowed: boolean, isRotated: boolean, rotated?: ReadonlySet<LogStream>): Pass {
    return {
      isFollowed,
      isRotated,
      newLines: 0,
      newBytes: 0,
      isDoubtful: false,
      isGapTold: false,
      lines: new LineReader(),
      resume: new Resume(this.cursor.current, rotated),
    };
  }

  /** Leaves a stream that does not show the line read last: it is stuck behind a rotation. */
  private prove(pass: Pass, controller: AbortController): void {
    if (!this.isDelivering && pass.resume.unmatched().length > 0) {
      controller.abort(new Error('the stream does not show the line read last'));
    }
  }

  /** Waits until the backends have taken what they were given. That may be too long for a log that is rotated. */
  private async hold(
    taken: Promise<unknown>,
    isFollowed: boolean,
    pass: Pass,
    signal: AbortSignal,
  ): Promise<void> {
    const sinceMs = performance.now();
    this.isDelivering = true;
    await taken;
    this.isDelivering = false;
    this.lastByteMs = performance.now();
    if (isFollowed && this.lastByteMs - sinceMs > stallMs) pass.isDoubtful ||= await this.rotates(signal);
  }

  /** Whether the engine rotates this container's log. Its configuration never changes, so it is asked once. */
  private async rotates(signal: AbortSignal): Promise<boolean> {
    if (!this.knowsRotation) {
      this.rotationBytes = (await this.options.api.stateOf(this.id, signal))?.rotationBytes;
      this.knowsRotation = true;
    }
    return this.rotationBytes !== undefined;
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

  /** Whether there is no use in trying again. Says so, once. */
  private isFinal(failure: unknown): boolean {
    if (!(failure instanceof EngineRefusal)) return false;
    const cannotBeRead = failure.statusCode === 501 || /does not support reading/.test(failure.message);
    if (cannotBeRead && !this.hasBeenSaid) {
      this.hasBeenSaid = true;
      this.options.log?.warn(
        { container: this.cursor.fields.serviceName, containerId: this.id },
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
      { container: this.cursor.fields.serviceName, containerId: this.id, error: error.message },
      "the engine cannot read all of this container's log; going on with its end, some lines may be missing",
    );
  }
}
