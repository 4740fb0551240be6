import { setTimeout as pause } from 'node:timers/promises';
import { type LogInput, levelRank, noLevels, type Overlap, sumLevels } from '@millrace/wire';
import type { Logger } from 'pino';
import { DeviceClock } from '../clock/device-clock.ts';
import type { ClockStamp } from '../clock/history.ts';
import type { EncodedLog, Feed, Json, PositionStore, SourcePosition } from '../logging/types.ts';
import type { BatchBuilder } from './batch-builder.ts';
import { CursorTable } from './cursor-table.ts';
import { withInherited } from './damage.ts';
import type { JournalDisk } from './disk.ts';
import { DiskOutage } from './disk-outage.ts';
import { GroupCommit, type SealedBatch } from './group-commit.ts';
import { Intake } from './intake.ts';
import { newJournalId } from './journal-id.ts';
import { lossLine, lossReason } from './loss-line.ts';
import { encodeMember, type MemberHeader } from './member.ts';
import type { JournalOptions, JournalStats, LineListener } from './options.ts';
import type { Loss } from './passed-losses.ts';
import { Positions } from './positions.ts';
import { RecentBatches, recentLimits } from './recent-batches.ts';
import { type Recovered, recover } from './recovery.ts';
import { sealLines } from './sealed-lines.ts';
import { lastSeq, linePosition, type Segment, splitPosition } from './segment.ts';
import { openWriter, type SegmentState, type SegmentWriter } from './segment-writer.ts';
import { StoredBatch } from './stored-batch.ts';
import { syncBudget } from './sync-budget.ts';
import { WaitingReaders } from './waiting-readers.ts';

export type { JournalOptions, JournalStats, LineListener } from './options.ts';

const cursorSaveMs = 5000;
const closeTimeoutMs = 2000;
const clockHoldMs = 60_000;

/**
 * The durable log of a device: every line is appended once and gets its seq; every backend reads from it with a
 * cursor of its own. The way of a line:
 *
 *   append → builder ──seal──► sealed ──write+sync──► durable → cursors
 *                      (visible to local queries all along)
 *
 * Nothing is shown to a cursor before it is durable. A line that left the device but was lost from its disk by
 * a power cut would have its seq given to another line, which the cloud would take for a duplicate.
 *
 * What happens when the disk fails is in {@link DiskOutage}.
 *
 * Single writer: one process per folder, which the agent guards with a lock.
 */
export class Journal implements PositionStore, AsyncDisposable {
  readonly created: number;
  readonly clock: DeviceClock;
  readonly #log: Logger | undefined;
  readonly #clockHoldMs: number;
  readonly #unwatchClock: () => void;
  readonly #disk: JournalDisk | undefined;
  readonly #writer: SegmentWriter | undefined;
  readonly #commits: GroupCommit;
  #journal: string;
  #epoch: number;
  /** Lines of other journals that those of this one may repeat. */
  #overlaps: readonly Overlap[];
  readonly #intake: Intake;
  readonly #recent: RecentBatches;
  readonly #positions: Positions;
  readonly #outage: DiskOutage;
  readonly #cursors: CursorTable;
  readonly #closing = new AbortController();
  readonly #readers = new WaitingReaders(this.#closing.signal);
  #cursorsChanged = false;
  #cursorTimer: NodeJS.Timeout | undefined;
  /** Position of the newest error that was sealed. */
  #lastError = -1;

  constructor(options: JournalOptions = {}) {
    this.#log = options.log;
    this.clock = options.clock ?? new DeviceClock();
    this.#clockHoldMs = options.clockHoldMs ?? clockHoldMs;
    this.#disk = options.disk;
    const found: Recovered | undefined = options.disk && recover(options.disk);
    if (found) this.clock.recall(found.clocks);
    this.#journal = found?.current?.journal ?? newJournalId();
    this.created = found?.current?.created ?? this.clock.wallMs;
    this.#epoch = found?.current?.epoch ?? found?.nextEpoch ?? 0;
    this.#overlaps = found?.overlaps ?? [];
    this.#intake = new Intake({
      clock: this.clock,
      nextSeq: found?.current?.nextSeq ?? 1,
      journal: () => this.#journal,
      seal: () => this.#seal(),
      schedule: (isUrgent) => this.#commits.schedule(isUrgent),
      ready: () => this.ready(),
    });
    this.#positions = new Positions(found?.positions);
    this.#cursors = new CursorTable(found, { epoch: this.#epoch, journal: this.#journal });
    this.#recent = new RecentBatches(
      recentLimits(options),
      linePosition(this.#epoch, this.#intake.nextSeq - 1),
    );
    if (options.disk && found) {
      const confirmed = () => this.#cursors.slowestSaved() ?? Number.POSITIVE_INFINITY;
      this.#writer = openWriter({ ...options, disk: options.disk, clock: this.clock, confirmed }, found);
    }
    this.#outage = new DiskOutage({
      writer: this.#writer,
      recent: this.#recent,
      positions: this.#positions,
      log: options.log,
    });
    this.#commits = new GroupCommit({
      writer: this.#writer,
      budget: syncBudget(options.syncIntervalMs),
      seal: () => this.#seal(),
      openBytes: () => this.#intake.builder.byteLength,
      hasOpen: () => !this.#intake.builder.isEmpty,
      stateBefore: (nextSeq) => this.#stateBefore(nextSeq),
      committed: (batches) => this.#committed(batches),
      outage: (batches, error) => this.#goOnInMemory(batches, error),
      retained: () => this.#outage.retained(this.#stateBefore(this.#intake.nextSeq)),
      resumed: () => this.#backOnDisk(),
      graceMs: options.outageGraceMs ?? 5000,
      retryMs: options.diskRetryMs ?? 1000,
      log: options.log,
    });
    this.#unwatchClock = this.clock.watch(({ before, wallMs }) => this.#clockStepped(before, wallMs));
  }

  get id(): string {
    return this.#journal;
  }

  /**
   * Adds a line at the end and returns its seq. The source's position after it is saved in the same write. Await
   * {@link ready} before going on when it returns a promise.
   */
  append(line: LogInput, position?: SourcePosition): number {
    return this.#intake.append(line, position);
  }

  /** The short way in, for lines that are encoded already. */
  get encoded(): EncodedLog {
    return this.#intake.encoded;
  }

  /** Forgets a source that is gone for good. */
  forget(key: string): void {
    this.move({ key, value: null });
  }

  /** Saves where a source stands when no line goes with it. */
  move(position: SourcePosition): void {
    this.#intake.move(position);
  }

  /** A promise when so much waits for the disk that sources should pause; it resolves when there is room. */
  ready(): Promise<void> | undefined {
    return this.#commits.ready();
  }

  position(key: string): Json | undefined {
    return this.#positions.position(key);
  }

  positions(prefix: string): ReadonlyMap<string, Json> {
    return this.#positions.positions(prefix);
  }

  /**
   * The reader named `name`. It goes on where its far end had confirmed; a new one starts with the oldest line
   * kept. One per name.
   */
  cursor(name: string): Feed {
    return this.#cursors.get(name, () => ({
      oldest: () => this.#segments()[0]?.first ?? this.#recent.all()[0]?.first ?? this.#recent.durable + 1,
      durable: () => this.#recent.durable,
      newest: () => linePosition(this.#epoch, this.#intake.nextSeq - 1),
      recentAfter: (position) => this.#recent.after(position),
      onlyInMemoryAfter: (position) => this.#recent.firstAfter(position),
      segments: () => this.#segments(),
      disk: this.#disk,
      positionOf: (journal, seq) => this.#cursors.positionOf(journal, seq),
      wait: (signal) => this.#readers.wait(signal),
      closed: this.#closing.signal,
      acked: () => this.#cursorMoved(),
      droppedLevels: (first, last) => this.#writer?.budget.droppedLevels(first, last),
      lost: (loss) => this.#recordLoss(name, loss),
      corrected: (batch) => batch.corrected(this.clock),
      // What lies before an error does not wait: the error would wait with it.
      holdMs: (batch) =>
        batch.first > this.#lastError && this.clock.isAwaited(batch.clock) ? this.#clockHoldMs : 0,
    }));
  }

  /** Calls `listener` with every line from now on. Returns the way to stop. */
  watch(listener: LineListener): () => void {
    this.#intake.listeners.add(listener);
    return () => this.#intake.listeners.delete(listener);
  }

  /** How many listen at this moment. */
  get watchers(): number {
    return this.#intake.listeners.size;
  }

  /** What is in memory, oldest first, the lines that are not sealed yet as a last batch. */
  recent(): StoredBatch[] {
    const open = this.#intake.builder;
    const batches = [...this.#recent.all()];
    if (open.count > 0) {
      const { stamp: clock, wallMs } = this.clock;
      const header = this.#batchHeader(open, wallMs);
      batches.push(new StoredBatch({ header, clock, epoch: this.#epoch, lines: open.lines() }));
    }
    return batches;
  }

  /** Segments on disk, oldest first, and the disk to read them from. */
  stored(): { segments: readonly Segment[]; disk: JournalDisk | undefined } {
    return { segments: this.#segments(), disk: this.#disk };
  }

  stats(): JournalStats {
    const segments = this.#segments();
    const writtenBytes = this.#writer?.writtenBytes ?? 0;
    const { lines, logBytes } = this.#intake;
    return {
      journal: this.#journal,
      lines,
      logBytes,
      segments: segments.length,
      diskBytes: segments.reduce((sum, segment) => sum + segment.bytes, 0),
      writtenBytes,
      writtenPerLogByte: logBytes > 0 ? writtenBytes / logBytes : 0,
      syncs: this.#commits.syncs,
      memoryOnly: this.#commits.inOutage,
      shed: sumLevels(this.#recent.shed, this.#writer?.budget.shed ?? noLevels()),
    };
  }

  /** Resolves when every line appended before the call is durable. */
  async flush(): Promise<void> {
    const target = linePosition(this.#epoch, this.#intake.nextSeq - 1);
    const open = () => this.#recent.durable < target || !this.#intake.builder.isEmpty;
    while (open() && !this.#closing.signal.aborted) await this.#commits.write();
  }

  /** Writes what is held, and the cursors; gives up after two seconds when the disk does not take it. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    await Promise.race([this.#saveAll(), pause(closeTimeoutMs, undefined, { ref: false })]);
    await this.abandon();
  }

  /** Lets go without writing anything more, as if the process had ended here. */
  async abandon(): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#cursorTimer);
    this.#unwatchClock();
    this.#readers.wake();
    await this.#commits.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #saveAll(): Promise<void> {
    this.#cursors.settle();
    await this.flush();
    if (this.#commits.inOutage) await this.#commits.tryDisk();
    if (this.#cursorsChanged) await this.#commits.write();
    await this.#writer?.budget.close();
  }

  #segments(): readonly Segment[] {
    return this.#writer?.segments ?? [];
  }

  #batchHeader(builder: BatchBuilder, sealed: number): StoredBatch['header'] {
    const { first, count, levels } = builder;
    const header = { journal: this.#journal, first, count, levels: [...levels] as typeof levels, sealed };
    return this.#overlaps.length > 0 ? { ...header, overlaps: this.#overlaps } : header;
  }

  /** Ends the open batch; also without lines when positions or cursors must be saved. */
  #seal(): void {
    this.clock.check();
    this.#sealUnder(this.clock.stamp, this.clock.wallMs);
  }

  /**
   * The clock was set: what was stamped by the old one goes into a batch of its own. The agent's log is written to
   * the journal, so the line below also makes the new clock durable.
   */
  #clockStepped(before: ClockStamp, wallMs: number): void {
    this.#sealUnder(before, wallMs);
    const { offset } = this.clock.stamp;
    this.#log?.info({ stepMs: offset - before.offset }, 'the clock was set');
    // Readers may have waited for just that.
    this.#readers.wake();
  }

  #sealUnder(clock: ClockStamp, sealed: number): void {
    const builder = this.#intake.builder;
    if (builder.isEmpty && !this.#cursorsChanged) return;
    builder.askSources();
    const header: MemberHeader = { ...this.#batchHeader(builder, sealed), created: this.created, clock };
    if (builder.positions.size > 0) header.positions = Object.fromEntries(builder.positions);
    if (this.#cursorsChanged) header.cursors = this.#cursors.state();
    this.#cursorsChanged = false;
    clearTimeout(this.#cursorTimer);
    this.#cursorTimer = undefined;
    if (builder.count === 0) {
      this.#commits.add({ header, encode: () => encodeMember(header, builder.lines()), lineBytes: 0 });
    } else {
      const level = this.#commits.levelNow(builder.byteLength);
      const { batch, sealed } = sealLines(builder, header, { clock, epoch: this.#epoch, level });
      this.#commits.add(sealed);
      this.#recent.push(batch, performance.now());
    }
    if ((header.levels[levelRank('error')] ?? 0) > 0) {
      this.#lastError = linePosition(this.#epoch, lastSeq(header));
    }
    this.#intake.next();
  }

  #committed(batches: readonly SealedBatch[]): void {
    for (const { header } of batches) {
      if (header.cursors && !this.#commits.inOutage) this.#cursors.noteSaved(header.cursors);
      const changes = Object.entries(header.positions ?? {});
      if (this.#commits.inOutage) this.#positions.keep(changes);
      else this.#positions.save(changes);
      this.#recent.durable = linePosition(this.#epoch, lastSeq(header));
    }
    if (this.#commits.inOutage) this.#recent.evictOnlyCopies(performance.now(), this.#confirmed());
    else this.#recent.evict(performance.now(), this.#confirmed());
    this.#readers.wake();
  }

  /** Everything through here has been confirmed to every reader. */
  #confirmed(): number {
    return this.#cursors.slowest() ?? Number.POSITIVE_INFINITY;
  }

  /** The disk failed: what it did not take begins a journal of its own. */
  #goOnInMemory(batches: readonly SealedBatch[], error: unknown): void {
    const journal = newJournalId();
    const epoch = this.#epoch + 1;
    // Should this process die before the disk can be written, its sources are read again from behind this line.
    const { seq: lastOnDisk } = splitPosition(this.#recent.durable);
    this.#overlaps = withInherited([[this.#journal, lastOnDisk + 1]], this.#overlaps);
    this.#journal = journal;
    this.#epoch = epoch;
    this.#cursors.add(epoch, journal);
    this.#intake.renumber(this.#outage.begin({ journal, epoch, overlaps: this.#overlaps }, batches, error));
    // Among them may be an error, which does not wait for the clock to be set.
    this.#lastError = this.#recent.durable;
    this.#readers.wake();
  }

  #backOnDisk(): void {
    this.#outage.end();
    this.#cursorMoved();
  }

  #stateBefore(nextSeq: number): SegmentState {
    this.clock.check();
    return {
      journal: this.#journal,
      created: this.created,
      epoch: this.#epoch,
      nextSeq,
      positions: this.#positions.saved,
      cursors: this.#cursors.stateOnDisk(),
      overlaps: this.#overlaps,
      nowMs: this.clock.wallMs,
      clock: this.clock.stamp,
      clocks: this.clock.state(),
    };
  }

  /** Cursors are saved with the next batch; after a while without one, on their own and without a sync. */
  #cursorMoved(): void {
    this.#cursorsChanged = true;
    if (this.#cursorTimer || this.#closing.signal.aborted) return;
    this.#cursorTimer = setTimeout(() => {
      this.#cursorTimer = undefined;
      this.#cursors.settle();
      if (this.#cursorsChanged && !this.#closing.signal.aborted) void this.#commits.write();
    }, cursorSaveMs);
    this.#cursorTimer.unref();
  }

  #recordLoss(backend: string, loss: Loss): void {
    const reason = lossReason(loss, this.#outage.began(loss.epoch));
    this.append(lossLine(loss, { backend, reason, timestamp: this.clock.wallMs }));
  }
}
