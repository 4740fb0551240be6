import { BatchDecoder, errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import { StoreError } from '../store/engine.ts';
import { type Admission, type Admitted, sliceBytes } from './admission.ts';
import type { Claim } from './claims.ts';
import type { Coalescer } from './coalescer.ts';
import { type Flight, later } from './flight.ts';
import { elsewhere } from './ledger-book.ts';

/** Everything of `journal` up to and including `through` is stored, as far as it was or will be sent. */
export interface Ack {
  journal: string;
  through: number;
}

export interface InboundStreamOptions {
  device: string;
  onAck: (ack: Ack) => void;
  admission: Admission;
  coalescer: Coalescer;
  log: Logger;
  /** Counts what comes. */
  received: Received;
  /** Chunks of all streams that wait for room. */
  held: HeldBytes;
  /** Called when the stream has ended in whatever way. */
  onClose: () => void;
}

/** What came by one protocol, whatever became of it. */
export interface Received {
  lines: number;
  /** Uncompressed. */
  bytes: number;
  acks: number;
}

/** Bytes in memory on behalf of many, and how many that may be. */
export interface HeldBytes {
  bytes: number;
  readonly maxBytes: number;
}

/**
 * One connection of a device that brings lines in the order of sending. Everything it hands over is acknowledged
 * once it is committed, together with all that came before it on this stream.
 */
export class InboundStream {
  readonly device: string;
  readonly #options: InboundStreamOptions;
  readonly #decoder = new BatchDecoder();
  #tail: Promise<void> = Promise.resolve();
  #last: Flight | undefined;
  /** What to acknowledge when a flight has committed. */
  readonly #due = new Map<Flight, Map<string, number>>();
  #state: 'open' | 'ended' | 'aborted' = 'open';
  #refused = false;
  /** The claim that this stream's lines are admitted under: acknowledging one covers all before it. */
  #claim: Claim | undefined;
  /** Why no more is taken: another process answers for the device. */
  #moved: MillraceError | undefined;
  /** Bytes written so far. */
  bytes = 0;
  /** Lines handed over so far, known ones included. */
  lines = 0;

  constructor(options: InboundStreamOptions) {
    this.device = options.device;
    this.#options = options;
  }

  /**
   * Takes the next decompressed bytes, cut anywhere. Resolves when there is room for more; until then leave the
   * chunk alone.
   *
   * @throws MillraceError `OVERLOADED` when the chunks of all streams that wait are too many: this one takes no
   * more, and its sender must come again; `QUOTA_EXCEEDED` when its device has sent enough for today;
   * `DEVICE_ELSEWHERE` when another process answers for it; `STORE_FAILED` when ingest is closed
   */
  write(chunk: Uint8Array): Promise<void> {
    const { held } = this.#options;
    if (this.#state !== 'open') return Promise.reject(new StoreError('the stream has ended'));
    if (this.#refused || (held.bytes > 0 && held.bytes + chunk.length > held.maxBytes)) {
      // What comes behind a chunk that is missing would be nonsense.
      this.#refused = true;
      return Promise.reject(new MillraceError('OVERLOADED', `${held.bytes} bytes wait to be stored`));
    }
    held.bytes += chunk.length;
    this.#tail = this.#tail
      .then(() => this.#take(chunk))
      .finally(() => {
        held.bytes -= chunk.length;
      });
    return this.#tail.then(() => this.#checkMoved());
  }

  /**
   * The stream ended, in order or not. What came whole is kept. Resolves when all of it is committed and
   * acknowledged.
   *
   * @throws StoreError when ingest is closed before; MillraceError `DEVICE_ELSEWHERE` when some of it was not stored
   */
  async end(): Promise<void> {
    if (this.#state === 'open') {
      this.#state = 'ended';
      this.#tail = this.#tail
        .then(async () => {
          for (const part of this.#decoder.end()) await this.#admit(part);
        })
        // Whoever wrote was told. What came before it is committed all the same.
        .catch((error) => {
          if (!(error instanceof MillraceError) || error.code !== 'QUOTA_EXCEEDED') throw error;
        });
    }
    try {
      await this.#tail;
      await this.#last?.done;
      if (this.#claim?.state === 'lost') this.#moved ??= elsewhere(this.device);
      this.#checkMoved();
    } finally {
      this.#options.onClose();
    }
  }

  /** Nobody listens any more: acknowledges nothing from here on. What was admitted is stored all the same. */
  abort(): void {
    this.#state = 'aborted';
    this.#due.clear();
    this.#options.onClose();
  }

  async #take(chunk: Uint8Array): Promise<void> {
    this.bytes += chunk.length;
    this.#options.received.bytes += chunk.length;
    for (let from = 0; from < chunk.length; from += sliceBytes) {
      if (this.#state === 'aborted' || this.#moved) return;
      const waiting = this.#options.coalescer.room();
      if (waiting) await waiting;
      const slice = chunk.length <= sliceBytes ? chunk : chunk.subarray(from, from + sliceBytes);
      for (const part of this.#decoder.push(slice)) await this.#admit(part);
    }
  }

  async #admit(part: Parameters<Admission['admit']>[1]): Promise<void> {
    if (this.#moved) return;
    this.lines += part.count;
    this.#options.received.lines += part.count;
    try {
      const admitting = this.#options.admission.admit(this.device, part);
      this.#note(admitting instanceof Promise ? await admitting : admitting);
    } catch (error) {
      // What came before is still committed and acknowledged.
      if (!(error instanceof MillraceError && error.code === 'DEVICE_ELSEWHERE')) throw error;
      this.#moved = error;
    }
  }

  #checkMoved(): void {
    if (this.#moved) throw this.#moved;
  }

  #note({ after, handed }: Admitted): void {
    this.#last = later(this.#last, after);
    for (const { ledger } of handed) {
      this.#claim ??= ledger.claim;
      // It was lost and came back: what was dropped in between must not be acknowledged with what comes now.
      if (ledger.claim !== this.#claim) this.#moved = elsewhere(this.device);
    }
    if (this.#moved) return;
    if (handed.length === 0 || this.#state === 'aborted') return;
    const last = this.#last;
    if (!last || last.state === 'committed') {
      for (const { ledger, last: through } of handed) this.#acknowledge(ledger.journal, through);
      return;
    }
    let due = this.#due.get(last);
    if (!due) {
      due = new Map();
      this.#due.set(last, due);
      const acks = due;
      last.done.then(
        () => {
          this.#due.delete(last);
          for (const [journal, through] of acks) this.#acknowledge(journal, through);
        },
        // Abandoned: nothing to acknowledge. end() tells the caller.
        () => this.#due.delete(last),
      );
    }
    for (const { ledger, first, last: through } of handed) {
      const { journal } = ledger;
      let highest = Math.max(through, due.get(journal) ?? 0);
      // A sender that goes back: acknowledging a higher seq any earlier would cover these lines as well.
      for (const [flight, acks] of this.#due) {
        const planned = acks.get(journal);
        if (flight === last || planned === undefined || planned < first) continue;
        acks.delete(journal);
        highest = Math.max(highest, planned);
      }
      due.set(journal, highest);
    }
  }

  #acknowledge(journal: string, through: number): void {
    if (this.#state === 'aborted' || this.#claim?.state === 'lost') return;
    try {
      this.#options.onAck({ journal, through });
    } catch (error) {
      this.#options.log.warn(
        { device: this.device, reason: errorText(error) },
        'an acknowledgement went nowhere',
      );
    }
  }
}
