import { encodeLine, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import type { Watermark } from '../store/marks.ts';
import { newOwnJournal } from '../store/own-journals.ts';
import type { Retention } from '../store/retention-plan.ts';
import { checkDeviceName } from '../store/row-format.ts';
import type { SeqRange } from '../store/seq-ranges.ts';
import { Admission, type HandedOver, type LineCounters, type Quotas } from './admission.ts';
import type { Claims } from './claims.ts';
import type { CommitStats, FlightStore } from './coalescer.ts';
import { Coalescers, type Lanes } from './coalescers.ts';
import { Gate } from './gate.ts';
import { type Ack, type HeldBytes, InboundStream, type Received } from './inbound-stream.ts';
import { elsewhere, LedgerBook } from './ledger-book.ts';
import { OverlapBook, type OverlapStore } from './overlaps.ts';
import { admitPayload, Collected, type PayloadRejection } from './payload.ts';
import type { TailListener } from './tail.ts';

/** What ingest needs of the store; a LogStore has it. */
export interface IngestStore extends FlightStore, OverlapStore, Lanes {
  watermark(device: string, journal: string): Promise<Watermark>;
}

export interface IngestLimits {
  /** One insert holds about so many bytes at most. Default 24 MiB. */
  maxFlightBytes: number;
  /** How long the first line after a quiet spell waits for company. Default 10 ms. */
  lingerMs: number;
  /**
   * Bytes of rows on their way to the store, past which senders wait. As many bytes of chunks, and of messages, may
   * wait; more are refused. Default 64 MiB.
   */
  maxWaitingBytes: number;
  /** Largest message taken, as it came. Default 16 MiB. */
  maxPayloadBytes: number;
  /** Most bytes that a compressed message may grow to. Default 16 MiB. */
  maxInflatedBytes: number;
  /** Journals whose state is kept in memory, and devices whose journals overlap. Default 20 000. */
  maxLedgers: number;
  /** Pause after a failure of the store, doubled each time. Default 100 ms to 5 s. */
  retryMinMs: number;
  retryMaxMs: number;
  /** How long close() waits for the store. Default 4 s. */
  closeTimeoutMs: number;
}

const defaults: IngestLimits = {
  maxFlightBytes: 24 * 1024 * 1024,
  lingerMs: 10,
  maxWaitingBytes: 64 * 1024 * 1024,
  maxPayloadBytes: 16 * 1024 * 1024,
  maxInflatedBytes: 16 * 1024 * 1024,
  maxLedgers: 20_000,
  retryMinMs: 100,
  retryMaxMs: 5000,
  closeTimeoutMs: 4000,
};

export interface IngestOptions {
  store: IngestStore;
  log: Logger;
  /** Same as a first {@link Ingest.subscribe}. */
  onAdmitted?: TailListener;
  /** Called with each flight that was committed: how long that took. */
  onCommit?: (tookMs: number) => void;
  /** Called with each batch that was received: when it was sealed, by the device's clock, and when it came. */
  onBatch?: (device: string, sealedMs: number, receivedMs: number) => void;
  limits?: Partial<IngestLimits>;
  /** Where several processes share the store: which devices this one answers for. */
  claims?: Claims;
  /** How long lines of a device are kept. Default: 30 days. */
  retention?: (device: string) => Retention;
  quotas?: Quotas;
}

export type Protocol = 'http' | 'mqtt';

export interface IngestStats extends LineCounters {
  /** By the way that it came. */
  received: Record<Protocol, Received>;
  /** Messages, or rests of messages, that were turned away. */
  rejected: Record<PayloadRejection, number>;
  /** Streams open now. */
  streams: number;
  /** Bytes of rows on their way to the store now. */
  waitingBytes: number;
  /** Bytes received that wait until there is room for them. */
  heldBytes: number;
  ledgers: number;
  commits: CommitStats;
}

/** Seqs of one journal that are stored, whatever is missing below. */
export interface StoredSeqs {
  journal: string;
  ranges: SeqRange[];
}

/** What there is to say about a message. */
export interface Accepted {
  acks: Ack[];
  stored: StoredSeqs[];
}

/** Takes lines from devices and sees to it that each is stored once. See ledger.ts and coalescer.ts for how. */
export class Ingest implements AsyncDisposable {
  readonly #limits: IngestLimits;
  readonly #log: Logger;
  readonly #coalescers: Coalescers;
  readonly #ledgers: LedgerBook;
  readonly #overlaps: OverlapBook;
  readonly #admission: Admission;
  readonly #listeners = new Set<TailListener>();
  readonly #streams = new Set<InboundStream>();
  /** By lane of the store. */
  readonly #held: readonly HeldBytes[];
  /** Messages of one device are admitted one after the other: a ledger must see them in order. */
  readonly #lanes = new Map<string, Promise<unknown>>();
  /** Bounds the memory of inflated messages to as many times `maxInflatedBytes`. */
  readonly #inflateGate = new Gate({ permits: 4 });
  #payloadBytes = 0;
  #closing: Promise<void> | undefined;
  readonly #counters: LineCounters = {
    lines: 0,
    bytes: 0,
    duplicates: 0,
    repeated: 0,
    gaps: 0,
    gapLines: 0,
    rewritten: 0,
    raw: 0,
    oversized: 0,
  };
  readonly #received: Record<Protocol, Received> = {
    http: { lines: 0, bytes: 0, acks: 0 },
    mqtt: { lines: 0, bytes: 0, acks: 0 },
  };
  readonly #rejected: Record<PayloadRejection, number> = {
    bomb: 0,
    damaged: 0,
    'too-large': 0,
    overloaded: 0,
  };

  constructor(options: IngestOptions) {
    const { store, log, retention = () => 30 } = options;
    this.#limits = { ...defaults, ...options.limits };
    this.#log = log;
    this.#coalescers = new Coalescers({ ...this.#limits, store, log, onCommit: options.onCommit });
    this.#held = this.#coalescers.all.map(({ maxWaitingBytes }) => ({ bytes: 0, maxBytes: maxWaitingBytes }));
    this.#overlaps = new OverlapBook({
      ...this.#limits,
      store,
      log,
      retention,
      maxDevices: this.#limits.maxLedgers,
      settled: (device) => this.#coalescers.of(device).settled(),
    });
    this.#ledgers = new LedgerBook({
      ...this.#limits,
      store,
      log,
      claims: options.claims,
      prepare: (device, claim) => this.#overlaps.load(device, claim),
    });
    this.#admission = new Admission({
      coalescers: this.#coalescers,
      ledgers: this.#ledgers,
      overlaps: this.#overlaps,
      log,
      retention,
      quotas: options.quotas,
      ownJournal: newOwnJournal(),
      listeners: this.#listeners,
      counters: this.#counters,
      onBatch: options.onBatch,
    });
    if (options.onAdmitted) this.#listeners.add(options.onAdmitted);
  }

  /**
   * A connection of `device`, whose identity the caller has made sure of. `onAck` is called after a commit, with
   * ever higher seqs per journal.
   *
   * @throws MillraceError `PARAMETER_INVALID` for a device name that cannot be
   */
  openStream(device: string, options: { via: Protocol; onAck?: (ack: Ack) => void }): InboundStream {
    const received = this.#received[options.via];
    const stream: InboundStream = new InboundStream({
      device: checkDeviceName(device),
      onAck: (ack) => {
        received.acks++;
        options.onAck?.(ack);
      },
      received,
      admission: this.#admission,
      coalescer: this.#coalescers.of(device),
      held: this.#heldFor(device),
      log: this.#log.child({ via: options.via }),
      onClose: () => this.#streams.delete(stream),
    });
    this.#streams.add(stream);
    return stream;
  }

  /**
   * One message of `device`: any shape of `admitPayload`. Resolves once its lines are committed, with what can be
   * acknowledged by then, and which seqs around its own are stored. An empty message is nothing.
   *
   * @throws MillraceError `PARAMETER_INVALID`, `BODY_TOO_LARGE`; `OVERLOADED` when too much waits (the sender must
   * send it again); `QUOTA_EXCEEDED`; `BOMB_REFUSED` (what came before the limit is kept and committed); `STORE_FAILED` when closed
   */
  async acceptPayload(
    device: string,
    payload: Buffer,
    options: {
      /** The broker says that it sends this for the second time (the DUP flag). */
      redelivered?: boolean;
    } = {},
  ): Promise<Accepted> {
    checkDeviceName(device);
    if (payload.length === 0) return { acks: [], stored: [] };
    if (payload.length > this.#limits.maxPayloadBytes) {
      this.#rejected['too-large']++;
      throw new MillraceError('BODY_TOO_LARGE', `a message of ${payload.length} bytes`);
    }
    if (this.#payloadBytes > this.#limits.maxWaitingBytes) {
      this.#rejected.overloaded++;
      throw new MillraceError('OVERLOADED', `${this.#payloadBytes} bytes of messages are waiting`);
    }
    this.#payloadBytes += payload.length;
    try {
      return await this.#acceptInOrder(device, payload, options.redelivered ?? false);
    } finally {
      this.#payloadBytes -= payload.length;
    }
  }

  #heldFor(device: string): HeldBytes {
    return this.#held[this.#coalescers.all.indexOf(this.#coalescers.of(device))] as HeldBytes;
  }

  async #acceptInOrder(device: string, payload: Buffer, redelivered: boolean): Promise<Accepted> {
    const collected = new Collected();
    const context = {
      device,
      admission: this.#admission,
      coalescer: this.#coalescers.of(device),
      received: this.#received.mqtt,
      maxInflatedBytes: this.#limits.maxInflatedBytes,
      inflateGate: this.#inflateGate,
      onRejected: (reason: PayloadRejection) => {
        this.#rejected[reason]++;
      },
    };
    const before = this.#lanes.get(device);
    const admitting = (async () => {
      await before;
      await admitPayload(payload, context, collected);
      for (const { ledger, first, last } of spans(collected.handed)) {
        ledger.noteMessage(first, last, redelivered);
      }
    })();
    const lane = admitting.catch(() => undefined);
    this.#lanes.set(device, lane);
    try {
      await admitting;
    } finally {
      if (this.#lanes.get(device) === lane) this.#lanes.delete(device);
      await collected.after?.done;
    }
    // What was admitted under a claim that is lost was dropped: whoever sent it must send it again.
    if (collected.handed.some(({ ledger }) => ledger.claim?.state === 'lost')) throw elsewhere(device);
    const acks: Ack[] = [];
    const stored: StoredSeqs[] = [];
    for (const { ledger, first, last } of spans(collected.handed)) {
      const { journal } = ledger;
      const through = ledger.provenThrough();
      if (through > 0) acks.push({ journal, through });
      stored.push({ journal, ranges: ledger.storedAround(first, last) });
    }
    this.#received.mqtt.acks += stored.length;
    return { acks, stored };
  }

  /** Resolves when everything that was admitted by now is committed. @throws StoreError when it never will be */
  settled(): Promise<void> {
    return this.#coalescers.settled();
  }

  /** Calls `listener` with lines as they are admitted, each line once. Returns how to stop that. */
  subscribe(listener: TailListener): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  /** Writes a warning of the cloud into the log of a device. */
  notify(device: string, message: string): void {
    const source = { type: 'manager', name: 'cloud' } as const;
    this.#admission.admitNotice(
      device,
      encodeLine({ message, timestamp: Date.now(), level: 'warn', source }),
    );
  }

  stats(): IngestStats {
    return {
      ...this.#counters,
      received: { http: { ...this.#received.http }, mqtt: { ...this.#received.mqtt } },
      rejected: { ...this.#rejected },
      streams: this.#streams.size,
      waitingBytes: this.#coalescers.waitingBytes,
      heldBytes: this.#held.reduce((sum, { bytes }) => sum + bytes, 0) + this.#payloadBytes,
      ledgers: this.#ledgers.size,
      commits: this.#coalescers.commits(),
    };
  }

  /** Commits what was admitted, for at most `closeTimeoutMs`. What is not committed by then was not acknowledged. */
  close(): Promise<void> {
    this.#closing ??= this.#coalescers.close(this.#limits.closeTimeoutMs).then(() => {
      this.#overlaps.close();
      this.#ledgers.close();
    });
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** One entry per ledger, from its first line to its last. */
function spans(handed: readonly HandedOver[]): HandedOver[] {
  const out = new Map<HandedOver['ledger'], HandedOver>();
  for (const { ledger, first, last } of handed) {
    const span = out.get(ledger);
    if (!span) out.set(ledger, { ledger, first, last });
    else {
      span.first = Math.min(span.first, first);
      span.last = Math.max(span.last, last);
    }
  }
  return [...out.values()];
}
