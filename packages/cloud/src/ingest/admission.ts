import { type BatchPart, forEachLine, limits, type Overlap, parseLineId } from '@millrace/wire';
import type { Logger } from 'pino';
import type { Retention } from '../store/retention-plan.ts';
import type { RowRun } from '../store/row-format.ts';
import type { Claim } from './claims.ts';
import type { Coalescers } from './coalescers.ts';
import { lineOffset } from './encoded-run.ts';
import { type Flight, later } from './flight.ts';
import type { Ledger } from './ledger.ts';
import type { LedgerBook } from './ledger-book.ts';
import type { OverlapBook } from './overlaps.ts';
import {
  areStorable,
  oversizedLine,
  type RewrittenLine,
  rawLine,
  rewriteLine,
  rewriteValue,
} from './strange-lines.ts';
import { AdmittedLines, type TailListener } from './tail.ts';

/** Holds devices to what they may send in a day. A QuotaBook does. */
export interface Quotas {
  /** Counts bytes of lines that are about to be admitted. @throws MillraceError `QUOTA_EXCEEDED`, at once or later */
  admit(device: string, bytes: number): Promise<void> | undefined;
  /** Notes that something was refused, and how much of it will not come again. */
  refused(device: string, droppedBytes: number): void;
}

/** Lines of one journal that a sender has handed over. */
export interface HandedOver {
  ledger: Ledger;
  first: number;
  last: number;
}

export interface Admitted {
  /** Once this has committed, everything handed over is on disk; `undefined` when it is already. */
  after: Flight | undefined;
  handed: HandedOver[];
}

export interface LineCounters {
  /** Lines admitted. */
  lines: number;
  /** Bytes of lines received, uncompressed. */
  bytes: number;
  /** Lines that were known already. */
  duplicates: number;
  /** Lines that came again under another journal id. */
  repeated: number;
  /** Times that a sender jumped ahead, and the seqs it skipped. */
  gaps: number;
  gapLines: number;
  /** Lines that took the slow path. */
  rewritten: number;
  /** Lines that could not be understood and are kept as text. */
  raw: number;
  /** Lines that were longer than we buffer. */
  oversized: number;
}

export interface AdmissionOptions {
  coalescers: Coalescers;
  ledgers: LedgerBook;
  overlaps: OverlapBook;
  log: Logger;
  /** How long lines of a device are kept. */
  retention: (device: string) => Retention;
  quotas?: Quotas;
  /** Journal of lines that come without one. */
  ownJournal: string;
  listeners: ReadonlySet<TailListener>;
  counters: LineCounters;
  /** Called with each batch that has come to its end: when it was sealed, and when it was received. */
  onBatch?: (device: string, sealedMs: number, receivedMs: number) => void;
}

const gapTellIntervalMs = 1000;

/** A line that came without a batch around it. */
interface LooseLine extends RewrittenLine {
  bytes: number;
}

/**
 * Decides what of the lines received is new, and puts that into a flight. Lines of a batch are not looked at one
 * by one, unless the run as a whole fails the check of `areStorable`.
 */
export class Admission {
  readonly #options: AdmissionOptions;
  #ownSeq = 0;
  #gapToldAtMs = Number.NEGATIVE_INFINITY;
  #closedToldAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /**
   * Takes a part of a stream; its bytes are free again when the result is there.
   *
   * @throws MillraceError `QUOTA_EXCEEDED`
   */
  admit(device: string, part: BatchPart): Admitted | Promise<Admitted> {
    // Lines of a batch are in a journal, and come again; of others this is the last that is seen.
    const isKept = part.header !== null;
    return this.#withinQuota(device, { bytes: part.bytes.byteLength, isKept }, () =>
      this.#admitPart(device, part),
    );
  }

  #withinQuota<T>(
    device: string,
    { bytes, isKept }: { bytes: number; isKept: boolean },
    admit: () => T | Promise<T>,
  ): T | Promise<T> {
    const { quotas } = this.#options;
    if (!quotas) return admit();
    const refused = (error: unknown): never => {
      quotas.refused(device, isKept ? 0 : bytes);
      throw error;
    };
    let asking: Promise<void> | undefined;
    try {
      asking = quotas.admit(device, bytes);
    } catch (error) {
      refused(error);
    }
    return asking ? asking.catch(refused).then(admit) : admit();
  }

  #admitPart(device: string, part: BatchPart): Admitted | Promise<Admitted> {
    const { counters } = this.#options;
    const bytes = Buffer.from(part.bytes.buffer, part.bytes.byteOffset, part.bytes.byteLength);
    counters.bytes += bytes.length;
    if (part.oversized) counters.oversized++;
    const now = Date.now();
    if (!part.header || part.firstSeq === null) {
      const loose: LooseLine[] = [];
      forEachLine(bytes, (line) => {
        const rewritten = part.oversized
          ? { text: oversizedLine(line, now), id: '', raw: true }
          : rewriteLine(line, now);
        loose.push({ ...rewritten, bytes: line.length });
      });
      return this.#admitLoose(device, loose);
    }
    const { journal, sealed, overlaps } = part.header;
    if (part.last) this.#options.onBatch?.(device, sealed, now);
    const lines = part.oversized
      ? Buffer.from(`${oversizedLine(bytes, now)}\n`)
      : areStorable(bytes)
        ? bytes
        : this.#mended(bytes, now);
    const run: RowRun = { device, journal, firstSeq: part.firstSeq, count: part.count, lines };
    return this.#admitNumbered(run, overlaps);
  }

  /** Takes values that were parsed already. @throws MillraceError `QUOTA_EXCEEDED` */
  admitValues(device: string, values: readonly unknown[]): Admitted | Promise<Admitted> {
    const now = Date.now();
    const lines = values.map((value) => {
      const line = rewriteValue(value, now);
      return { ...line, bytes: line.text.length };
    });
    const bytes = lines.reduce((sum, line) => sum + line.bytes, 0);
    return this.#withinQuota(device, { bytes, isKept: false }, () => {
      this.#options.counters.bytes += bytes;
      return this.#admitLoose(device, lines);
    });
  }

  /** Takes a line of the cloud itself about a device. */
  admitNotice(device: string, line: string): void {
    this.#admitOwn(device, [line]);
  }

  /** Takes text that is no line of JSON at all. */
  admitText(device: string, text: string): Admitted {
    this.#options.counters.bytes += Buffer.byteLength(text);
    this.#options.counters.raw++;
    return this.#admitOwn(device, [rawLine(text, Date.now())]);
  }

  /** Each line checked, and only those that need it written anew. */
  #mended(bytes: Buffer, now: number): Buffer {
    const { counters } = this.#options;
    const pieces: Buffer[] = [];
    let from = 0;
    while (from < bytes.length) {
      const end = lineOffset(bytes, from, 1);
      const line = bytes.subarray(from, end);
      if (areStorable(line)) pieces.push(line);
      else {
        const { text, raw } = rewriteLine(line.subarray(0, -1), now);
        counters.rewritten++;
        if (raw) counters.raw++;
        pieces.push(Buffer.from(`${text}\n`));
      }
      from = end;
    }
    return Buffer.concat(pieces);
  }

  /** Lines without a batch: those with a line's id of ours are known by it, the others get one here. */
  async #admitLoose(device: string, lines: LooseLine[]): Promise<Admitted> {
    const { counters } = this.#options;
    let after: Flight | undefined;
    const handed: HandedOver[] = [];
    let start = 0;
    while (start < lines.length) {
      const identity = parseLineId((lines[start] as LooseLine).id);
      let end = start + 1;
      // As many as follow on from one another go together.
      for (; end < lines.length; end++) {
        const next = parseLineId((lines[end] as LooseLine).id);
        if (next?.journal !== identity?.journal) break;
        if (identity && next && next.seq !== identity.seq + end - start) break;
      }
      const some = lines.slice(start, end);
      const texts = some.map((line) => line.text);
      counters.rewritten += some.length;
      counters.raw += some.filter((line) => line.raw).length;
      if (!identity) after = later(after, this.#admitOwn(device, texts).after);
      else {
        const { journal, seq } = identity;
        const run = { device, journal, firstSeq: seq, count: some.length, lines: joined(texts) };
        const admitted = await this.#admitNumbered(run);
        handed.push(...admitted.handed);
        after = later(after, admitted.after);
      }
      start = end;
    }
    return { after, handed };
  }

  #admitOwn(device: string, texts: string[]): Admitted {
    const firstSeq = this.#ownSeq + 1;
    this.#ownSeq += texts.length;
    const journal = this.#options.ownJournal;
    const flight = this.#put({ device, journal, firstSeq, count: texts.length, lines: joined(texts) });
    return { after: flight, handed: [] };
  }

  /** @param told lines of other journals that lines of this one may repeat */
  #admitNumbered(run: RowRun, told: readonly Overlap[] = []): Admitted | Promise<Admitted> {
    const { ledgers, overlaps } = this.#options;
    return ledgers.with<Admitted>(run.device, run.journal, (ledger) =>
      overlaps.mayRepeat(run, told, ledger.claim)
        ? this.#admitOverlapping(run, told)
        : this.#admitAll(run, ledger),
    );
  }

  /** The same without the lines that are stored under another journal id. */
  #admitOverlapping(run: RowRun, told: readonly Overlap[]): Promise<Admitted> {
    const { ledgers, overlaps, counters } = this.#options;
    const { device, journal, firstSeq, count } = run;
    return overlaps.exclusively(device, async () => {
      await overlaps.learn(device, journal, told);
      const unknown = await ledgers.with(
        device,
        journal,
        (ledger) => ledger.admit(firstSeq, firstSeq + count - 1).fresh,
      );
      const repeated = await overlaps.repeated(run, unknown);
      return ledgers.with(device, journal, (ledger) => {
        for (const range of repeated) {
          ledger.absorb(range);
          const lines = range.to - range.from + 1;
          counters.repeated += lines;
          // They are no duplicates of this journal's lines, as which they are counted next.
          counters.duplicates -= lines;
        }
        return this.#admitAll(run, ledger);
      });
    });
  }

  #admitAll(run: RowRun, ledger: Ledger): Admitted {
    const after = this.#admitRun(run, ledger);
    return { after, handed: [{ ledger, first: run.firstSeq, last: run.firstSeq + run.count - 1 }] };
  }

  #admitRun(run: RowRun, ledger: Ledger): Flight | undefined {
    const { counters, log } = this.#options;
    const { device, journal, firstSeq, count } = run;
    const { fresh, after, gap } = ledger.admit(firstSeq, firstSeq + count - 1);
    if (gap) {
      counters.gaps++;
      counters.gapLines += gap.to - gap.from + 1;
      // Counted each time, told at most once a second: a sender may do nothing else.
      const now = performance.now();
      if (now - this.#gapToldAtMs >= gapTellIntervalMs) {
        this.#gapToldAtMs = now;
        log.info(
          { device, journal, from: gap.from, to: gap.to, gaps: counters.gaps },
          'a device skipped lines',
        );
      }
    }
    let last = after;
    let admitted = 0;
    for (const range of fresh) {
      const lines = range.to - range.from + 1;
      const start = lineOffset(run.lines, 0, range.from - firstSeq);
      const whole = lines === count;
      const end = whole ? run.lines.length : lineOffset(run.lines, start, lines);
      const part = whole
        ? run
        : { ...run, firstSeq: range.from, count: lines, lines: run.lines.subarray(start, end) };
      const flight = this.#put(part, ledger.claim);
      const closed = ledger.attach(range, flight);
      // A device that shed lines one by one brings as many.
      if (closed && performance.now() - this.#closedToldAtMs >= gapTellIntervalMs) {
        this.#closedToldAtMs = performance.now();
        log.warn(
          { device, journal, from: closed.from, to: closed.to },
          'too many gaps in a journal: gave up on one',
        );
      }
      admitted += lines;
      last = later(last, flight);
    }
    counters.duplicates += count - admitted;
    return last;
  }

  #put(run: RowRun, claim?: Claim): Flight {
    const { coalescers, retention, listeners, counters, log } = this.#options;
    const { flight, run: encoded } = coalescers.of(run.device).add(run, retention(run.device), claim);
    counters.lines += run.count;
    if (listeners.size > 0) {
      const admitted = new AdmittedLines(encoded, flight.receivedMs);
      for (const listener of listeners) {
        try {
          listener(admitted);
        } catch (error) {
          log.error({ err: error }, 'a listener to admitted lines failed');
        }
      }
    }
    return flight;
  }
}

function joined(texts: string[]): Buffer {
  return Buffer.from(`${texts.join('\n')}\n`);
}

/** Bytes of a stream that are looked at between two checks for room: short lines grow when they become rows. */
export const sliceBytes = Math.min(64 * 1024, limits.maxReceivedLineBytes);
