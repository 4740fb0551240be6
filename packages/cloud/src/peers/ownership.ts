import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import { Claim, type Claims } from '../ingest/index.ts';
import type { PeerRecord, PeerTable, SlotRecord } from '../records/peer-table.ts';
import { Share, slotOf } from './share.ts';

/** What ownership needs of a lane of the store. */
export interface FencedLane {
  /** When it resolves, nothing admitted under an earlier claim will be stored any more. */
  fence(claims: ReadonlyMap<number, number>): Promise<void>;
}

export interface OwnershipOptions {
  table: Pick<PeerTable, 'beat' | 'peers' | 'slots' | 'claim' | 'release' | 'leave'>;
  /** Where the other processes reach this one. */
  url: string;
  lanes: readonly FencedLane[];
  /** By what devices are divided among the lanes. */
  division: string;
  /** Slots were taken over from a process that divided devices otherwise; nothing it held will be stored any more. */
  divisionChanged: () => Promise<void>;
  laneOf: (device: string) => number;
  /** Resolves when everything that was admitted by now is committed. */
  settled: () => Promise<void>;
  log: Logger;
  timing?: Partial<OwnershipTiming>;
}

export interface OwnershipTiming {
  /** Between two looks at the others. */
  tickMs: number;
  /** So many looks without a sign of life, and a process is taken for dead. */
  deadTicks: number;
  /** How long a device's lines wait for a claim that is on its way. */
  claimWaitMs: number;
  /** How long handing over waits for the store. What is not committed by then, nobody has acknowledged. */
  handoverMs: number;
}

const defaults: OwnershipTiming = { tickMs: 1000, deadTicks: 5, claimWaitMs: 5000, handoverMs: 5000 };

/** A peer that has been dead for so many looks is forgotten. */
const forgottenTicks = 3600;

/** Where the lines of a device go. */
export type Route =
  | { to: 'here' }
  | { to: 'peer'; peer: PeerRecord /** Aborted when it is taken for dead. */; gone: AbortSignal }
  /** Its process is gone, and no other has taken over yet. */
  | { to: 'nobody' };

/** A slot of this process. */
interface OwnSlot {
  claim: Claim;
  /** By lane: resolves when the claim is known there. */
  ready: readonly Promise<void>[];
}

/**
 * Shares the devices out among the processes of a cloud. Each device belongs to a slot, each slot to one process:
 *
 *   free ── claim in the records, epoch + 1 ──► claimed ── known to the store (fences.ts) ──► held
 *     ▲                                                                                        │ another
 *     └────────────── given up ◄── all committed ── ending ◄── the share says: another's ──────┤ claims it
 *                                                                                     lost ◄───┘
 *
 * A slot is taken over when its process has shown no sign of life for some looks, each after a pause of our own:
 * no clocks are compared, and a process that slept itself looks anew before it judges others. Being wrong about a
 * process costs time, never lines: what it still stores, the fence refuses; what it stored before, the new owner
 * reads before it admits anything.
 *
 * Processes that divide devices among shards differently never have slots at the same time: those that come with
 * another division hand on what they receive until the last of the others has ended. What the others stored may then
 * be on any shard, so all of them are fenced before the first line is admitted.
 */
export class Ownership implements Claims, AsyncDisposable {
  readonly #options: OwnershipOptions;
  readonly #timing: OwnershipTiming;
  readonly #self: Omit<PeerRecord, 'beat'>;
  readonly #share = new Share();
  readonly #own = new Map<number, OwnSlot>();
  readonly #seen = new Map<string, { id: string; beat: number; misses: number }>();
  readonly #closing = new AbortController();
  readonly #firstLook = Promise.withResolvers<void>();
  #slots: readonly SlotRecord[] = [];
  #live = new Map<string, PeerRecord>();
  /** By id of a peer that lives. */
  readonly #gone = new Map<string, AbortController>();
  readonly #listeners = new Set<() => void>();
  /** Rivals that were complained about. */
  #told = '';
  #ticking: Promise<void> = Promise.resolve();

  constructor(options: OwnershipOptions) {
    this.#options = options;
    this.#timing = { ...defaults, ...options.timing };
    const { url, division } = options;
    this.#self = { url, id: randomUUID(), secret: randomUUID(), division };
  }

  /** What the others must show to this process. */
  get secret(): string {
    return this.#self.secret;
  }

  /** Begins to take part. Resolves after the first look at the others. */
  start(): Promise<void> {
    this.#ticking = this.#tickOn();
    return this.#firstLook.promise;
  }

  /** The other processes that live. */
  peers(): PeerRecord[] {
    return [...this.#live.values()].filter(({ id }) => id !== this.#self.id);
  }

  /** Calls `listener` when others have come or gone, until the handle is disposed of. */
  onPeers(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  route(device: string): Route {
    const slot = slotOf(device);
    if (this.#own.has(slot)) return { to: 'here' };
    const owner = this.#slots[slot]?.owner;
    const peer = owner ? this.#live.get(owner) : undefined;
    if (!peer || peer.id === this.#self.id) return { to: 'nobody' };
    const gone = this.#gone.get(peer.id) ?? new AbortController();
    this.#gone.set(peer.id, gone);
    return { to: 'peer', peer, gone: gone.signal };
  }

  async of(device: string): Promise<Claim> {
    const own = this.#own.get(slotOf(device));
    if (!own) throw elsewhere(device);
    const waited = new AbortController();
    const late = pause(this.#timing.claimWaitMs, undefined, { signal: waited.signal }).then(() => {
      throw elsewhere(device);
    });
    late.catch(() => undefined);
    try {
      await Promise.race([own.ready[this.#options.laneOf(device)], late]);
    } finally {
      waited.abort();
    }
    if (own.claim.state !== 'held') throw elsewhere(device);
    return own.claim;
  }

  async #tickOn(): Promise<void> {
    const { tickMs } = this.#timing;
    const { signal } = this.#closing;
    let told = false;
    while (!signal.aborted) {
      try {
        await this.#tick();
        this.#firstLook.resolve();
        told = false;
      } catch (error) {
        // Whoever holds a slot goes on: without the records nobody can take it.
        if (!told) this.#options.log.warn({ reason: errorText(error) }, 'peers: the records do not answer');
        told = true;
      }
      await pause(tickMs, undefined, { signal }).catch(() => undefined);
    }
  }

  async #tick(): Promise<void> {
    const { table, log } = this.#options;
    await table.beat(this.#self);
    this.#judge(await table.peers());
    const slots = await table.slots();
    this.#slots = slots;
    const { mates, rivals } = this.#sides();
    const urls = mates.map(({ url }) => url);
    const wanted: SlotRecord[] = [];
    for (const record of slots) {
      const { slot, owner, epoch } = record;
      const own = this.#own.get(slot);
      const isForUs = this.#share.of(slot, urls) === this.#self.url;
      const isRecorded = owner === this.#self.id;
      if (own && (!isRecorded || epoch !== own.claim.epoch || own.claim.state === 'lost')) {
        own.claim.lose();
        this.#own.delete(slot);
      } else if (own && !isForUs && own.claim.state === 'held') void this.#handOver(slot, own);
      // Recorded as ours and not at hand: giving it up failed, or the store knows a later claim than the records.
      const isLeftOver = isRecorded && !this.#own.has(slot);
      if (isForUs && (isLeftOver || owner === null || !this.#live.has(owner))) wanted.push(record);
      else if (isLeftOver) await table.release(this.#self.id, slot);
    }
    const { division } = this.#options;
    const claimed = await table.claim(
      { id: this.#self.id, division, rivals: rivals.map(({ id }) => id) },
      wanted,
    );
    this.#tellRivals(wanted.length > claimed.length ? rivals : []);
    if (claimed.length === 0) return;
    log.info({ slots: claimed.length, of: slots.length }, 'peers: answering for more devices');
    this.#take(claimed, slots);
    const byNumber = new Map(claimed.map((record) => [record.slot, record]));
    this.#slots = slots.map((record) => byNumber.get(record.slot) ?? record);
  }

  /** Those that live, by whether they divide devices as this one does. */
  #sides(): { mates: PeerRecord[]; rivals: PeerRecord[] } {
    const { division } = this.#options;
    const { mates = [], rivals = [] } = Object.groupBy(this.#live.values(), (peer) =>
      peer.division === division ? 'mates' : 'rivals',
    );
    return { mates, rivals };
  }

  #tellRivals(rivals: readonly PeerRecord[]): void {
    const urls = rivals.map(({ url }) => url).join(', ');
    if (urls !== '' && urls !== this.#told) {
      this.#options.log.warn(
        { peers: urls },
        'peers: these processes know the cluster by other shards: stop or restart them; until then they answer for the devices',
      );
    }
    this.#told = urls;
  }

  /** Who lives: whoever has moved since one of the last looks. */
  #judge(peers: readonly PeerRecord[]): void {
    const { deadTicks } = this.#timing;
    const live = new Map<string, PeerRecord>();
    for (const peer of peers) {
      const { url, id, beat } = peer;
      const seen = this.#seen.get(url);
      const misses = seen && seen.id === id && seen.beat === beat ? seen.misses + 1 : 0;
      this.#seen.set(url, { id, beat, misses });
      if (id === this.#self.id || misses < deadTicks) live.set(id, peer);
      else if (misses > forgottenTicks) void this.#forget(peer);
    }
    if (!live.has(this.#self.id)) {
      this.#options.log.warn({ url: this.#self.url }, 'peers: another process has the same CLOUD_PEER_URL');
    }
    for (const { url, id } of this.#live.values()) {
      if (live.has(id)) continue;
      this.#options.log.warn({ peer: url }, 'peers: a process is gone');
      this.#gone.get(id)?.abort();
      this.#gone.delete(id);
    }
    for (const { url, id } of live.values()) {
      if (!this.#live.has(id) && id !== this.#self.id)
        this.#options.log.info({ peer: url }, 'peers: a process is there');
    }
    const before = this.#live;
    this.#live = live;
    const isSame = before.size === live.size && [...live.keys()].every((id) => before.has(id));
    if (!isSame) for (const listener of this.#listeners) listener();
  }

  async #forget({ url, id }: PeerRecord): Promise<void> {
    this.#seen.delete(url);
    await this.#options.table.leave(id).catch(() => undefined);
  }

  #take(claimed: readonly SlotRecord[], before: readonly SlotRecord[]): void {
    const { lanes, division, divisionChanged } = this.#options;
    const epochs = new Map(claimed.map(({ slot, epoch }) => [slot, epoch]));
    // A shard that is down holds up its own devices alone.
    const ready = lanes.map((lane) => this.#persist(() => lane.fence(epochs)));
    for (const fenced of ready) fenced.catch(() => undefined);
    const isMoved = ({ slot }: SlotRecord) => {
      const { epoch, division: last } = before[slot] as SlotRecord;
      return epoch > 0 && last !== division;
    };
    let moved = ready;
    if (claimed.some(isMoved)) {
      const known = Promise.all(ready).then(() => this.#persist(divisionChanged));
      known.catch(() => undefined);
      moved = lanes.map(() => known);
    }
    for (const record of claimed) {
      const { slot, epoch } = record;
      this.#own.get(slot)?.claim.lose();
      this.#own.set(slot, { claim: new Claim(slot, epoch), ready: isMoved(record) ? moved : ready });
    }
  }

  async #persist(tell: () => Promise<void>): Promise<void> {
    const { log } = this.#options;
    const { signal } = this.#closing;
    for (let attempt = 0; ; attempt++) {
      if (signal.aborted) throw new MillraceError('DEVICE_ELSEWHERE', 'this process is stopping');
      try {
        await tell();
        return;
      } catch (error) {
        log.warn({ attempt, reason: errorText(error) }, 'peers: a claim cannot be made known to the store');
        await pause(Math.min(100 * 2 ** attempt, 5000), undefined, { signal }).catch(() => undefined);
      }
    }
  }

  async #handOver(slot: number, own: OwnSlot): Promise<void> {
    own.claim.end();
    await this.#settledOrLate();
    // Gone before it is given up: no claim of this process may outlive its record.
    if (this.#own.get(slot) === own) this.#own.delete(slot);
    const { table, log } = this.#options;
    await table
      .release(this.#self.id, slot)
      .catch((error) => log.warn({ reason: errorText(error) }, 'peers: a slot could not be given up'));
  }

  async #settledOrLate(): Promise<void> {
    const late = new AbortController();
    const timeout = pause(this.#timing.handoverMs, undefined, { signal: late.signal }).catch(() => undefined);
    await Promise.race([this.#options.settled().catch(() => undefined), timeout]);
    late.abort();
  }

  /** Gives everything up. Call it when what was admitted is committed. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    await this.#ticking;
    for (const { claim } of this.#own.values()) claim.end();
    this.#own.clear();
    await this.#options.table
      .leave(this.#self.id)
      .catch((error) => this.#options.log.warn({ reason: errorText(error) }, 'peers: could not say goodbye'));
  }
}

function elsewhere(device: string): MillraceError {
  return new MillraceError('DEVICE_ELSEWHERE', `this process does not answer for ${device}`);
}
