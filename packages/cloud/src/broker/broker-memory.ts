import { Readable } from 'node:stream';
import { topicMatches } from './topic-filter.ts';

/** What aedes hands us of a packet, as far as it matters here. */
export interface StoredPacket {
  topic: string;
  payload: Buffer;
  messageId?: number;
  brokerId?: string;
  clientId?: string;
}

interface ClientRef {
  id: string;
}

export interface BrokerMemoryOptions {
  /** Most topics with a retained message. */
  maxRetained: number;
  /** Most bytes of retained topics and payloads together. */
  maxRetainedBytes: number;
  /** Told of a retained message for which there is no room; subscribers of the moment still get it. */
  onRetainedRefused: (topic: string) => void;
}

/**
 * What the embedded broker remembers: retained messages, last wills, and QoS 2 messages between their two
 * halves. In memory and bounded.
 *
 * Sessions are not kept across connections (each one starts clean), since a queue for every subscriber that
 * never comes back has no bound, and lines are safe in the log store before a subscriber sees them. The methods
 * that aedes calls for them are therefore empty.
 */
export class BrokerMemory {
  readonly #options: BrokerMemoryOptions;
  readonly #retained = new Map<string, StoredPacket>();
  #retainedBytes = 0;
  readonly #incoming = new Map<string, Map<number, StoredPacket>>();
  readonly #wills = new Map<string, StoredPacket>();
  #brokerId = '';

  constructor(options: BrokerMemoryOptions) {
    this.#options = options;
  }

  async setup(broker: { id: string }): Promise<void> {
    this.#brokerId = broker.id;
  }

  async storeRetained(packet: StoredPacket): Promise<void> {
    const { topic } = packet;
    const old = this.#retained.get(topic);
    const oldBytes = old ? sizeOf(old) : 0;
    if (packet.payload.length === 0) {
      this.#retained.delete(topic);
      this.#retainedBytes -= oldBytes;
      return;
    }
    // A copy, for a payload is a view into the socket's larger buffer.
    const kept = { ...packet, payload: Buffer.from(packet.payload) };
    const bytes = this.#retainedBytes - oldBytes + sizeOf(kept);
    if (
      (!old && this.#retained.size >= this.#options.maxRetained) ||
      bytes > this.#options.maxRetainedBytes
    ) {
      this.#options.onRetainedRefused(topic);
      return;
    }
    this.#retained.set(topic, kept);
    this.#retainedBytes = bytes;
  }

  createRetainedStreamCombi(filters: string[]): Readable {
    return Readable.from(this.#retainedBy(filters));
  }

  *#retainedBy(filters: string[]): Generator<StoredPacket> {
    for (const [topic, packet] of this.#retained) {
      if (filters.some((filter) => topicMatches(filter, topic))) yield packet;
    }
  }

  async incomingStorePacket(client: ClientRef, packet: StoredPacket): Promise<void> {
    let packets = this.#incoming.get(client.id);
    if (!packets) {
      packets = new Map();
      this.#incoming.set(client.id, packets);
    }
    // Only the id is asked for again; the payload has been delivered by then.
    packets.set(packet.messageId ?? 0, {
      topic: packet.topic,
      payload: Buffer.alloc(0),
      messageId: packet.messageId,
    });
  }

  async incomingGetPacket(client: ClientRef, packet: StoredPacket): Promise<StoredPacket> {
    const found = this.#incoming.get(client.id)?.get(packet.messageId ?? 0);
    // aedes takes a rejection as "not seen before".
    if (!found) throw new Error('no such packet');
    return found;
  }

  async incomingDelPacket(client: ClientRef, packet: StoredPacket): Promise<void> {
    if (!this.#incoming.get(client.id)?.delete(packet.messageId ?? 0)) throw new Error('no such packet');
  }

  async cleanIncoming(client: ClientRef): Promise<void> {
    this.#incoming.delete(client.id);
  }

  async putWill(client: ClientRef, packet: StoredPacket): Promise<void> {
    packet.brokerId = this.#brokerId;
    packet.clientId = client.id;
    this.#wills.set(client.id, packet);
  }

  async getWill(client: ClientRef): Promise<StoredPacket | undefined> {
    return this.#wills.get(client.id);
  }

  async delWill(client: ClientRef): Promise<StoredPacket | undefined> {
    const will = this.#wills.get(client.id);
    this.#wills.delete(client.id);
    return will;
  }

  streamWill(brokers: Record<string, unknown> = {}): Readable {
    return Readable.from([...this.#wills.values()].filter((will) => !brokers[will.brokerId ?? '']));
  }

  async addSubscriptions(): Promise<void> {}
  async removeSubscriptions(): Promise<void> {}
  async cleanSubscriptions(): Promise<void> {}
  async subscriptionsByClient(): Promise<never[]> {
    return [];
  }
  async subscriptionsByTopic(): Promise<never[]> {
    return [];
  }
  async outgoingEnqueue(): Promise<void> {}
  async outgoingEnqueueCombi(): Promise<void> {}
  async outgoingUpdate(): Promise<void> {}
  async outgoingClearMessageId(): Promise<undefined> {
    return undefined;
  }
  outgoingStream(): Readable {
    return Readable.from([]);
  }
  async destroy(): Promise<void> {
    this.#retained.clear();
    this.#incoming.clear();
    this.#wills.clear();
  }
}

function sizeOf(packet: StoredPacket): number {
  return Buffer.byteLength(packet.topic) + packet.payload.length + 64;
}
