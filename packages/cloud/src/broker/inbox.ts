import { setTimeout as pause } from 'node:timers/promises';
import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import type { Accepted, Ingest } from '../ingest/index.ts';
import { forwardPayload } from '../peers/forward-payload.ts';
import type { Route } from '../peers/ownership.ts';

export interface InboxOptions {
  ingest: Ingest;
  log: Logger;
  /** Largest payload taken, in bytes; a larger one is set aside. */
  maxPayloadBytes: number;
  /** Payload bytes handed to ingest at a time; more wait their turn here. Default 32 MiB, half of what ingest bears. */
  maxInFlightBytes?: number;
  /** Where several processes share the store: which of them a device's lines go to. */
  peers?: InboxPeers;
}

export interface InboxPeers {
  route(device: string): Route;
  /** Ends what waits for another process. */
  signal: AbortSignal;
}

/** Before a payload is offered anew to the processes that may have come to answer for its device. */
const offerAgainMs = 250;

const complaintIntervalMs = 10_000;

/** Takes the payloads of `device/{uuid}/logs`, from whichever broker. */
export class DeviceInbox {
  readonly #ingest: Ingest;
  readonly #log: Logger;
  readonly #maxPayloadBytes: number;
  readonly #maxInFlightBytes: number;
  readonly #peers: InboxPeers | undefined;
  #inFlightBytes = 0;
  /** Those who wait for room, first come first served. Each is a connection that is not read from meanwhile. */
  readonly #queue: (() => void)[] = [];
  #setAside = 0;
  #complainedAtMs = Number.NEGATIVE_INFINITY;

  constructor({ ingest, log, maxPayloadBytes, maxInFlightBytes = 32 * 1024 * 1024, peers }: InboxOptions) {
    this.#peers = peers;
    this.#ingest = ingest;
    this.#log = log;
    this.#maxPayloadBytes = maxPayloadBytes;
    this.#maxInFlightBytes = maxInFlightBytes;
  }

  /** Payloads that could not be read and were confirmed all the same. */
  get setAside(): number {
    return this.#setAside;
  }

  /**
   * Stores one payload. Returns, once it is committed, the messages for the device's ack topic. A payload that
   * cannot be read is counted and set aside: refused, it would come again for ever and block what follows. So would one
   * that is over the quota of its device; the message is then the problem document.
   *
   * @param redelivered the broker says that it sends this for the second time
   * @throws when it is not stored and should come again: the store is closing
   */
  async logs(uuid: string, payload: Buffer, redelivered: boolean): Promise<string[]> {
    try {
      if (payload.length > this.#maxPayloadBytes) {
        throw new MillraceError(
          'BODY_TOO_LARGE',
          `a payload of ${payload.length} bytes is over the limit of ${this.#maxPayloadBytes}`,
        );
      }
      if (this.#peers) return await this.#offer(this.#peers, uuid, payload);
      return ackMessages(await this.#accept(uuid, payload, redelivered));
    } catch (error) {
      const isPoison = error instanceof MillraceError && error.status < 500;
      if (!isPoison) throw error;
      // On record elsewhere. An agent goes by the acknowledgements, and this is none; who reads along learns why.
      if (error.code === 'QUOTA_EXCEEDED') return [JSON.stringify({ error: error.toProblem() })];
      this.#setAside++;
      const now = Date.now();
      if (now - this.#complainedAtMs >= complaintIntervalMs) {
        this.#complainedAtMs = now;
        this.#log.warn(
          { device: uuid, bytes: payload.length, error: errorText(error), setAside: this.#setAside },
          'a payload could not be read and was set aside',
        );
      }
      return [];
    }
  }

  /**
   * Stores a payload that another process handed on, since this one answers for the device.
   *
   * @throws MillraceError `DEVICE_ELSEWHERE` when it does not, and as `acceptPayload`
   */
  async own(uuid: string, payload: Buffer): Promise<string[]> {
    // What comes through several processes does not come in order, so nothing follows from the order.
    return ackMessages(await this.#accept(uuid, payload, true));
  }

  /** Offers a payload to whoever answers for the device, until it is stored. */
  async #offer({ route, signal }: InboxPeers, uuid: string, payload: Buffer): Promise<string[]> {
    for (;;) {
      const to = route(uuid);
      try {
        if (to.to === 'here') return await this.own(uuid, payload);
        if (to.to === 'peer') return await forwardPayload(to.peer, { uuid, payload, signal: to.gone });
      } catch (error) {
        if (!(error instanceof MillraceError && error.code === 'DEVICE_ELSEWHERE')) throw error;
      }
      if (signal.aborted) throw new MillraceError('OVERLOADED', 'this process is stopping');
      await pause(offerAgainMs, undefined, { signal }).catch(() => undefined);
    }
  }

  async #accept(uuid: string, payload: Buffer, redelivered: boolean): Promise<Accepted> {
    while (this.#inFlightBytes > 0 && this.#inFlightBytes + payload.length > this.#maxInFlightBytes) {
      await new Promise<void>((resolve) => this.#queue.push(resolve));
    }
    this.#inFlightBytes += payload.length;
    try {
      return await this.#ingest.acceptPayload(uuid, payload, { redelivered });
    } finally {
      this.#inFlightBytes -= payload.length;
      // All of them look again: how many fit depends on their sizes.
      for (const resolve of this.#queue.splice(0)) resolve();
    }
  }
}

/** `{"ack":{"journal":"…","through":123,"stored":[[1,123],[200,230]]}}`, `through` 0 where nothing is proven. */
function ackMessages({ acks, stored }: Accepted): string[] {
  const through = new Map(acks.map((ack) => [ack.journal, ack.through]));
  return stored.map(({ journal, ranges }) => {
    const named = ranges.map(({ from, to }) => [from, to]);
    return JSON.stringify({ ack: { journal, through: through.get(journal) ?? 0, stored: named } });
  });
}
