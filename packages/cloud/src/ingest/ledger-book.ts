import { MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import type { Watermark } from '../store/marks.ts';
import type { Claim, Claims } from './claims.ts';
import { Ledger } from './ledger.ts';
import { persistently } from './persistently.ts';

export interface LedgerBookOptions {
  store: { watermark(device: string, journal: string): Promise<Watermark> };
  /** Reads what else must be known of a device before its lines are admitted. */
  prepare: (device: string, claim: Claim | undefined) => Promise<void>;
  /** Where several processes share the store: which devices are this one's. */
  claims?: Claims;
  log: Logger;
  /** Ledgers kept; those used longest ago are forgotten first, and read from the store again when needed. */
  maxLedgers: number;
  retryMinMs: number;
  retryMaxMs: number;
}

/** The ledgers in use, by device and journal. */
export class LedgerBook {
  readonly #options: LedgerBookOptions;
  /** In the order of use. */
  readonly #ledgers = new Map<string, Ledger>();
  readonly #loading = new Map<string, Promise<Ledger>>();
  readonly #closing = new AbortController();

  constructor(options: LedgerBookOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#ledgers.size;
  }

  /**
   * Calls `use` with the ledger: at once when it is at hand, else as soon as the store answered, however long that
   * takes. `use` must not keep it for later decisions, since another may be read from the store by then.
   *
   * @throws MillraceError `DEVICE_ELSEWHERE` when another process answers for the device
   */
  with<T>(device: string, journal: string, use: (ledger: Ledger) => T | Promise<T>): T | Promise<T> {
    // A journal's id holds no space.
    const key = `${journal} ${device}`;
    const known = this.#ledgers.get(key);
    if (known && isHeld(known)) {
      this.#ledgers.delete(key);
      this.#ledgers.set(key, known);
      return use(known);
    }
    const loading = this.#loading.get(key) ?? this.#load(key, device, journal);
    return loading.then((loaded) => {
      const ledger = this.#ledgers.get(key) ?? this.#keep(key, loaded);
      if (!isHeld(ledger)) throw elsewhere(device);
      return use(ledger);
    });
  }

  #load(key: string, device: string, journal: string): Promise<Ledger> {
    this.#ledgers.delete(key);
    const loading = this.#read(device, journal)
      .then((ledger) => this.#keep(key, ledger))
      .finally(() => this.#loading.delete(key));
    this.#loading.set(key, loading);
    return loading;
  }

  #keep(key: string, ledger: Ledger): Ledger {
    this.#ledgers.set(key, ledger);
    if (this.#ledgers.size > this.#options.maxLedgers) this.#forgetOldest(key);
    return ledger;
  }

  #forgetOldest(except: string): void {
    // A busy ledger stays: what is pending is in no store yet. The waiting bytes bound how many are busy.
    let looked = 0;
    for (const [key, ledger] of this.#ledgers) {
      if (key === except || ++looked > 64) return;
      if (ledger.busy) continue;
      this.#ledgers.delete(key);
      return;
    }
  }

  async #read(device: string, journal: string): Promise<Ledger> {
    const { store, prepare, claims } = this.#options;
    // First the claim, then what is stored: nobody else stores anything in between.
    const claim = await claims?.of(device);
    const persistence = { ...this.#options, closing: this.#closing.signal };
    const read = async () => {
      const [watermark] = await Promise.all([store.watermark(device, journal), prepare(device, claim)]);
      return watermark;
    };
    const watermark = await persistently(read, persistence, { device, journal });
    return new Ledger(device, journal, watermark, claim);
  }

  close(): void {
    this.#closing.abort();
  }
}

/** What was known under a claim that is over may be out of date. */
function isHeld({ claim }: Ledger): boolean {
  return claim === undefined || claim.state === 'held';
}

export function elsewhere(device: string): MillraceError {
  return new MillraceError('DEVICE_ELSEWHERE', `another process takes over the lines of ${device}`);
}
