import { errorText, type LogInput, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import { Backoff, type BackoffOptions } from '../delivery/backoff.ts';
import { pause } from '../delivery/pause.ts';
import { type LineTaker, type LogSource, SourceOutlet, type SourceState } from '../logging/source.ts';
import type { PositionStore } from '../logging/types.ts';
import { isAfter, isSameEntry, type JournalCursor, journaldKey, parseJournaldPosition } from './cursor.ts';
import type { JournalEntry } from './entry.ts';
import { journalEntries } from './journalctl.ts';
import { presentBoot, unitFilter } from './units.ts';

export interface JournaldOptions {
  taker: LineTaker;
  positions: PositionStore;
  /** Folder of journal files; default: the journal of this machine. */
  directory?: string | undefined;
  /** Units or identifiers to read, with `*`; none: all. */
  units?: readonly string[];
  /** The unit that this program runs as, whose output is not read. */
  ownUnit?: string | undefined;
  /** How much of the past is wanted when nothing was ever read. Default one hour. */
  historyMs?: number;
  /** Only where there is a journal: elsewhere the source ends without an error. */
  isOptional?: boolean;
  retry?: BackoffOptions;
  log?: Logger;
  /** Default `journalctl`. */
  command?: string;
}

/** A position is saved without a line when so many entries have been passed over since the last. */
const maxPassedOver = 1000;

/**
 * Reads the journal of systemd, each entry once, from the position saved with its last line:
 *
 *   catch up ──► follow ──the program ends──► wait ──► catch up
 *
 * *Catching up* prints what is there, from the last entry on (inclusive), and ends. The first entry printed must be
 * that one: `journalctl` goes to the nearest where it is gone, which may be none at all. Then everything is printed,
 * and what does not come after it is passed over. *Following* begins with the last entry that was seen. It cannot
 * do the former's work: since systemd 251 it shows nothing from before the present boot, and before 255
 * `--after-cursor` passes over an entry where the one named is gone.
 */
export class JournaldSource implements LogSource {
  readonly name = 'journald';
  readonly #options: JournaldOptions;
  readonly #outlet: SourceOutlet;
  readonly #isWanted: ReturnType<typeof unitFilter>;
  readonly #boot = presentBoot();
  readonly #stopping = new AbortController();
  readonly #backoff: Backoff;
  #run: Promise<void> | undefined;
  #isReading = false;
  #error: MillraceError | undefined;
  /** What was said last, of each kind: once is enough until something is read. */
  #warned: string | undefined;
  #lastSaid: string | undefined;
  /** The last entry that was seen, and whether it is behind the position that was saved. */
  #last: JournalCursor | undefined;
  #passedOver = 0;

  constructor(options: JournaldOptions) {
    this.#options = options;
    this.#outlet = new SourceOutlet({ taker: options.taker, name: this.name, log: options.log });
    this.#isWanted = unitFilter(options.units ?? []);
    this.#backoff = new Backoff(options.retry ?? {});
    this.#last = parseJournaldPosition(options.positions.position(journaldKey));
  }

  get state(): SourceState {
    return {
      connected: this.#isReading,
      lines: this.#outlet.lines,
      ...(this.#error && { error: this.#error.message }),
    };
  }

  async start(): Promise<void> {
    const first = Promise.withResolvers<void>();
    this.#run ??= this.#readOn(first.resolve).finally(first.resolve);
    await first.promise;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#run;
    this.#savePassedOver();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #readOn(onFirst: () => void): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        await this.#catchUp();
        if (signal.aborted) return;
        this.#isReading = true;
        this.#error = undefined;
        onFirst();
        await this.#follow();
      } catch (error) {
        if (signal.aborted) return;
        if (this.#options.isOptional && this.#last === undefined && this.#outlet.lines === 0) {
          this.#options.log?.info({ reason: errorText(error) }, 'no system journal is read here');
          return;
        }
        this.#failed(error);
      } finally {
        this.#isReading = false;
      }
      onFirst();
      await pause(this.#backoff.nextMs(), signal);
    }
  }

  /** Reads what is there, from the last entry on. */
  async #catchUp(): Promise<void> {
    const last = this.#last;
    if (!last) {
      for await (const entry of this.#entries([this.#since()])) await this.#take(entry);
      return;
    }
    let isFound = false;
    for await (const entry of this.#entries([`--cursor=${last.text}`])) {
      if (isFound) await this.#take(entry);
      else if (isSameEntry(entry.cursor, last)) isFound = true;
      else break;
    }
    if (!isFound && !this.#stopping.signal.aborted) await this.#goOnWithout(last);
  }

  /** The entry read last is gone: whatever comes after it is new. */
  async #goOnWithout(last: JournalCursor): Promise<void> {
    let isFirst = true;
    for await (const entry of this.#entries([])) {
      if (!isAfter(entry.cursor, last, this.#boot)) continue;
      if (isFirst) await this.#recordGap(last, entry.cursor);
      isFirst = false;
      await this.#take(entry);
    }
  }

  async #recordGap(last: JournalCursor, next: JournalCursor): Promise<void> {
    const isCounted = next.sequence === last.sequence;
    const missing = isCounted ? Number(next.number - last.number - 1n) : undefined;
    if (missing === 0) return;
    const what = missing === undefined ? 'entries may be missing' : `${missing} entries are missing`;
    await this.#outlet.deliver({
      message: `the system's journal no longer has the entry that was read last: ${what} before the next line`,
      timestamp: Date.now(),
      level: 'warn',
      source: { type: 'manager', name: 'journald' },
      fields: { reason: 'journal vacuumed', ...(missing !== undefined && { lost: missing }) },
    });
  }

  async #follow(): Promise<void> {
    const last = this.#last;
    const from = last ? `--cursor=${last.text}` : this.#since();
    let isPast = last === undefined;
    for await (const entry of this.#entries(['--follow', '--no-tail', from])) {
      isPast ||= last === undefined || isAfter(entry.cursor, last, this.#boot);
      if (isPast) await this.#take(entry);
    }
    throw new MillraceError('SOURCE_UNREADABLE', 'journalctl ended while it followed the journal');
  }

  #entries(args: readonly string[]): AsyncGenerator<JournalEntry, void, void> {
    const { command, directory } = this.#options;
    const { signal } = this.#stopping;
    return journalEntries({ command, directory, args, signal, onSaid: (text) => this.#said(text) });
  }

  /** Where reading begins when nothing was ever read. */
  #since(): string {
    const { historyMs = 3_600_000 } = this.#options;
    return `--since=@${(Math.max(0, Date.now() - historyMs) / 1000).toFixed(3)}`;
  }

  #take({ cursor, line, origin }: JournalEntry): void | Promise<void> {
    this.#last = cursor;
    this.#isReading = true;
    this.#error = undefined;
    this.#warned = undefined;
    this.#backoff.reset();
    const { ownUnit } = this.#options;
    const isOwn = ownUnit !== undefined && origin.writers.includes(ownUnit);
    if (origin.isOfContainer || isOwn || !this.#isWanted(origin)) {
      this.#passedOver++;
      if (this.#passedOver >= maxPassedOver) this.#savePassedOver();
      return undefined;
    }
    this.#passedOver = 0;
    return this.#deliver(line, cursor);
  }

  #deliver(line: LogInput, cursor: JournalCursor): void | Promise<void> {
    return this.#outlet.deliver(line, { key: journaldKey, value: { cursor: cursor.text } });
  }

  /** Else the place could be long gone from the journal by the time that a line is wanted again. */
  #savePassedOver(): void {
    if (this.#passedOver === 0 || !this.#last) return;
    this.#passedOver = 0;
    this.#outlet.move({ key: journaldKey, value: { cursor: this.#last.text } });
  }

  #failed(error: unknown): void {
    const known =
      error instanceof MillraceError
        ? error
        : new MillraceError('SOURCE_UNREADABLE', errorText(error), { cause: error });
    this.#error = known;
    if (this.#warned === known.detail) return;
    this.#warned = known.detail;
    this.#options.log?.warn({ error: known.message }, "the system's journal cannot be read; trying again");
  }

  /** `journalctl` reads on, but not all: most of all when the rights are missing. */
  #said(text: string): void {
    if (!text.startsWith('Hint:') || text === this.#lastSaid) return;
    this.#lastSaid = text;
    this.#options.log?.warn(
      { journalctl: text },
      "only a part of the system's journal can be read: add the agent's user to the group systemd-journal",
    );
  }
}
