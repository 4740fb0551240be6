import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import type { QuotaRefusal } from '../records/refusals.ts';
import type { DayUsage, UsageQuery } from '../store/index.ts';
import { dayMs, dayOf } from './days.ts';

/** Something was refused since its device has sent enough for today. */
export class QuotaExceeded extends MillraceError {
  constructor(device: string, quotaBytes: number, untilMs: number) {
    super(
      'QUOTA_EXCEEDED',
      `device ${device} may send ${quotaBytes} bytes a day, and more is refused until ${new Date(untilMs).toISOString()}`,
    );
    this.name = 'QuotaExceeded';
  }
}

export interface QuotaBookOptions {
  /** The quota of a device, or `undefined` for none. */
  quotaBytes: (device: string) => number | undefined;
  store: { usage(query: UsageQuery): Promise<DayUsage[]> };
  refusals: { note(refusal: QuotaRefusal): Promise<boolean>; forgetBefore(day: string): Promise<void> };
  /** Resolves when all that was admitted by now is committed. */
  settled: () => Promise<void>;
  /** Writes a line into the log of a device. */
  tell: (device: string, message: string) => void;
  log: Logger;
  /** How often the usage is read anew, and refusals are put on record. Default 30 s. */
  refreshMs?: number;
  now?: () => number;
}

/** What is known of a device that has a quota. */
interface Account {
  /** What the store has of it today, in bytes of messages. */
  usedBytes: number;
  /** Bytes of lines admitted here today, and how many of them that figure holds already. */
  admittedBytes: number;
  countedBytes: number;
  checking: Promise<void> | undefined;
}

/** What was refused of a device today and is not on record yet. */
interface Refused {
  sinceMs: number;
  dropped: number;
  droppedBytes: number;
}

export interface QuotaStats {
  /** Times that something was refused since the start, and of them those where it was dropped, with the bytes. */
  refusals: number;
  dropped: number;
  droppedBytes: number;
}

/** Between two looks at the store a device can get past its quota by so much, or a sixteenth of it. */
const maxSlackBytes = 65_536;
/** Refusals are known for as long as usage is. */
const keptDays = 400;

/**
 * Holds devices to what they may send in a day (UTC). What counts is what the store has of them, so it holds over
 * restarts and for all processes together. What this process has admitted since the store was asked is added as it
 * came, which is more than what will count: as long as that is below the quota, nobody is asked. Past it the store is
 * asked once more, after everything has been committed, and only its word refuses a device.
 *
 *   open ── what was admitted would reach the quota, if all of it counted ──► ask the store ──► open, or
 *   refused ── midnight, or a higher quota ──► open
 *
 * That something was refused is on record per device and day, and a line in the device's own log says so once a day.
 */
export class QuotaBook implements AsyncDisposable {
  readonly stats: QuotaStats = { refusals: 0, dropped: 0, droppedBytes: 0 };
  readonly #options: QuotaBookOptions;
  readonly #now: () => number;
  #day = -1;
  #accounts = new Map<string, Account>();
  /** What the store has of all devices today, for those that come later. */
  #opening: Promise<ReadonlyMap<string, number>> | undefined;
  #refused = new Map<string, Refused>();
  /** Devices of which it is on record today. */
  #told = new Set<string>();
  #saving: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: QuotaBookOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#wait();
  }

  /**
   * Counts bytes of lines that are about to be admitted. Returns a promise when the store has to be asked first.
   *
   * @throws QuotaExceeded at once, or by the promise
   */
  admit(device: string, bytes: number): Promise<void> | undefined {
    const quotaBytes = this.#options.quotaBytes(device);
    if (quotaBytes === undefined) return undefined;
    this.#turnDay();
    const account = this.#accounts.get(device);
    if (!account) return this.#open(device).then(() => this.admit(device, bytes));
    const pendingBytes = account.admittedBytes - account.countedBytes;
    if (account.usedBytes >= quotaBytes) throw this.#exceeded(device, quotaBytes);
    const slackBytes = Math.min(maxSlackBytes, quotaBytes / 16);
    if (account.usedBytes + pendingBytes < quotaBytes || pendingBytes < slackBytes) {
      account.admittedBytes += bytes;
      return undefined;
    }
    account.checking ??= this.#check(device, account).finally(() => {
      account.checking = undefined;
    });
    return account.checking.then(() => this.admit(device, bytes));
  }

  /** Why nothing of a device would be admitted now, as far as is known. */
  refusal(device: string): QuotaExceeded | undefined {
    const quotaBytes = this.#options.quotaBytes(device);
    if (quotaBytes === undefined) return undefined;
    this.#turnDay();
    const usedBytes = this.#accounts.get(device)?.usedBytes ?? 0;
    return usedBytes >= quotaBytes ? this.#exceeded(device, quotaBytes) : undefined;
  }

  /**
   * Notes that something was refused.
   *
   * @param droppedBytes what will not come again, since its sender cannot be told to keep it; 0 when it will
   */
  refused(device: string, droppedBytes: number): void {
    this.#turnDay();
    this.stats.refusals++;
    const isDropped = droppedBytes > 0;
    if (isDropped) {
      this.stats.dropped++;
      this.stats.droppedBytes += droppedBytes;
    }
    const known = this.#refused.get(device);
    if (known) {
      known.dropped += isDropped ? 1 : 0;
      known.droppedBytes += droppedBytes;
      return;
    }
    this.#refused.set(device, { sinceMs: this.#now(), dropped: isDropped ? 1 : 0, droppedBytes });
    // The first of the day is told at once; what comes behind is added up and saved now and then.
    if (!this.#told.has(device)) this.#save();
  }

  #exceeded(device: string, quotaBytes: number): QuotaExceeded {
    return new QuotaExceeded(device, quotaBytes, (this.#day + 1) * dayMs);
  }

  #turnDay(): void {
    const day = Math.floor(this.#now() / dayMs);
    if (day === this.#day) return;
    this.#save();
    this.#day = day;
    this.#accounts = new Map();
    this.#opening = undefined;
    this.#told = new Set();
  }

  async #open(device: string): Promise<void> {
    this.#opening ??= this.#readAll();
    const day = this.#day;
    const used = await this.#opening;
    if (day !== this.#day || this.#accounts.has(device)) return;
    this.#accounts.set(device, {
      usedBytes: used.get(device) ?? 0,
      ...{ admittedBytes: 0, countedBytes: 0, checking: undefined },
    });
  }

  /** One look for all devices: after a start they all come at once. */
  async #readAll(): Promise<ReadonlyMap<string, number>> {
    try {
      const day = dayOf(this.#now());
      const usage = await this.#options.store.usage({ from: day, to: day });
      return new Map(usage.map(({ device, bytes }) => [device, bytes]));
    } catch (error) {
      this.#unread(error);
      // Not known is not refused: a store that does not answer takes no lines either.
      return new Map();
    }
  }

  async #check(device: string, account: Account): Promise<void> {
    const { settled, store } = this.#options;
    const admittedBytes = account.admittedBytes;
    try {
      await settled();
      const day = dayOf(this.#now());
      const [usage] = await store.usage({ from: day, to: day, device });
      account.usedBytes = usage?.bytes ?? 0;
    } catch (error) {
      this.#unread(error);
    }
    account.countedBytes = admittedBytes;
  }

  #unread(error: unknown): void {
    this.#options.log.warn(
      { reason: errorText(error) },
      'the usage of devices cannot be read: quotas are late',
    );
  }

  #wait(): void {
    if (this.#closed) return;
    this.#timer = setTimeout(async () => {
      await this.#refresh();
      this.#wait();
    }, this.#options.refreshMs ?? 30_000);
  }

  /** What other processes admitted, and what was refused. */
  async #refresh(): Promise<void> {
    this.#turnDay();
    this.#save();
    if (this.#accounts.size > 0) {
      const accounts = [...this.#accounts].map(([device, account]) => ({
        ...{ device, account, admittedBytes: account.admittedBytes },
      }));
      try {
        await this.#options.settled();
        const day = dayOf(this.#now());
        const usage = await this.#options.store.usage({ from: day, to: day });
        const used = new Map(usage.map(({ device, bytes }) => [device, bytes]));
        for (const { device, account, admittedBytes } of accounts) {
          account.usedBytes = used.get(device) ?? 0;
          account.countedBytes = Math.max(account.countedBytes, admittedBytes);
        }
        this.#opening = Promise.resolve(used);
      } catch (error) {
        this.#unread(error);
      }
    }
    await this.#saving;
  }

  #save(): void {
    if (this.#refused.size === 0) return;
    const refused = this.#refused;
    const day = dayOf(this.#day * dayMs);
    this.#refused = new Map();
    this.#saving = this.#saving.then(async () => {
      for (const [device, what] of refused) await this.#saveOne(device, day, what);
    });
  }

  async #saveOne(device: string, day: string, what: Refused): Promise<void> {
    const { refusals, tell, log } = this.#options;
    try {
      const isFirst = await refusals.note({ device, day, ...what });
      this.#told.add(device);
      if (!isFirst) return;
      await refusals.forgetBefore(dayOf(this.#now() - keptDays * dayMs));
      const quotaBytes = this.#options.quotaBytes(device);
      log.warn({ device, day, quotaBytes }, 'a device is over its quota: its lines are refused');
      tell(
        device,
        `over the quota of ${quotaBytes} bytes for ${day}: lines are refused until midnight UTC. An agent keeps them and sends them then, those of other senders are dropped`,
      );
    } catch (error) {
      log.warn({ device, reason: errorText(error) }, 'a refusal could not be put on record');
      // It is tried again; under the name of another day it would be wrong.
      if (day !== dayOf(this.#day * dayMs)) return;
      const since = this.#refused.get(device);
      this.#refused.set(device, {
        sinceMs: what.sinceMs,
        dropped: what.dropped + (since?.dropped ?? 0),
        droppedBytes: what.droppedBytes + (since?.droppedBytes ?? 0),
      });
    }
  }

  /** Puts on record what was refused. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#save();
    await this.#saving;
  }
}
